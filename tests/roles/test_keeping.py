"""When a kept cell ends by itself."""

import asyncio
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from dtest.roles import keeping
from dtest.roles.keeping import Keeping
from dtest.runtime.kept import CallerLock, Will, identities

pytestmark = pytest.mark.anyio
NEVER_S = 3600.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often."""
    monkeypatch.setattr(keeping, "LOOK_EVERY_S", 0.001)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[CallerLock]:
    """The supervisor's, given back at the end."""
    made = CallerLock(tmp_path)
    yield made
    made.give_back()


async def ends(waiting: Awaitable[None]) -> None:
    async with asyncio.timeout(10):
        await waiting


def left(directory: Path, keep_s: float | None) -> None:
    """A caller goes and leaves this will."""
    caller = CallerLock(directory)
    assert caller.take()
    caller.leave(Will("/here", keep_s))
    caller.give_back()


@pytest.mark.parametrize("keep_s", [0.0, 0.01])
async def test_it_ends_when_nobody_comes(tmp_path: Path, lock: CallerLock, keep_s: float) -> None:
    left(tmp_path, keep_s)

    await ends(Keeping(lock, {}).until_unwanted())

    assert not CallerLock(tmp_path).take(), "nobody can use it any more"


async def test_it_ends_when_its_caller_died(tmp_path: Path, lock: CallerLock) -> None:
    left(tmp_path, None)

    await ends(Keeping(lock, {}).until_unwanted())


async def test_it_ends_when_what_it_must_not_outlive_changed(
    tmp_path: Path, lock: CallerLock
) -> None:
    left(tmp_path, NEVER_S)
    settings = tmp_path / "pyproject.toml"
    waiting = asyncio.create_task(Keeping(lock, identities([settings])).until_unwanted())
    await asyncio.sleep(0)
    assert not waiting.done()

    settings.touch()

    await ends(waiting)


async def test_a_call_between_two_looks_begins_the_time_anew(tmp_path: Path) -> None:
    left(tmp_path, 0.001)
    looks = 0

    class Visited(CallerLock):
        def take(self) -> bool:
            nonlocal looks
            looks += 1
            return super().take()

        def stamp(self) -> int:
            return min(looks, 50)

    supervisor = Visited(tmp_path)
    await ends(Keeping(supervisor, {}).until_unwanted())

    assert looks > 50
    supervisor.give_back()


async def test_it_stays_while_somebody_uses_it(tmp_path: Path) -> None:
    caller = CallerLock(tmp_path)
    assert caller.take()
    caller.leave(Will("/here"))
    tries = 0

    class Counted(CallerLock):
        def take(self) -> bool:
            nonlocal tries
            tries += 1
            if tries == 20:
                caller.leave(Will("/here", 0.0))
                caller.give_back()
            return super().take()

    supervisor = Counted(tmp_path)
    await ends(Keeping(supervisor, {}).until_unwanted())

    assert tries >= 20
    assert not caller.take()
    supervisor.give_back()
