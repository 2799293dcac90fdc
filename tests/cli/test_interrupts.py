"""Ctrl-C, SIGTERM and time limits: what runs is ended, what is known is kept, nothing is left."""

import signal
from pathlib import Path
from subprocess import Popen

import psutil
import pytest
from junitparser import JUnitXml

from tests.cli.cell import CellUser, command
from tests.cli.command import Person, eventually, interrupt
from tests.cli.conftest import Suite

HANGING = """
import pathlib, subprocess, threading

def test_first():
    pass

def test_fails():
    assert False

def test_hangs():
    child = subprocess.Popen(["sleep", "1000"])
    pathlib.Path("hanging.tmp").touch()
    pathlib.Path("hanging.tmp").rename("hanging")
    threading.Event().wait()
"""
HANGING_IMPORT = """
import pathlib, threading

pathlib.Path("importing").touch()
threading.Event().wait()
"""
RACE_S_MAX = 30


def hanging(call: "Popen[str]", home: Path) -> None:
    """Wait until the suite hangs."""
    eventually(
        lambda: (home / "hanging").exists() or call.poll() is not None,
        what="the test hangs",
        within_s=60,
    )
    assert call.poll() is None, call.communicate()


def sleepers(person: Person) -> list[str]:
    """What the hanging test started."""
    return [p.name() for p in person.processes() if p.name() == "sleep"]


def words(process: psutil.Process) -> list[str]:
    """The command line; of a process that ends in this moment none."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_suite_is_ended_and_what_is_known_is_told(
    cell: CellUser, suite: Suite, number: signal.Signals, code: int
) -> None:
    home = suite(test_hang=HANGING)
    with cell.at(home).started("test", "--workers", "1", "--junit", "report.xml") as call:
        hanging(call, home)

        ended = interrupt(call, number)

    assert ended.code == code
    assert ended.out == "1 failed, 1 not proven, 1 passed\n"
    assert "cancelling the run" in ended.err
    assert "FAILED test_hang.py::test_fails" in ended.err
    assert not sleepers(cell)
    report = JUnitXml.fromfile(str(home / "report.xml"))
    assert (report.tests, report.failures, report.errors) == (3, 1, 1)
    assert cell.here("run", "show", "@last", "--json").json["cancelled"] == 1


def test_a_suite_that_takes_too_long_is_ended(cell: CellUser, suite: Suite) -> None:
    home = suite(test_hang=HANGING)

    ended = cell.at(home).dtest("test", "--workers", "1", "--timeout", "4", "--json")

    assert ended.code == ended.json["exit_code"] == 6
    assert {fault["status"] for fault in ended.json["faults"]} <= {"cancelled"}
    assert ended.error["code"] == "timed_out"
    assert not sleepers(cell)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_cell_of_ones_own_leaves_nothing(
    person: Person, suite: Suite, number: signal.Signals, code: int
) -> None:
    home = suite(test_hang=HANGING)
    with person.at(home).started("test", "--workers", "1") as call:
        hanging(call, home)

        ended = interrupt(call, number)

    assert ended.code == code
    person.nothing_is_left()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_listing_of_tests_leaves_nothing(
    person: Person, suite: Suite, number: signal.Signals, code: int
) -> None:
    home = suite(test_import=HANGING_IMPORT)
    with person.at(home).started("test") as call:
        eventually((home / "importing").exists, what="the import hangs")

        ended = interrupt(call, number)

    assert ended.code == code
    person.nothing_runs()
    if number is signal.SIGINT:
        person.nothing_is_left()


def test_a_listing_of_tests_that_takes_too_long_is_ended(person: Person, suite: Suite) -> None:
    home = suite(test_import=HANGING_IMPORT)

    ended = person.at(home).dtest("test", "--timeout", "2")

    assert ended.code == 6
    assert "the tests were not listed in 2 s" in ended.err
    person.nothing_is_left()


def test_an_interrupted_wait_leaves_the_task_running(cell: CellUser) -> None:
    """Only ``dtest test`` owns its run; who waits for a submitted one may go away."""
    run = cell.run_of(command("exec sleep 1000"))
    with cell.started("run", "watch", run) as call:
        assert call.stderr is not None
        assert call.stderr.readline().startswith("tasks: 1")

        ended = interrupt(call)

    assert ended.code == 130
    assert not cell.here("run", "show", run, "--json").json["finished"]
    cell.here("run", "cancel", run).good()
    assert cell.here("run", "watch", run).code == 130
    assert not sleepers(cell)


def test_a_watch_outlives_the_death_of_the_api(cell: CellUser, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = cell.run_of(command(f"until test -e {gate}; do sleep 0.1; done"))
    with cell.started("run", "watch", run) as call:
        assert call.stderr is not None
        assert call.stderr.readline().startswith("tasks: 1")

        api = next(p for p in cell.processes() if "dtest.roles.api" in " ".join(words(p)))
        api.kill()
        told = call.stderr.readline()
        gate.touch()
        code = call.wait(RACE_S_MAX)

    assert "asking again" in told
    assert code == 0
