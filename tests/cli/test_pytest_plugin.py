"""``pytest --dtest``: what people type into pytest, run by a cell."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from junitparser import JUnitXml

from tests.cli.cell import CellUser
from tests.cli.command import Ended, Person, eventually, interrupt
from tests.cli.conftest import Suite
from tests.cli.test_suites import ALL_OUTCOMES, CRASH, GOOD

CALL = ("-m", "pytest", "-p", "dtest.pytest_plugin.entry")
HANG = "import pathlib, threading\n\ndef test_waits():\n    pathlib.Path('waits').touch()\n"
FLAKY = """
import pathlib

def test_second_try():
    seen = pathlib.Path("seen")
    first = not seen.exists()
    seen.touch()
    assert not first
"""


def called(person: Person, *arguments: str) -> Ended:
    """What a call of pytest comes to."""
    return person.dtest(*CALL, *arguments, program=sys.executable)


def tally(ended: Ended) -> Counter[str]:
    """The counts of pytest's last line."""
    last = ended.out.strip().splitlines()[-1]
    found = re.findall(r"(\d+) ([a-z ]+?)(?=,| in )", last)
    return Counter({name: int(count) for count, name in found})


def test_an_ordinary_call_ends_and_reads_as_it_would_here(cell: CellUser, suite: Suite) -> None:
    home = suite(ini="addopts = -ra --dtest\n", test_all=ALL_OUTCOMES)

    here = called(cell.at(home), "-o", "addopts=-ra")
    there = called(cell.at(home), "--junitxml", "report.xml", "--durations", "2")

    assert here.code == there.code == 1, there.err
    assert (
        tally(here)
        == tally(there)
        == Counter({"failed": 1, "passed": 1, "skipped": 1, "xfailed": 1, "xpassed": 1, "error": 1})
    )
    for line in (
        "SKIPPED [1] test_all.py:18: not here",
        "ERROR test_all.py::test_without_its_fixture - RuntimeError: no such device",
        "FAILED test_all.py::test_bad - AssertionError: arithmetic",
        "E       AssertionError: arithmetic",
        "said before",
    ):
        assert line in here.out
        assert line in there.out
    assert "slowest 2 durations" in there.out
    report = JUnitXml.fromfile(str(home / "report.xml"))
    assert (report.tests, report.failures, report.errors, report.skipped) == (6, 1, 1, 2)
    assert "said before" in (home / "report.xml").read_text()


def test_paths_and_expressions_choose(cell: CellUser, suite: Suite) -> None:
    home = suite(test_a=GOOD, test_b=GOOD)

    ended = called(cell.at(home), "--dtest", "-v", "test_b.py", "-kone")

    assert ended.code == 0, ended.err
    assert re.search(r"test_b.py::test_one PASSED +\[100%\]", ended.out)
    assert tally(ended) == {"passed": 1}
    assert (
        called(cell.at(home), "--dtest", "-k", "nothing").code == pytest.ExitCode.NO_TESTS_COLLECTED
    )


def test_what_failed_last_time_is_known_to_pytest_itself(cell: CellUser, suite: Suite) -> None:
    home = suite(test_all=ALL_OUTCOMES)
    called(cell.at(home), "test_all.py")

    ended = called(cell.at(home), "--dtest", "--lf")

    assert tally(ended) == {"failed": 1, "error": 1}


def test_it_ends_at_the_first_failure(cell: CellUser, suite: Suite) -> None:
    bad = "def test_bad():\n    assert False\n"
    home = suite(test_a=bad + HANG + "    threading.Event().wait()\n")

    ended = called(cell.at(home), "--dtest", "-x")

    assert ended.code == 1
    assert "stopping after 1 failures" in ended.out
    assert tally(ended) == {"failed": 1}


def test_what_passes_at_its_second_try_is_flaky(cell: CellUser, suite: Suite) -> None:
    home = suite(test_flaky=FLAKY + GOOD)

    ended = called(cell.at(home), "--dtest", "--dtest-reruns", "1")

    assert ended.code == 0, ended.out
    assert tally(ended) == {"passed": 2, "flaky": 1, "rerun": 1}
    assert "FLAKY test_flaky.py::test_second_try" in ended.out


def test_a_test_that_falls_is_named_and_a_broken_file_is_told(cell: CellUser, suite: Suite) -> None:
    home = suite(test_falls=CRASH, test_broken="import no_such_module\n")

    ended = called(cell.at(home), "--dtest")

    assert ended.code == 1
    assert "FAILED test_falls.py::test_falls - crashed: signal SIGABRT" in ended.out
    assert "ERROR test_broken.py" in ended.out
    assert tally(ended) == {"failed": 1, "passed": 2, "error": 1}


