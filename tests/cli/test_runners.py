"""``dtest test --runner``: suites of other runners in a real cell, by the same verdicts."""

import signal
import sys
from pathlib import Path

import pytest
from junitparser import JUnitXml

from tests.cli.cell import CellUser
from tests.cli.command import Ended, eventually, interrupt
from tests.kit import gtest_program

RECORDED = Path(__file__).parents[1] / "runners" / "recorded"
UNITTEST = """
import unittest
class T(unittest.TestCase):
    def test_good(self): pass
    def test_bad(self): self.assertEqual(1 + 1, 3)
class U(unittest.TestCase):
    def test_parts(self):
        for i in range(3):
            with self.subTest(i=i): self.assertNotEqual(i, 1)
"""
# It fails in the first run and passes in the second.
MENDED = """\
echo 1..2; echo ok 1 - steady
if [ -e seen ]; then echo ok 2 - shaky; else touch seen; echo not ok 2 - shaky; exit 1; fi
"""
HANGING = """\
echo 1..2; echo ok 1 - first
sleep 1000 &
touch hanging
wait
"""


def verdicts(ended: Ended) -> dict[str, str]:
    """By node id, as ``--json`` says."""
    found = {case["nodeid"]: case["outcome"] for case in ended.json["testcases"]}
    assert len(found) == len(ended.json["testcases"])
    return found


def gtest_at(directory: Path) -> None:
    """Put a GoogleTest program in place."""
    text = Path(gtest_program.__file__).read_text(encoding="utf-8")
    program = directory / "t"
    program.write_text(f"#!{sys.executable}\n{text.partition(chr(10))[2]}", encoding="utf-8")
    program.chmod(0o755)


def test_any_command_that_writes_junit_is_a_suite(cell: CellUser) -> None:
    command = f"sh -c 'cat {RECORDED / 'node-20.junit.xml'}; exit 1'"
    ended = cell.dtest("test", "--runner", command, "--junit", "report.xml")

    assert ended.code == 1
    assert ended.out == "3 failed, 2 passed, 1 skipped, 1 xfailed\n"
    assert "FAILED sh::outer::deep::bad\n       deep <&> trouble" in ended.err
    assert "AssertionError [ERR_ASSERTION]" in ended.err
    report = JUnitXml.fromfile(str(cell.cwd / "report.xml"))
    assert (report.tests, report.failures, report.skipped) == (7, 3, 2)


def test_a_stream_that_ends_too_soon_is_never_a_pass(cell: CellUser) -> None:
    ended = cell.here("test", "--json", "--runner", "sh -c 'echo 1..10; echo ok 1 - a'")

    assert ended.code == 1
    assert verdicts(ended) == {"sh::a": "passed", "sh": "error"}
    messages = [case["message"] for case in ended.json["testcases"]]
    assert "it planned 10 tests and reported 1" in messages


def test_what_passes_when_run_again_is_flaky(cell: CellUser) -> None:
    (cell.cwd / "mended.sh").write_text(MENDED)
    ended = cell.here("test", "--json", "--reruns", "2", "--runner", "sh {path}", "mended.sh")

    assert ended.code == 0
    assert verdicts(ended) == {"mended.sh::steady": "passed", "mended.sh::shaky": "flaky"}


def test_unittest_runs_natively_and_is_known_the_next_time(cell: CellUser) -> None:
    (cell.cwd / "test_u.py").write_text(UNITTEST)
    first = cell.here("test", "--json", "--runner", "unittest")
    again = cell.here("test", "--json", "--runner", "unittest", "--lf")
    chosen = cell.here("test", "--json", "--runner", "unittest", "-k", "good")

    assert (first.code, chosen.code) == (1, 0)
    assert verdicts(first) == {
        "test_u.py::T::test_good": "passed",
        "test_u.py::T::test_bad": "failed",
        "test_u.py::U::test_parts": "failed",
    }
    assert set(verdicts(again)) == {"test_u.py::T::test_bad", "test_u.py::U::test_parts"}
    assert set(verdicts(chosen)) == {"test_u.py::T::test_good"}


