"""``dtest test``: each test of somebody's suite gets the verdict that pytest gives it."""

import json
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

from tests.cli.cell import CellUser
from tests.cli.command import Ended, Person
from tests.cli.conftest import Suite

ALL_OUTCOMES = """
import pytest

def test_good():
    assert True

def test_bad():
    print("said before")
    assert 1 + 1 == 3, "arithmetic"

@pytest.fixture
def broken():
    raise RuntimeError("no such device")

def test_without_its_fixture(broken):
    pass

@pytest.mark.skip(reason="not here")
def test_elsewhere():
    pass

@pytest.mark.xfail
def test_known_bug():
    raise AssertionError

@pytest.mark.xfail
def test_mended_bug():
    pass
"""
GOOD = "def test_one():\n    pass\n\ndef test_two():\n    pass\n"
CRASH = """
import os

def test_before():
    pass

def test_falls():
    os.abort()

def test_after():
    pass
"""
ODD = """
import pytest

@pytest.mark.parametrize("word", ["a::b", "a[b]", "ü", "with space", "-k", "", "x" * 300, "\\x00"])
def test_odd(word):
    pass

class TestOuter:
    class TestInner:
        def test_deep(self):
            pass
"""


def outcomes(ended: Ended) -> Counter[str]:
    """The outcomes of the tests by ``--json``."""
    return Counter(case["outcome"] for case in ended.json["testcases"])


def names(ended: Ended) -> set[str]:
    """The tests by ``--json``."""
    return {case["nodeid"] for case in ended.json["testcases"]}


def junit(path: Path) -> JUnitXml:
    """A report as another program reads it."""
    return JUnitXml.fromfile(str(path))


def test_every_outcome_is_told_for_people(cell: CellUser, suite: Suite) -> None:
    home = suite(test_all=ALL_OUTCOMES)

    ended = cell.dtest("test", str(home), "--junit", "report.xml")

    assert ended.code == 1
    assert ended.out == "1 failed, 1 error, 1 passed, 1 skipped, 1 xfailed, 1 xpassed\n"
    assert "6 tests in 1 file" in ended.err
    assert "FAILED test_all.py::test_bad\n       AssertionError: arithmetic" in ended.err
    assert "ERROR  test_all.py::test_without_its_fixture" in ended.err
    assert "no such device" in ended.err
    assert "said before" in ended.err
    report = junit(cell.cwd / "report.xml")
    assert (report.tests, report.failures, report.errors, report.skipped) == (6, 1, 1, 2)
    cases = {case.name: case for found in report for case in found}
    assert cases["test_bad"].classname == "test_all"
    assert cases["test_bad"].result[0].message == "AssertionError: arithmetic"
    assert {case.name for case in cases.values() if not case.result} == {
        "test_good",
        "test_mended_bug",
    }


def test_every_outcome_is_told_for_programs(cell: CellUser, suite: Suite) -> None:
    home = suite(test_all=ALL_OUTCOMES, test_good=GOOD)

    ended = cell.here("test", str(home), "--json")

    assert ended.code == ended.json["exit_code"] == 1
    assert ended.json["counts"] == dict(outcomes(ended))
    assert ended.json["faults"] == []
    assert outcomes(ended) == {
        "passed": 3,
        "failed": 1,
        "error": 1,
        "skipped": 1,
        "xfailed": 1,
        "xpassed": 1,
    }
    bad = next(case for case in ended.json["testcases"] if case["outcome"] == "failed")
    assert bad["nodeid"] == "test_all.py::test_bad"
    assert (bad["file"], bad["phase"], bad["worker_id"]) == ("test_all.py", "call", "local-1")


def test_a_good_suite_somewhere_else_passes(cell: CellUser, suite: Suite) -> None:
    home = suite("far/away/ünd spaced", test_good=GOOD)

    ended = cell.dtest("test", str(home)).good()

    assert ended.out == "2 passed\n"


def test_the_current_directory_is_the_default(cell: CellUser, suite: Suite) -> None:
    home = suite(ini="testpaths = inner\n", test_outer=GOOD)
    (home / "inner").mkdir()
    (home / "inner" / "test_inner.py").write_text(GOOD)

    ended = cell.at(home).here("test", "--json").good()

    assert names(ended) == {"inner/test_inner.py::test_one", "inner/test_inner.py::test_two"}


