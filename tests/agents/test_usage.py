"""Memory of process trees: from made-up tables, and from this machine's own."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from dtest.agents.usage import Process, ProcessTable, Read, read_proc, read_psutil

MEGABYTE = 1_000_000
HOLD = "x = bytearray(50_000_000); print('ready', flush=True); input()"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}])"


class Machine:
    """A table that is made up, and a clock."""

    def __init__(self, processes: Mapping[int, Process]) -> None:
        self.processes = processes
        self.now = 0.0
        self.looks = 0
        self.table = ProcessTable(monotonic=lambda: self.now, read=self.read)

    def read(self) -> Mapping[int, Process]:
        self.looks += 1
        return self.processes


def test_a_tree_is_a_process_with_what_it_started() -> None:
    machine = Machine(
        {
            1: Process(0, 1, 1),
            10: Process(1, 10, 20),
            11: Process(10, 10, 300),
            12: Process(11, 12, 4_000),  # in a session of its own
            13: Process(12, 12, 50_000),
            14: Process(1, 10, 600_000),  # its parents are gone
            20: Process(1, 20, 7_000_000),
        }
    )
    assert machine.table.memory_bytes(10, age_s_max=1.0) == 654_320
    assert machine.table.memory_bytes(20, age_s_max=1.0) == 7_000_000
    assert machine.table.memory_bytes(99, age_s_max=1.0) == 0
    assert machine.looks == 1


def test_a_tree_that_is_no_tree_has_an_end() -> None:
    """Processes are read one by one: a number may have been given to another one meanwhile."""
    machine = Machine({10: Process(11, 10, 1), 11: Process(10, 10, 2), 12: Process(12, 10, 4)})

    assert machine.table.memory_bytes(10, age_s_max=1.0) == 7


def test_what_is_not_younger_than_allowed_is_read_again() -> None:
    machine = Machine({10: Process(1, 10, 1)})
    machine.table.memory_bytes(10, age_s_max=1.0)
    machine.processes = {10: Process(1, 10, 2)}
    machine.now = 0.5
    assert machine.table.memory_bytes(10, age_s_max=1.0) == 1
    assert machine.table.memory_bytes(10, age_s_max=0.25) == 2

    machine.processes = {}
    machine.now = 1.5
    assert machine.table.memory_bytes(10, age_s_max=1.0) == 0


@contextmanager
def running(code: str) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.stdin.close()


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(
            read_proc,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc"),
        ),
        read_psutil,
    ],
)
@pytest.mark.parametrize("code", [HOLD, CHILD])
def test_a_real_tree_is_measured(read: Read, code: str) -> None:
    with running(code) as pid:
        table = ProcessTable(monotonic=lambda: 0.0, read=read)
        used = table.memory_bytes(pid, age_s_max=1.0)

        assert 50 * MEGABYTE <= used <= 110 * MEGABYTE