def test_sessions_share_the_tests_of_a_program_and_a_crash_names_its_test(cell: CellUser) -> None:
    gtest_at(cell.cwd)
    (cell.cwd / "DIE").touch()
    ended = cell.here("test", "--json", "--workers", "2", "--runner", "gtest", "t")

    found = verdicts(ended)
    assert ended.code == 1
    assert len(found) == 16
    assert {name for name, outcome in found.items() if outcome in {"failed", "error"}} == {
        *("t::Math.Fails", "t::Math.Dies", "t::Few/Values.IsSmall/2"),
    }
    assert [name for name, outcome in found.items() if outcome == "skipped"] == [
        *("t::DISABLED_Off.Never", "t::Math.DISABLED_Later", "t::Math.Skips"),
    ]
    runs = (cell.cwd / "runs.txt").read_text().splitlines()
    assert len(runs) > 2
    assert sum(run.split(":").count("Math.Dies") for run in runs) == 1


def test_the_files_of_the_directory_travel_with_the_command(cell: CellUser) -> None:
    (cell.cwd / "data.tap").write_text("1..1\nok 1 - of the tree\n")
    (cell.cwd / "here").touch()
    line = "cat data.tap; rm data.tap"
    ended = cell.here("test", "--json", "--ship", "--runner", f"sh -c '{line}'")

    assert verdicts(ended) == {"sh::of the tree": "passed"}
    assert (cell.cwd / "data.tap").exists()


def test_an_interrupted_command_is_ended_with_what_it_started(cell: CellUser) -> None:
    (cell.cwd / "hangs.sh").write_text(HANGING)
    with cell.started("test", "--runner", "sh hangs.sh") as call:
        eventually(
            lambda: (cell.cwd / "hanging").exists() or call.poll() is not None,
            what="the command hangs",
            within_s=60,
        )
        ended = interrupt(call, signal.SIGINT)

    assert ended.code == 130
    assert not [p for p in cell.processes() if p.name() == "sleep"]


REFUSED = [
    (["--runner", "nope"], "there is no runner 'nope'"),
    (["--runner", "gtest"], "name the test programs"),
    (["--runner", "prove {path}"], "name the paths to run it for"),
    (["--runner", "gtest", "--results", "r.xml", "t"], "the runner gtest has its own"),
    (["--results", "r.xml"], "pytest runs the tests"),
    (["--runner", "x {path}", "--results", "r.xml", "t"], "runs several times at once"),
    (["--runner", "ctest", "--python", "python3"], "--python has no meaning"),
    (["--runner", "unittest", "-m", "slow"], "--marker has no meaning"),
    (["--runner", "prove -v", "--lf"], "--last-failed needs tests that are known"),
    (["--runner", "prove -v", "-k", "x"], "--keyword needs tests that are known"),
]


@pytest.mark.parametrize(("arguments", "problem"), REFUSED)
def test_what_a_runner_cannot_do_is_refused_before_anything_runs(
    cell: CellUser, arguments: list[str], problem: str
) -> None:
    ended = cell.here("test", *arguments)

    assert ended.code == 2
    assert problem in ended.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--runner", "prove {path}", "*.t"], "command cannot run this suite: dtest: nothing"),
        (["--runner", "unittest", "gone"], "unittest cannot run this suite: dtest: there is no"),
    ],
)
def test_a_suite_that_cannot_be_collected_says_why(
    cell: CellUser, arguments: list[str], complaint: str
) -> None:
    ended = cell.here("test", *arguments)

    assert ended.code == 2
    assert complaint in ended.err


def test_nothing_selected_is_no_success(cell: CellUser) -> None:
    (cell.cwd / "test_u.py").write_text(UNITTEST)

    assert cell.here("test", "--runner", "unittest", "-k", "nothing of it").code == 5
