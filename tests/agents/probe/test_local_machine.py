"""The adapter to the real machine: bounded, and silent about what it cannot have."""

import os
import sys
import time
from pathlib import Path

import pytest

from dtest.agents.probe import LocalMachine
from dtest.agents.probe.machine import OUTPUT_BYTES_MAX, Answer, Ended, TimedOut

LIMIT_S = 30.0


def python(code: str) -> Answer:
    return LocalMachine().run(sys.executable, "-c", code, limit_s=LIMIT_S)


def test_a_command_tells_its_output_and_its_code() -> None:
    answer = python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")

    assert answer == Ended(3, "out\n", "err\n")


def test_a_command_speaks_english_and_reads_nothing() -> None:
    answer = python("import os, sys; print(os.environ['LC_ALL'], repr(sys.stdin.read()))")

    assert answer == Ended(0, "C ''\n")


def test_a_command_that_is_not_there_is_none() -> None:
    assert LocalMachine().run("/nowhere/tool", limit_s=LIMIT_S) is None


def test_a_silent_command_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {pid_file}; sleep 60"

    assert LocalMachine().run("/bin/sh", "-c", script, limit_s=1.0) == TimedOut(1.0)
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + LIMIT_S
    while alive(pid) and time.monotonic() < deadline:
        pass  # it has its signal; the kernel takes a moment
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_endless_output_is_cut() -> None:
    answer = python(f"print('x' * {OUTPUT_BYTES_MAX * 2})")

    assert isinstance(answer, Ended)
    assert len(answer.output) == OUTPUT_BYTES_MAX


def test_bytes_that_are_no_text_survive_reading(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\x00a")

    text = LocalMachine().read(str(file))

    assert text is not None
    assert text.encode("utf-8", "surrogateescape") == b"\xff\x00a"


@pytest.mark.parametrize("path", ["/nowhere/file", "/", "bad\0name"])
def test_a_file_that_cannot_be_read_is_none(path: str) -> None:
    assert LocalMachine().read(path) is None


def test_paths_are_sorted_as_numbers_are(tmp_path: Path) -> None:
    for name in ("accel10", "accel2", "accel1"):
        (tmp_path / name).touch()

    found = LocalMachine().paths(f"{tmp_path}/accel*")

    assert [Path(path).name for path in found] == ["accel1", "accel2", "accel10"]


def test_the_rest_of_the_port_answers(tmp_path: Path) -> None:
    machine = LocalMachine()

    assert machine.which("sh") is not None
    assert machine.which("no-such-tool-anywhere") is None
    assert machine.variable("PATH") == os.environ["PATH"]
    assert machine.variable("DTEST_NO_SUCH_VARIABLE") == ""
    assert machine.has_module("json")
    assert not machine.has_module("no_such_module_anywhere")
    assert machine.permits(str(tmp_path))
    assert not machine.permits("/nowhere/node")
    assert (machine.processors() or 0) >= 1
    assert (machine.free_bytes(str(tmp_path / "not" / "yet")) or 0) > 0
    assert machine.load_nvml() is not None
