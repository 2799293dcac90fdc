"""The keeper as a real process: starts attempts, ends whole trees, writes down how they ended."""

import asyncio
import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.kit.agent import (
    PYTHON,
    Keeping,
    is_alive,
    keeper_alone,
    keepers,
    keeping,
    listening,
    marked,
)
from tests.kit.nats import eventually

WITHIN_S = 20.0
IGNORES = "trap '' TERM HUP INT; echo deaf; while :; do sleep 60; done"
ESCAPES = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("escaped", os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
"""


def note(keeper: Keeping, key: str, name: str) -> dict[str, object]:
    text = (keeper.slot(key) / name).read_text().splitlines()[0]
    return dict(json.loads(text))


async def printed_pid(keeper: Keeping, key: str) -> int:
    await keeper.prints(key, b"\n")
    return int(keeper.output(key).split()[-1])


# --- starting -----------------------------------------------------------------------------------


async def test_an_attempt_runs_and_its_start_and_end_stand_on_disk(keeper: Keeping) -> None:
    ended = await keeper.run("t.1", "/bin/sh", "-c", "echo out; echo err >&2; exit 3")
    started = await keeper.hears("spawned", "t.1")

    assert keeper.output("t.1") == b"out\nerr\n"
    assert (ended["exit_code"], ended["signal"], ended["stopped"]) == (3, None, None)
    assert note(keeper, "t.1", "pid.json") == {k: v for k, v in started.items() if k != "op"}
    assert note(keeper, "t.1", "exit.json") == {k: v for k, v in ended.items() if k != "op"}
    assert ended["started_at"] == started["started_at"] <= ended["ended_at"]


async def test_the_signal_that_ended_it_is_told(keeper: Keeping) -> None:
    ended = await keeper.run("t.1", "/bin/sh", "-c", "kill -SEGV $$")

    assert (ended["exit_code"], ended["signal"]) == (None, signal.SIGSEGV)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["no-such-program"], "ENOENT"),
        (["/etc/passwd"], "EACCES"),
        (["/"], "EACCES"),
        (["echo", "a\0b"], "ValueError"),
        (["/bin/echo", "x" * 200_000], "E2BIG"),
    ],
)
async def test_a_program_that_cannot_be_started_is_told_with_its_reason(
    keeper: Keeping, argv: list[str], reason: str
) -> None:
    keeper.spawn("t.1", *argv)
    failed = await keeper.hears("failed", "t.1")

    assert failed["errno"] == reason
    assert failed["detail"]
    assert not (keeper.slot("t.1") / "pid.json").exists()
    assert (await keeper.run("t.2", "true"))["exit_code"] == 0


async def test_a_directory_that_is_not_there_is_told(keeper: Keeping) -> None:
    order = {"op": "spawn", "key": "t.1", "argv": ["true"], "cwd": "/no/such", "env": {}}
    keeper.slot("t.1").mkdir()
    keeper.client.order({**order, "dir": str(keeper.slot("t.1"))})
    keeper.client.order({**order, "key": "t.2", "cwd": "/", "dir": "/no/such"})

    for key in ("t.1", "t.2"):
        assert (await keeper.hears("failed", key))["errno"] == "ENOENT"


async def test_output_is_kept_byte_for_byte(keeper: Keeping) -> None:
    write = "import os; [os.write(1, bytes(range(256)) * 40) for _ in range(50)]"
    await keeper.run("t.1", PYTHON, "-c", write)

    assert keeper.output("t.1") == bytes(range(256)) * 2_000


async def test_output_of_the_attempt_before_is_gone(keeper: Keeping) -> None:
    await keeper.run("t.1", "echo", "a long line of the first")
    slot = keeper.slot("t.1")
    order = {"op": "spawn", "key": "t.2", "argv": ["echo", "x"], "cwd": str(slot), "env": {}}
    keeper.client.order({**order, "dir": str(slot)})
    await keeper.hears("exited", "t.2")

    assert keeper.output("t.1") == b"x\n"
    assert note(keeper, "t.1", "exit.json")["key"] == "t.2"


async def test_an_attempt_inherits_what_the_agent_said_and_its_own_variables(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path, {"A": "agent", "B": "agent"}) as keeper:
        await keeper.run("t.1", "env", env={"B": "task", "DTEST_ATTEMPT_KEY": "forged"})

        lines = dict(line.split("=", 1) for line in keeper.output("t.1").decode().splitlines())
        assert lines == {
            "PATH": os.environ["PATH"],
            "A": "agent",
            "B": "task",
            "DTEST_ATTEMPT_KEY": f"t.1@{keeper.slot('t.1')}",
        }


LOOK = (
    "import os, signal, sys\n"
    "ignored = [s.name for s in signal.valid_signals() if isinstance(s, signal.Signals)"
    " and signal.getsignal(s) is signal.SIG_IGN and s.name not in ('SIGPIPE', 'SIGXFSZ')]\n"
    "blocked = list(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
    "print(oct(os.umask(0)), ignored, blocked, sorted(map(int, os.listdir('/proc/self/fd')))"
    "[:-1], os.getsid(0) == os.getpid() == os.getpgid(0), sys.stdin.read() == '')\n"
)


def umask() -> int:
    found = os.umask(0o022)
    os.umask(found)
    return found


async def test_an_attempt_starts_with_nothing_but_what_a_program_expects(keeper: Keeping) -> None:
    """Umask, signals, descriptors, session, input: a test suite notices each of them."""
    await keeper.run("t.1", PYTHON, "-c", LOOK)

    assert keeper.output("t.1").decode() == f"{umask():#o} [] [] [0, 1, 2] True True\n"


async def test_what_nohup_ignores_and_others_block_is_not_handed_on(tmp_path: Path) -> None:
    ignored = [signal.signal(each, signal.SIG_IGN) for each in (signal.SIGHUP, signal.SIGINT)]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        async with keeping(tmp_path) as keeper:
            await keeper.run("t.1", PYTHON, "-c", LOOK)
            said = keeper.output("t.1").decode()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for each, handler in zip((signal.SIGHUP, signal.SIGINT), ignored, strict=True):
            signal.signal(each, handler)

    assert said == f"{umask():#o} [] [] [0, 1, 2] True True\n"


async def test_two_hundred_short_processes_at_once_all_end(keeper: Keeping) -> None:
    keys = [f"t{number}.1" for number in range(200)]
    for number, key in enumerate(keys):
        keeper.spawn(key, "/bin/sh", "-c", f"echo {number}; exit {number % 7}")
    for number, key in enumerate(keys):
        assert (await keeper.hears("exited", key))["exit_code"] == number % 7
        assert keeper.output(key) == b"%d\n" % number

    assert len([m for m in keeper.said if m["op"] == "exited"]) == 200
    assert marked(keeper.directory) == []


async def test_the_peak_of_memory_and_the_processor_time_are_plausible(keeper: Keeping) -> None:
    code = "x = bytearray(200_000_000); t = __import__('time')\nwhile t.process_time() < 0.3: pass"
    ended = await keeper.run("t.1", PYTHON, "-c", code)

    assert 200e6 <= ended["memory_bytes_peak"] <= 300e6
    assert 0.25 <= ended["cpu_s"] <= 3.0


async def test_the_size_of_who_started_the_keeper_hides_no_peak(tmp_path: Path) -> None:
    """The test's process is larger than the attempt while it starts the keeper."""
    large = bytearray(b"x") * 300_000_000
    async with keeping(tmp_path) as keeper:
        del large
        ended = await keeper.run("t.1", PYTHON, "-c", "x = bytearray(100_000_000)")

        assert 100e6 <= ended["memory_bytes_peak"] <= 200e6


async def test_a_small_process_does_not_show_the_memory_of_the_keeper(keeper: Keeping) -> None:
    ended = await keeper.run("t.1", "/bin/true")

    assert ended["memory_bytes_peak"] is None or ended["memory_bytes_peak"] < 5e6


# --- ending -------------------------------------------------------------------------------------


async def test_a_process_may_end_in_order_within_its_grace(keeper: Keeping) -> None:
    keeper.spawn("t.1", "/bin/sh", "-c", "trap 'echo bye; exit 4' TERM; echo up; sleep 60 & wait")
    await keeper.prints("t.1", b"up\n")
    keeper.kill("t.1", grace_s=60.0)
    ended = await keeper.hears("exited", "t.1")

    assert (ended["exit_code"], ended["stopped"]) == (4, "cancelled_user")
    assert keeper.output("t.1") == b"up\nbye\n"


async def test_a_process_that_ignores_term_is_killed_after_its_grace(keeper: Keeping) -> None:
    keeper.spawn("t.1", "/bin/sh", "-c", IGNORES)
    await keeper.prints("t.1", b"deaf\n")
    keeper.kill("t.1", grace_s=0.4)
    ended = await keeper.hears("exited", "t.1")

    assert ended["signal"] == signal.SIGKILL
    assert 0.4 <= ended["ended_at"] - ended["started_at"] < WITHIN_S
    assert marked(keeper.directory) == []


SAVES = """
trap 'sleep 0.3; echo saved > {place}; exit 0' TERM
echo ready
while :; do sleep 0.01; done
"""
"""It heeds TERM, and takes a moment."""


async def test_who_outlives_the_shell_above_it_has_the_grace_too(
    keeper: Keeping, tmp_path: Path
) -> None:
    inner = tmp_path / "inner.sh"
    inner.write_text(SAVES.format(place=tmp_path / "saved"))
    keeper.spawn("t.1", "/bin/sh", "-c", f"/bin/sh {inner}; exit $?")
    await keeper.prints("t.1", b"ready\n")
    keeper.kill("t.1", grace_s=30.0)
    ended = await keeper.hears("exited", "t.1")

    assert (tmp_path / "saved").read_text() == "saved\n"
    assert (ended["signal"], ended["in_time"]) == (signal.SIGTERM, True)
    assert ended["ended_at"] - ended["started_at"] < WITHIN_S, "nobody waits for the whole grace"
    assert marked(keeper.directory) == []


async def test_who_outlives_the_shell_and_the_grace_is_killed(keeper: Keeping) -> None:
    keeper.spawn("t.1", "/bin/sh", "-c", f"({IGNORES}); exit $?")
    await keeper.prints("t.1", b"deaf\n")
    keeper.kill("t.1", grace_s=0.4)
    ended = await keeper.hears("exited", "t.1")

    assert not ended["in_time"]
    assert marked(keeper.directory) == []


async def test_the_shorter_of_two_graces_counts(keeper: Keeping) -> None:
    keeper.spawn("t.1", "/bin/sh", "-c", IGNORES)
    await keeper.prints("t.1", b"deaf\n")
    keeper.kill("t.1", grace_s=1e300)  # as long as the number takes it
    keeper.kill("t.1", grace_s=0.0)
    keeper.kill("t.1", grace_s=60.0)

    assert (await keeper.hears("exited", "t.1"))["signal"] == signal.SIGKILL


@pytest.mark.parametrize("how", ["killed", "ended by itself"])
async def test_a_child_that_left_the_session_does_not_outlive_the_attempt(
    keeper: Keeping, how: str
) -> None:
    waits = "" if how == "ended by itself" else "import time; time.sleep(600)"
    keeper.spawn("t.1", PYTHON, "-c", f"{ESCAPES}\n{waits}")
    escaped = await printed_pid(keeper, "t.1")
    if how == "killed":
        assert is_alive(escaped)
        keeper.kill("t.1")
    await keeper.hears("exited", "t.1")

    assert not is_alive(escaped)
    assert marked(keeper.directory) == []


async def test_all_that_an_escaped_child_started_is_ended_however_deep(keeper: Keeping) -> None:
    deep = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    for number in range(40):
        if os.fork() != 0:
            time.sleep(600)
        os.setsid()
    print("deepest", os.getpid(), flush=True)
    time.sleep(600)
time.sleep(600)
"""
    keeper.spawn("t.1", PYTHON, "-c", deep)
    await printed_pid(keeper, "t.1")
    assert len(marked(keeper.directory)) == 42
    keeper.kill("t.1")
    await keeper.hears("exited", "t.1")

    assert marked(keeper.directory) == []


async def test_an_orphan_without_a_mark_is_ended_with_the_last_attempt(keeper: Keeping) -> None:
    argv = ["sh", "-c", "echo $$; sleep 600 & wait"]
    code = "import os, time\nif os.fork() == 0:\n os.setsid()\n"
    code += " if os.fork() == 0:\n  {}\n os._exit(0)\n"
    keeper.spawn("other.1", "sleep", "600")
    unmarked = code.format(f"os.execve('/bin/sh', {argv!r}, {{}})")
    keeper.spawn("t.1", PYTHON, "-c", f"{unmarked}time.sleep(600)")
    orphan = await printed_pid(keeper, "t.1")
    keeper.kill("t.1")
    await keeper.hears("exited", "t.1")
    assert is_alive(orphan)  # it could be the other attempt's

    keeper.kill("other.1")
    await keeper.hears("exited", "other.1")
    assert not is_alive(orphan)


async def test_one_attempt_s_end_leaves_the_others_alone(keeper: Keeping) -> None:
    keeper.spawn("t.1", "sleep", "600")
    keeper.spawn("t.11", PYTHON, "-c", f"{ESCAPES}\nimport time; time.sleep(600)")
    escaped = await printed_pid(keeper, "t.11")
    keeper.kill("t.1")
    await keeper.hears("exited", "t.1")

    assert is_alive(escaped)
    assert is_alive((await keeper.hears("spawned", "t.11"))["pid"])


async def test_killing_an_attempt_that_is_none_is_no_error(keeper: Keeping) -> None:
    keeper.kill("unknown.1")

    assert (await keeper.run("t.1", "true"))["exit_code"] == 0
    assert keeper.heard("error") is None


@pytest.mark.slow
async def test_the_end_of_a_process_that_is_killed_is_never_missed(keeper: Keeping) -> None:
    """The sweep for escaped children must not reap the attempt's own process."""
    for number in range(300):
        key = f"t{number}.1"
        keeper.spawn(
            key,
            PYTHON,
            "-S",
            "-c",
            "x = bytearray(30_000_000); print('up', flush=True);import time; time.sleep(60)",
        )
        await keeper.prints(key, b"up")
        keeper.kill(key)
        assert (await keeper.hears("exited", key))["signal"] in (signal.SIGTERM, signal.SIGKILL)


async def test_an_attempt_that_removes_its_directory_does_not_end_the_keeper(
    keeper: Keeping,
) -> None:
    keeper.spawn("t.1", "/bin/sh", "-c", 'rm -rf "$PWD"; sleep 60')
    await eventually(lambda: not keeper.slot("t.1").exists())
    keeper.kill("t.1")
    await keeper.hears("exited", "t.1")

    assert (await keeper.run("t.2", "true"))["exit_code"] == 0


# --- the agent's line ---------------------------------------------------------------------------


async def test_ends_wait_on_disk_while_no_agent_is_there(keeper: Keeping) -> None:
    first = keeper.pid
    keeper.spawn("t.1", "/bin/sh", "-c", "echo up; while ! [ -e go ]; do sleep 0.02; done; exit 9")
    keeper.spawn("u.1", "sleep", "600")
    started = await keeper.hears("spawned", "u.1")
    await keeper.prints("t.1", b"up\n")
    keeper.client.close()
    (keeper.slot("t.1") / "go").touch()
    await eventually((keeper.slot("t.1") / "exit.json").exists)

    assert note(keeper, "t.1", "exit.json")["exit_code"] == 9
    assert await keeper.connect() == [
        {"key": "u.1", "pid": started["pid"], "started_at": started["started_at"]}
    ]
    assert keeper.pid == first
    async with listening(keeper):
        keeper.kill("u.1")
        await keeper.hears("exited", "u.1")


async def test_an_end_that_the_disk_did_not_take_is_told_to_the_next_agent(
    keeper: Keeping,
) -> None:
    keeper.slot("t.1").mkdir()
    (keeper.slot("t.1") / "go").touch()
    keeper.spawn("t.1", "/bin/sh", "-c", "echo up; while [ -e go ]; do sleep 0.02; done; exit 9")
    await keeper.prints("t.1", b"up\n")
    (keeper.slot("t.1") / "exit.json").mkdir()
    pid = (await keeper.hears("spawned"))["pid"]
    keeper.client.close()
    (keeper.slot("t.1") / "go").unlink()
    await eventually(lambda: not is_alive(pid))
    await keeper.connect()

    assert (await keeper.hears("exited", "t.1"))["exit_code"] == 9


async def test_a_second_agent_takes_the_line(keeper: Keeping) -> None:
    second = Keeping(keeper.directory)
    await second.connect()
    async with listening(second):
        await second.run("t.1", "true")
        assert keeper.heard("exited") is None
        assert second.pid == keeper.pid
    second.client.close()


@contextmanager
def plugged(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(WITHIN_S)
        line.connect(str(directory / "keeper.sock"))
        yield line


GARBAGE = [
    b"\n",
    b"hello\n",
    b"\x00\xff\xfe\n",
    b'null\n[]\n7\n"op"\n',
    b"{}\n",
    b'{"op": 7}\n',
    b'{"op": "dance"}\n',
    b'{"op": "env", "env": 7}\n',
    b'{"op": "spawn"}\n',
    b'{"op": "spawn", "key": 1, "dir": 2, "argv": 3, "cwd": 4, "env": 5}\n',
    b'{"op": "spawn", "key": "k", "dir": "/tmp/x", "argv": [], "cwd": "/", "env": {}}\n',
    b'{"op": "kill", "key": "t.1", "grace_s": "soon", "reason": ""}\n',
    b'{"op": "kill", "key": "t.1"}\n',
    b"[" * 100_000 + b"\n",
    b"no end of line",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_on_its_socket_does_not_end_it(keeper: Keeping, garbage: bytes) -> None:
    keeper.spawn("t.1", "sleep", "600")
    await keeper.hears("spawned", "t.1")
    with plugged(keeper.directory) as line:
        await asyncio.to_thread(line.sendall, garbage)
        line.shutdown(socket.SHUT_WR)
        while await asyncio.to_thread(line.recv, 4096):
            pass
    listed = await keeper.connect()

    assert [message["key"] for message in listed] == ["t.1"]
    async with listening(keeper):
        assert (await keeper.run("t.2", "true"))["exit_code"] == 0


async def pour(line: socket.socket, megabytes: int) -> None:
    for _ in range(megabytes):
        await asyncio.to_thread(line.sendall, b"x" * (1 << 20))


async def test_a_line_without_end_is_cut_off(keeper: Keeping) -> None:
    cut_off = pytest.raises(OSError, match=r"Broken pipe|reset")
    with plugged(keeper.directory) as line, cut_off:
        await pour(line, 40)
    await keeper.connect()
    memory = psutil.Process(keeper.pid).memory_info().rss

    assert memory < 150e6


async def test_its_socket_and_notes_are_private(keeper: Keeping) -> None:
    await keeper.run("t.1", "true")
    slot = keeper.slot("t.1")
    paths = [keeper.directory / name for name in ("keeper.sock", "keeper.json", "keeper.log")]
    paths += [slot / name for name in ("pid.json", "exit.json", "output.log")]

    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


async def test_a_directory_with_a_long_name_is_no_obstacle(tmp_path: Path) -> None:
    """The address of a socket has room for 107 bytes only."""
    deep = tmp_path / ("a" * 100) / ("b" * 100)
    deep.mkdir(parents=True)
    async with keeping(deep) as keeper:
        assert (await keeper.run("t.1", "true"))["exit_code"] == 0


# --- its own life -------------------------------------------------------------------------------


def test_a_keeper_without_agent_and_attempts_ends_after_a_while(tmp_path: Path) -> None:
    with keeper_alone(tmp_path, lonely_s_max=0.2) as keeper:
        assert keeper.wait(WITHIN_S) == 0
    assert not (tmp_path / "keeper.sock").exists()


async def test_a_keeper_with_an_attempt_is_not_lonely(tmp_path: Path) -> None:
    with keeper_alone(tmp_path, lonely_s_max=0.2) as keeper:
        await eventually((tmp_path / "keeper.sock").exists)
        held = Keeping(tmp_path)
        await held.connect()
        held.spawn("t.1", "/bin/sh", "-c", "sleep 1; exit 6")
        async with listening(held):
            await held.hears("spawned")
        held.client.close()

        assert await asyncio.to_thread(keeper.wait, WITHIN_S) == 0
        assert note(held, "t.1", "exit.json")["exit_code"] == 6


async def test_quit_ends_it_at_once_and_leaves_no_socket(keeper: Keeping) -> None:
    pid = keeper.pid
    await keeper.run("t.1", "true")
    keeper.client.order({"op": "quit"})
    await eventually(lambda: not is_alive(pid))

    assert not (keeper.directory / "keeper.sock").exists()


async def test_quit_waits_for_attempts_and_a_new_agent_takes_it_back(keeper: Keeping) -> None:
    pid = keeper.pid
    keeper.spawn("t.1", "sleep", "600")
    await keeper.hears("spawned", "t.1")
    keeper.client.order({"op": "quit"})
    keeper.client.close()

    assert [message["key"] for message in await keeper.connect()] == ["t.1"]
    async with listening(keeper):
        keeper.kill("t.1")
        await keeper.hears("exited", "t.1")
        assert (await keeper.run("t.2", "true"))["exit_code"] == 0
        assert keeper.pid == pid


async def test_sigterm_ends_attempts_and_the_keeper_and_says_why(keeper: Keeping) -> None:
    keeper.spawn("t.1", "/bin/sh", "-c", IGNORES)
    await keeper.prints("t.1", b"deaf\n")
    os.kill(keeper.pid, signal.SIGTERM)
    ended = await keeper.hears("exited", "t.1")

    assert (ended["signal"], ended["stopped"]) == (signal.SIGKILL, "worker_shutdown")
    await eventually(lambda: keepers(keeper.directory) == [])


async def test_sigint_does_not_end_it(keeper: Keeping) -> None:
    os.kill(keeper.pid, signal.SIGINT)

    assert (await keeper.run("t.1", "true"))["exit_code"] == 0


async def test_a_new_keeper_follows_one_that_was_killed(keeper: Keeping) -> None:
    first = keeper.pid
    keeper.spawn("t.1", "sleep", "600")
    left = (await keeper.hears("spawned", "t.1"))["pid"]
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: not is_alive(first))

    assert await keeper.connect() == []
    assert keeper.pid != first
    assert json.loads((keeper.directory / "keeper.json").read_text())["pid"] == keeper.pid
    os.kill(left, signal.SIGKILL)