def test_a_suite_is_left_as_it_was(cell: CellUser, suite: Suite) -> None:
    home = suite(test_good=GOOD)
    before = sorted(home.rglob("*"))

    cell.at(home).here("test").good()

    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "selected"),
    [
        (["-k", "two"], {"test_two"}),
        (["-k", "one or two and not two"], {"test_one"}),
        (["-m", "quick"], {"test_marked"}),
        (["--marker", "not quick", "--keyword", "one"], {"test_one"}),
    ],
)
def test_tests_are_picked_as_pytest_picks_them(
    cell: CellUser, suite: Suite, words: list[str], selected: set[str]
) -> None:
    marked = f"import pytest\n{GOOD}\n@pytest.mark.quick\ndef test_marked():\n    pass\n"
    home = suite(ini="markers = quick\n", test_good=marked)

    ended = cell.at(home).here("test", *words, "--json").good()

    assert names(ended) == {f"test_good.py::{name}" for name in selected}


@pytest.mark.parametrize("words", [["-k", "nothing"], ["-m", "nothing"], ["empty"]])
def test_no_tests_are_never_green(cell: CellUser, suite: Suite, words: list[str]) -> None:
    home = suite(ini="markers = nothing\n", test_good=GOOD)
    (home / "empty").mkdir()

    ended = cell.at(home).here("test", *words)

    assert ended.code == 5
    assert "no tests ran" in ended.err


SKIPS_ITSELF = "import pytest\npytest.importorskip('no_such_module')\n"


@pytest.mark.parametrize(
    ("files", "code", "out"),
    [
        ({"test_not_here": SKIPS_ITSELF}, 5, "1 skipped\n"),
        ({"test_not_here": SKIPS_ITSELF, "test_good": GOOD}, 0, "2 passed, 1 skipped\n"),
    ],
)
def test_a_file_that_skips_itself_is_no_fault(
    cell: CellUser, suite: Suite, files: dict[str, str], code: int, out: str
) -> None:
    ended = cell.at(suite(**files)).here("test")

    assert (ended.code, ended.out) == (code, out)


def test_an_import_error_is_an_error_and_the_rest_runs(cell: CellUser, suite: Suite) -> None:
    home = suite(test_broken="import no_such_module\n", test_good=GOOD)

    ended = cell.at(home).dtest("test", "--junit", "report.xml")

    assert ended.code == 1
    assert ended.out == "1 error, 2 passed\n"
    assert "1 could not be collected" in ended.err
    assert "ERROR  test_broken.py" in ended.err
    assert "No module named 'no_such_module'" in ended.err
    report = junit(home / "report.xml")
    assert (report.tests, report.failures, report.errors) == (3, 0, 1)


def test_a_test_that_takes_its_process_down_is_named_and_the_rest_runs(
    cell: CellUser, suite: Suite
) -> None:
    home = suite(test_crash=CRASH)

    ended = cell.at(home).here("test", "--json", "--junit", "report.xml")

    assert ended.code == 1
    verdicts = {case["nodeid"]: case["outcome"] for case in ended.json["testcases"]}
    assert verdicts == {
        "test_crash.py::test_before": "passed",
        "test_crash.py::test_falls": "error",
        "test_crash.py::test_after": "passed",
    }
    report = junit(home / "report.xml")
    assert (report.tests, report.failures, report.errors) == (3, 0, 1)
    assert "SIGABRT" in (home / "report.xml").read_text()


def test_a_hanging_test_is_ended_by_the_suites_own_time_limit(cell: CellUser, suite: Suite) -> None:
    hang = "import threading\n\ndef test_hangs():\n    threading.Event().wait()\n"
    limit = "faulthandler_timeout = 1\nfaulthandler_exit_on_timeout = true\n"
    home = suite(ini=limit, test_hang=hang + GOOD)

    ended = cell.at(home).here("test", "--json")

    assert ended.code == 1
    assert {case["nodeid"] for case in ended.json["testcases"] if case["outcome"] == "error"} == {
        "test_hang.py::test_hangs"
    }
    assert outcomes(ended) == {"error": 1, "passed": 2}


def test_odd_names_come_back_as_they_are(cell: CellUser, suite: Suite) -> None:
    home = suite("odd (1)", **{"test_ödd name": ODD, "test_plain": GOOD})
    plain = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=home,
        env=cell.env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    ended = cell.at(home).here("test", "--json", "--junit", "report.xml").good()

    assert names(ended) == {line for line in plain.splitlines() if "::" in line}
    report = [case for found in junit(home / "report.xml") for case in found]
    assert len({(case.classname, case.name) for case in report}) == len(report) == 11
    assert {case.classname for case in report} == {
        "test_ödd name",
        "test_ödd name.TestOuter.TestInner",
        "test_plain",
    }


