"""Cells that stay after a call, for the next one in the same directory under the same conditions.

Sessions inherit much from the process that made their cell: environment, limits, processors. A
kept cell serves only calls that would have made the same one, one call at a time.
"""

import asyncio
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dtest
from dtest.caller.local_stack import LocalStack, OwnStack, stop_stack
from dtest.caller.warm_stack import end_untaken
from dtest.errors import Unavailable
from dtest.runtime.first_suite import FirstSuite
from dtest.runtime.kept import PLACE, CallerLock, Will, identities, remove_at_once
from dtest.runtime.machine import conditions, namespace, process_started_at
from dtest.runtime.remains import end_remains
from dtest.runtime.stack_file import read_stack_file
from dtest.settings import Settings, environment_of_roles, settings_files, settings_of

TAKE_TRIES, TAKE_AGAIN_S = 10, 0.01
"""The supervisor has the lock for moments, too."""
CELL = "main"
END_S_MAX = 60.0
LOOK_EVERY_S = 0.05
"""The end of another's child is told to nobody here."""
_REMAINS_S_MAX = 10.0
_SHELL_WORDS = frozenset({"_", "SHLVL", "OLDPWD", "PWD", "COLUMNS", "LINES", "PYTEST_VERSION"})
"""What a shell changes from call to call, or each pytest sets for itself."""
_DIGITS = 12


@dataclass(slots=True)
class KeptStack:
    """A kept cell that is this call's to use."""

    wanted: LocalStack
    place: Path
    """The directory of the call."""
    keep_s: float
    lock: CallerLock

    @contextmanager
    def used(
        self, *, first: Callable[[], FirstSuite] | None, tell: Callable[[str], None]
    ) -> Iterator[OwnStack]:
        """Use it for a block; it stays if that ends well. Raises Unavailable if it does not start.

        ``first`` makes what is handed in first, if it has to start.
        """
        will = Will(str(self.place))
        try:
            self.lock.leave(will)
            stack, first_seq = read_stack_file(self.wanted.path), None
            if stack is None:
                stack = replace(self.wanted, first=first is not None).start(first=first)
                first_seq = stack.first_seq
            else:
                end_untaken()
            yield OwnStack(settings_of(stack, self.wanted.state_dir), first_seq)
            will = Will(str(self.place), self.keep_s)
            told = f"the cell stays for {self.keep_s:g} s for the next call here"
            tell(f"{told}; `dtest down` ends it")
        finally:
            self.lock.leave(will)
            self.lock.give_back()
            if will.keep_s is None:
                stop_stack(self.wanted.path)


def kept_stack(settings: Settings, *, slots: int, keep_s: float | None) -> KeptStack | None:
    """Return the cell that was kept for this call, or one to be made that will be.

    None if nothing was kept and nothing is to be, or another call uses it now.
    """
    place = Path.cwd()
    kept = settings.state_dir / PLACE
    here = f"{_machine()}-{_digest(str(place))}"
    if keep_s == 0 or (keep_s is None and not any(kept.glob(f"{here}-*"))):
        return None
    wanted = LocalStack(
        CELL,
        kept / f"{here}-{_digest(repr(_conditions(settings, slots)))}",
        workers=1,
        slots=slots,
        throw_away=True,
        kept=identities([place, *settings_files(place), Path(sys.executable), _OWN_CODE]),
    )
    _sweep(kept, besides=wanted.state_dir, here=here)
    if keep_s is None and not wanted.path.exists():
        return None
    lock = CallerLock(wanted.state_dir)
    if not _taken(lock):
        return None
    will = lock.will()
    left_s = will.keep_s if will is not None else None
    is_ending = left_s is None and read_stack_file(wanted.path) is not None
    keep_s = left_s if keep_s is None else keep_s
    if is_ending or keep_s is None:
        lock.give_back()
        return None
    return KeptStack(wanted, place, keep_s, lock)


def _taken(lock: CallerLock) -> bool:
    for _ in range(TAKE_TRIES):
        if lock.take():
            return True
        time.sleep(TAKE_AGAIN_S)
    return False


_OWN_CODE = Path(dtest.__file__)


def _machine() -> str:
    """Name what processes are numbered in: others may share the state directory."""
    return _digest(repr(namespace()))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _conditions(settings: Settings, slots: int) -> list[object]:
    """Return all that makes one cell differ from another, and its sessions from others."""
    inherited = {
        word: value for word, value in environment_of_roles().items() if word not in _SHELL_WORDS
    }
    own_code = sorted(identities(_OWN_CODE.parent.rglob("*.py")).items())
    return [
        sorted((key, setting.value) for key, setting in settings.values.items()),
        sorted((name, repr(table)) for name, table in settings.tables.items()),
        sorted(inherited.items()),
        conditions(),
        sys.executable,
        own_code,
        slots,
    ]


def _sweep(kept: Path, *, besides: Path, here: str) -> None:
    """Remove what dead supervisors left, and have other cells of this directory end."""
    for going in kept.glob(".*"):
        pid = going.name.rpartition("-")[2]
        if pid.isdigit() and process_started_at(int(pid)) is None:
            shutil.rmtree(going, ignore_errors=True)
    for directory in kept.glob(f"{_machine()}-*"):
        is_alive = read_stack_file(directory / CELL / "stack.json") is not None
        if is_alive and (directory == besides or not directory.name.startswith(here)):
            continue
        lock = CallerLock(directory)
        if not lock.take():
            continue
        if is_alive:
            lock.leave(Will(""))  # its supervisor takes that for a caller's death
        else:
            _remove_dead(directory)
        lock.give_back()


def _remove_dead(directory: Path) -> None:
    asyncio.run(end_remains(directory / CELL / "children.json", wait_s=_REMAINS_S_MAX))
    remove_at_once(directory)


def end_kept(state_dir: Path) -> tuple[list[str], list[str]]:
    """End all cells that wait for a call; return the directories of these, and of those in use.

    Raises Unavailable.
    """
    ended: list[Path] = []
    told: tuple[list[str], list[str]] = [], []
    for directory in sorted((state_dir / PLACE).glob(f"{_machine()}-*")):
        lock = CallerLock(directory)
        will = lock.will()
        place = will.place if will is not None else str(directory)
        if not _taken(lock):
            told[1].append(place)
            continue
        if read_stack_file(directory / CELL / "stack.json") is None:
            _remove_dead(directory)
        else:
            lock.leave(Will(place))  # its supervisor takes that for a caller's death
            ended.append(directory)
            told[0].append(place)
        lock.give_back()
    deadline = time.monotonic() + END_S_MAX
    while any(map(Path.exists, ended)):
        if time.monotonic() > deadline:
            message = f"a kept cell did not end in {END_S_MAX:g} s"
            raise Unavailable(message, hint=f"see the logs in {state_dir / PLACE}")
        time.sleep(LOOK_EVERY_S)
    return told
