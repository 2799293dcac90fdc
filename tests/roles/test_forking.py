"""Processes of roles are forked from one that has loaded their code, and followed as any other."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from dtest.roles.fork_server import FOR_ALL, Request
from dtest.roles.forking import CAN_FORK, Forked, ForkServer
from tests.kit.agent import is_alive

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not CAN_FORK, reason="roles are forked on Linux only"),
]

ROLE = """
import os, sys, time
print("loaded", flush=True)
def main():
    told = os.environ.get("WORD"), os.environ.get("SPT_NOENV"), sys.stdin.read()
    print("begun", sys.argv, told, flush=True)
    if sys.argv[1:] == ["stay"]:
        time.sleep(1000)
    sys.exit(5)
"""


@pytest.fixture
async def forks(tmp_path: Path) -> AsyncIterator[ForkServer]:
    (tmp_path / "role.py").write_text(ROLE)
    server = ForkServer({**os.environ, "PYTHONPATH": str(tmp_path), "WORD": "of all"})
    try:
        yield server
    finally:
        server.close()


async def said(log: Path, word: str) -> str:
    async with asyncio.timeout(20):
        while word not in (text := await asyncio.to_thread(log.read_text)):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
    return text


async def begun(forks: ForkServer, log: Path, *arguments: str, **environment: str) -> Forked:
    child = await forks.fork(Request("role", list(arguments), environment), log)
    child.let_go()
    return child


@pytest.mark.parametrize(("own", "seen"), [({}, "of all"), ({"WORD": "its own"}, "its own")])
async def test_a_role_begins_at_a_word_and_tells_how_it_ended(
    forks: ForkServer, tmp_path: Path, own: dict[str, str], seen: str
) -> None:
    log = tmp_path / "log"
    child = await forks.fork(Request("role", ["a", "--b"], own), log)
    before = log.read_text()

    child.let_go()

    assert await child.wait() == child.returncode == 5
    assert "begun" not in before
    assert log.read_text() == f"begun ['role', 'a', '--b'] {(seen, None, '')}\n"


async def test_the_code_is_loaded_once_for_all(forks: ForkServer, tmp_path: Path) -> None:
    logs = [tmp_path / str(number) for number in range(3)]
    children = await asyncio.gather(*(begun(forks, log) for log in logs))

    await asyncio.gather(*(child.wait() for child in children))

    assert [log.read_text().count("begun") for log in logs] == [1, 1, 1]
    assert sum(log.read_text().count("loaded") for log in logs) == 0, "the server has loaded it"


async def test_processes_are_shown_by_their_roles(forks: ForkServer, tmp_path: Path) -> None:
    child = await begun(forks, tmp_path / "log", "stay")
    await said(tmp_path / "log", "begun")

    words = " ".join(psutil.Process(child.pid).cmdline()).strip()
    assert words == "dtest.roles.held role stay"
    assert os.getsid(child.pid) == child.pid
    assert psutil.Process(child.pid).environ()["WORD"] == "of all"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_signal_ends_it_and_no_other(
    forks: ForkServer, tmp_path: Path, number: signal.Signals
) -> None:
    child, other = [await begun(forks, tmp_path / name, "stay") for name in "ab"]
    for name in "ab":
        await said(tmp_path / name, "begun")

    child.send_signal(number)

    assert await child.wait() == -number
    assert other.returncode is None
    with pytest.raises(ProcessLookupError):
        child.kill()


async def test_a_role_that_cannot_be_loaded_says_so_and_harms_no_other(
    forks: ForkServer, tmp_path: Path
) -> None:
    was = forks.pid
    child = await forks.fork(Request("no_such_role", [], {}), tmp_path / "log")

    assert await child.wait() == 1
    assert "No module named 'no_such_role'" in await said(tmp_path / "log", "no_such_role")
    assert await (await begun(forks, tmp_path / "other")).wait() == 5
    assert forks.pid == was


async def test_all_end_with_their_server_and_another_takes_its_place(
    forks: ForkServer, tmp_path: Path
) -> None:
    child = await begun(forks, tmp_path / "a", "stay")
    held = await forks.fork(Request("role", [], {}), tmp_path / "b")
    await said(tmp_path / "a", "begun")
    was = forks.pid

    os.kill(was, signal.SIGKILL)

    async with asyncio.timeout(20):
        assert await child.wait() == -signal.SIGTERM
        await held.wait()
    assert not is_alive(child.pid)
    assert await (await begun(forks, tmp_path / "c")).wait() == 5
    assert forks.pid != was


async def test_nothing_is_left_when_it_is_closed(forks: ForkServer, tmp_path: Path) -> None:
    child = await begun(forks, tmp_path / "a", "stay")
    held = await forks.fork(Request("role", [], {}), tmp_path / "b")
    await said(tmp_path / "a", "begun")

    forks.close()

    async with asyncio.timeout(20):
        await child.wait()
        await held.wait()
    assert not is_alive(child.pid)
    assert not is_alive(forks.pid)


async def test_what_is_loaded_before_a_fork_runs_no_threads() -> None:
    shared = [*FOR_ALL, *(f"dtest.roles.{name}" for name in ("scheduler", "conductor"))]
    names = ", ".join([*shared, "dtest.roles.agent_main"])
    code = f"import os, sys, {names}; print(len(os.listdir('/proc/self/task')), *sys.modules)"

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    threads, *modules = (await process.communicate())[0].decode().split()

    assert threads == "1"
    assert not {"duckdb", "fastapi", "pyarrow", "uvicorn"} & set(modules)