@pytest.mark.parametrize(
    "nodeid",
    [
        "test_ödd name.py::test_odd[a::b]",
        "test_ödd name.py::test_odd[-k]",
        "./test_ödd name.py::TestOuter::TestInner::test_deep",
    ],
)
def test_one_test_is_run_by_its_node_id(cell: CellUser, suite: Suite, nodeid: str) -> None:
    home = suite(**{"test_ödd name": ODD})

    ended = cell.at(home).here("test", nodeid, "--json").good()

    assert names(ended) == {nodeid.removeprefix("./")}


def test_a_node_id_of_no_test_is_an_error(cell: CellUser, suite: Suite) -> None:
    home = suite(test_good=GOOD)

    ended = cell.at(home).here("test", "test_good.py::test_three")

    assert ended.code == 1
    assert ended.out == "1 error\n"
    assert "test_good.py::test_three" in ended.err


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another environment, which has pytest, and a module that ours has not."""
    home = tmp_path_factory.mktemp("other") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    packages = next(home.glob("lib/python*/site-packages"))
    packages.joinpath("ours.pth").write_text(sysconfig.get_path("purelib"))
    packages.joinpath("only_there.py").write_text("ANSWER = 42\n")
    return home / "bin" / "python"


def test_a_suite_runs_in_its_own_environment(
    cell: CellUser, suite: Suite, other_python: Path
) -> None:
    text = "import sys\nimport only_there\n\ndef test_prefix():\n    assert sys.prefix == {!r}\n"
    home = suite(test_there=text.format(str(other_python.parents[1])))

    ended = cell.at(home).dtest("test", "--python", os.path.relpath(other_python, home))

    assert ended.good().out == "1 passed\n"


def test_an_environment_without_pytest_is_named(
    cell: CellUser, suite: Suite, other_python: Path
) -> None:
    bare = other_python.parents[2] / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)

    ended = cell.at(suite(test_good=GOOD)).here("test", "--python", str(bare / "bin" / "python"))

    assert ended.code == 2
    assert "cannot import pytest" in ended.err
    assert "-m pip install pytest" in ended.err


def test_a_suite_that_pytest_refuses_is_told_in_its_words(cell: CellUser, suite: Suite) -> None:
    home = suite(conftest="import no_such_module\n", test_good=GOOD)

    ended = cell.at(home).here("test")

    assert ended.code == 2
    assert "no_such_module" in ended.err


def test_a_suite_alone_gets_a_cell_for_the_call_and_nothing_stays(
    person: Person, suite: Suite
) -> None:
    home = suite(test_good=GOOD, test_bad="def test_bad():\n    assert False\n")

    ended = person.dtest("test", str(home), "--workers", "1")

    assert ended.code == 1
    assert ended.out == "1 failed, 2 passed\n"
    person.nothing_is_left()
    assert not person.state.exists()
    assert person.here("status").code == 3


SHAKY = """
import pathlib

NOTES = pathlib.Path(__file__).with_name("notes")

def test_shaky():
    NOTES.write_text(NOTES.read_text() + "x" if NOTES.exists() else "x")
    assert len(NOTES.read_text()) > 1

def test_bad():
    assert False

def test_good():
    pass
"""


def test_what_passes_at_its_second_try_is_flaky_and_never_plain_passed(
    cell: CellUser, suite: Suite
) -> None:
    home = suite(test_shaky=SHAKY)

    ended = cell.at(home).here("test", "--reruns", "2", "--json", "--junit", "report.xml")

    assert ended.code == 1
    told = {case["nodeid"]: (case["outcome"], case["tries"]) for case in ended.json["testcases"]}
    assert told == {
        "test_shaky.py::test_shaky": ("flaky", 2),
        "test_shaky.py::test_bad": ("failed", 3),
        "test_shaky.py::test_good": ("passed", 1),
    }
    assert "flakyFailure" in (home / "report.xml").read_text()
    assert (junit(home / "report.xml").tests, junit(home / "report.xml").failures) == (3, 1)


def test_a_muted_test_runs_and_does_not_gate(cell: CellUser, suite: Suite) -> None:
    home = suite(test_bad="def test_bad():\n    assert False\n")
    (home / "dtest-known-flaky.toml").write_text(
        '[[flaky]]\ntest = "test_bad.py::test_bad"\nreason = "a race"\nexpires = 2999-12-31\n'
    )

    ended = cell.at(home).dtest("test").good()

    assert ended.out == "1 failed\n"
    assert "MUTED test_bad.py::test_bad until 2999-12-31: a race" in ended.err


def test_only_what_failed_last_time_runs_again(cell: CellUser, suite: Suite) -> None:
    home = suite(test_all=ALL_OUTCOMES)
    cell.at(home).here("test", "--json")

    ended = cell.at(home).here("test", "--lf", "--json")

    assert names(ended) == {"test_all.py::test_bad", "test_all.py::test_without_its_fixture"}
    assert "predicted_seconds" in ended.json


def test_a_run_ends_after_as_many_failures_as_it_may_have(cell: CellUser, suite: Suite) -> None:
    long = (
        "import time\n\ndef test_bad():\n    assert False\n\ndef test_long():\n    time.sleep(600)"
    )
    home = suite(test_bad=long)

    ended = cell.at(home).dtest("test", "-x")

    assert ended.code == 1
    assert "ended after 1 failures" in ended.err
    assert ended.out == "1 failed, 1 not proven\n"


def test_a_hanging_test_is_ended_named_and_shown_where_it_hung(
    cell: CellUser, suite: Suite
) -> None:
    hang = "import threading\n\ndef test_hangs():\n    threading.Event().wait()\n"
    home = suite(test_hang=hang + GOOD)

    ended = cell.at(home).here("test", "--test-timeout", "1", "--json", "--html", "report.html")

    assert ended.code == 1
    told = {case["nodeid"]: case for case in ended.json["testcases"]}
    assert told["test_hang.py::test_hangs"]["message"] == "timed out after 1 s"
    assert outcomes(ended) == {"error": 1, "passed": 2}
    assert "test_hangs" in (home / "report.html").read_text()


HOSTILE = """
import os, signal, threading