def test_what_could_not_be_run_has_an_exit_code_of_its_own(cell: CellUser, suite: Suite) -> None:
    home = suite(test_a=GOOD + HANG + "    threading.Event().wait()\n")
    someone = cell.at(home)
    with someone.started(*CALL, "--dtest", program=sys.executable) as call:
        eventually((home / "waits").exists, what="the test waits", within_s=60)
        someone.here("run", "cancel", "@last")
        out, err = call.communicate(timeout=60)

    assert call.returncode == 7, err
    assert "NOT PROVEN test_a.py::test_waits" in out
    assert tally(Ended(7, out, err)) == {"passed": 2, "not proven": 1}


def test_an_interrupt_ends_the_run_and_tells_what_is_known(cell: CellUser, suite: Suite) -> None:
    home = suite(test_a=GOOD + HANG + "    threading.Event().wait()\n")
    with cell.at(home).started(*CALL, "--dtest", program=sys.executable) as call:
        eventually((home / "waits").exists, what="the test waits", within_s=60)

        def known() -> bool:
            run = cell.here("run", "show", "@last", "--json").json
            return bool(run["testcases"].get("passed") == 2)

        eventually(known, what="two verdicts known", within_s=60)
        ended = interrupt(call)

    assert ended.code == pytest.ExitCode.INTERRUPTED, ended.err
    assert "KeyboardInterrupt" in ended.out
    assert tally(ended) == {"passed": 2}
    run = cell.here("run", "show", "@last", "--json").json
    assert run["finished"]
    assert run["cancelled"]


def test_files_are_brought_to_workers_that_do_not_see_them(cell: CellUser, suite: Suite) -> None:
    home = suite()
    text = f"import os\n\ndef test_elsewhere():\n    assert os.getcwd() != {str(home)!r}\n"
    (home / "test_where.py").write_text(text)

    here = called(cell.at(home), "--dtest")
    there = called(cell.at(home), "--dtest", "--dtest-ship", f"--dtest-python={sys.executable}")

    assert (here.code, there.code) == (1, 0), there.out


def test_options_that_need_one_process_are_refused(cell: CellUser, suite: Suite) -> None:
    home = suite(test_good=GOOD)

    ended = called(cell.at(home), "--dtest", "--pdb", "--stepwise")

    assert ended.code == pytest.ExitCode.USAGE_ERROR
    assert "--pdb does not go with --dtest: the tests run in other processes" in ended.err
    assert "--stepwise does not go with --dtest" in ended.err


def test_sessions_have_directories_of_their_own_below_the_one_that_is_given(
    cell: CellUser, suite: Suite
) -> None:
    text = (
        "import pytest, time\n"
        "@pytest.mark.parametrize('n', range(6))\n"
        "def test_n(tmp_path, n):\n"
        "    (tmp_path / 'file').touch()\n"
        "    time.sleep(0.2)\n"
        "    assert (tmp_path / 'file').exists()\n"
        "    assert tmp_path.parent.parent.name == 'given'\n"
    )
    home = suite(test_a=text)

    ended = called(cell.at(home), "--dtest", "--dtest-workers", "2", "--basetemp", "given")

    assert ended.code == 0, ended.out
    assert len([path for path in (home / "given").iterdir() if path.name[:6] == "popen-"]) == 2


def test_no_cell_is_needed_to_collect(person: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)

    ended = called(person.at(home), "--dtest", "--collect-only", "-q")

    assert ended.code == 0
    assert "test_good.py::test_one" in ended.out
    assert not person.processes()


def test_no_cell_has_to_be_up(person: Person, suite: Suite) -> None:
    home = suite(ini="filterwarnings = error\n", test_good=GOOD)
    everyone = person.at(home, PYTEST_DISABLE_PLUGIN_AUTOLOAD="", PYTEST_ADDOPTS="--dtest")

    ended = everyone.dtest("-m", "pytest", "-p", "no:xdist", program=sys.executable)

    assert ended.code == 0, ended.out + ended.err
    assert tally(ended) == {"passed": 2}
    assert "dtest-" in ended.out  # installed, so nobody has to name it
    person.nothing_is_left()


def test_a_call_without_it_loads_nothing_of_it(tmp_path: Path) -> None:
    script = (
        "import sys, pytest\n"
        f"pytest.main(['-p', 'dtest.pytest_plugin.entry', '--co', {str(tmp_path)!r}])\n"
        "print(sorted(name for name in sys.modules if name.startswith(('dtest', 'pydantic'))))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    loaded = "['dtest', 'dtest.pytest_plugin', 'dtest.pytest_plugin.entry']"
    assert done.stdout.splitlines()[-1] == loaded