def test_before(): pass

def test_kills():
    os.kill(os.getpid(), signal.SIGKILL)

def test_hangs():
    threading.Event().wait()

def test_eats():
    held = b"x" * 1_500_000_000
    threading.Event().wait()

def test_writes():
    for _ in range(100):
        print("x" * 1_000_000)
    assert False, "after 100 MB"

def test_writes_past_the_capture():
    with open("/proc/self/fd/1", "ab") as file:
        for _ in range(100):
            file.write(b"y" * 1_000_000)

def test_after(): pass
"""
KEPT_CHARS_MAX = 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory processes use")
def test_hostile_tests_are_named_and_bounded_and_leave_the_others_alone(
    cell: CellUser, suite: Suite
) -> None:
    home = suite(test_hostile=HOSTILE, test_good=GOOD)
    limits = ("--test-timeout", "8", "--memory-limit", "1")

    ended = cell.at(home).here("test", "--workers", "2", *limits, "--json")

    told = {case["nodeid"].partition("::")[2]: case for case in ended.json["testcases"]}
    assert ended.code == 1
    assert told["test_kills"]["message"] == "crashed: signal SIGKILL"
    assert told["test_hangs"]["message"] == "timed out after 8 s"
    assert told["test_eats"]["message"].endswith("of memory; the limit is 1 GB")
    assert told["test_writes"]["message"] == "AssertionError: after 100 MB"
    assert {name: case["outcome"] for name, case in told.items()} == {
        **dict.fromkeys(("test_kills", "test_hangs", "test_eats"), "error"),
        "test_writes": "failed",
        **dict.fromkeys(("test_before", "test_after", "test_writes_past_the_capture"), "passed"),
        **dict.fromkeys(("test_one", "test_two"), "passed"),
    }
    sql = "SELECT max(length(output)) AS most FROM testcases"
    kept = cell.here("db", "query", sql, "--json").lines
    assert 0 < kept[0]["most"] <= KEPT_CHARS_MAX


def test_a_suite_that_ends_pytest_before_it_begins_is_told_so(cell: CellUser, suite: Suite) -> None:
    home = suite(conftest="import os\nos._exit(9)\n", test_good=GOOD)

    ended = cell.at(home).dtest("test")

    assert ended.code == 2
    assert "pytest crashed: exit code 9" in ended.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--maxfail", "0"], "--maxfail is 0"),
        (["--test-timeout", "-1"], "--test-timeout is -1"),
        (["--reruns", "99"], "--reruns is 99"),
        (["--html", "no/such/file.html"], "--html no/such/file.html cannot be written"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(
    cell: CellUser, suite: Suite, words: list[str], problem: str
) -> None:
    ended = cell.at(suite(test_good=GOOD)).here("test", *words)

    assert ended.code == 2
    assert problem in ended.err


def test_the_report_of_a_run_is_json_that_programs_read(cell: CellUser, suite: Suite) -> None:
    ended = cell.at(suite(test_good=GOOD)).dtest("test", "--json").good()

    told: dict[str, Any] = json.loads(ended.out)
    shown = cell.here("run", "show", told["run_id"], "--json").json
    assert shown["testcases"] == told["counts"] == {"passed": 2}
    assert all(task["type"] == "test" for task in shown["task_list"])
