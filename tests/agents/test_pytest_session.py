"""The pytest session: real suites in real child processes, read back record by record."""

import json
import os
import re
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from dtest.agents import pytest_session
from dtest.agents.pytest_session import (
    EXIT_CRASHED,
    EXIT_FAILED,
    EXIT_NO_TESTS,
    EXIT_PASSED,
    EXIT_USAGE,
    SESSION_MODULE,
)

PYTHON = sys.executable
OUTPUT_BYTES_MAX = 64 * 1024
TIMEOUT_S = 120
TWO_AROUND = "def test_before(): pass\n{}\ndef test_after(): pass\n"
DEATHS = {
    "os._exit(3)": (3, None, "crashed: exit code 3 without finishing, os._exit?"),
    "os._exit(0)": (0, None, "crashed: exit code 0 without finishing, os._exit?"),
    "ctypes.string_at(0)": (None, "SIGSEGV", "crashed: signal SIGSEGV"),
    "os.kill(os.getpid(), 9)": (None, "SIGKILL", "crashed: signal SIGKILL"),
}

Record = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """What a finished session left behind."""

    exit_code: int
    records: list[Record]
    stdout: str
    stderr: str

    def of_kind(self, kind: str) -> list[Record]:
        return [record for record in self.records if record["kind"] == kind]

    @property
    def cases(self) -> list[Record]:
        return self.of_kind("case")

    @property
    def finished(self) -> Record:
        assert self.records[-1]["kind"] == "finished"
        return self.records[-1]

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcome by node id; there is one case for each."""
        assert len(self.cases) == len({case["nodeid"] for case in self.cases})
        return {case["nodeid"]: case["outcome"] for case in self.cases}


class Suite:
    """A small suite on disk, and the command that runs it."""

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self.root = root / "suite"
        self.records = root / "cases.jsonl"
        for name, text in {"pytest.ini": "[pytest]\n", **files}.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
        unwanted = {"PYTHONPATH", "PYTEST_ADDOPTS", "PYTHONDONTWRITEBYTECODE"}
        kept = {name: value for name, value in os.environ.items() if name not in unwanted}
        self.env = {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "RECORDS": str(self.records)}

    def command(
        self, paths: Sequence[str], extra: Sequence[str], options: Sequence[str], python: str
    ) -> list[str]:
        listed = self.records.with_name("paths.txt")
        listed.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
        own = ["--python", python, "--cwd", str(self.root), "--out", str(self.records)]
        script = [sys.executable, "-I", "-m", SESSION_MODULE]
        return [*script, *own, "--paths-file", str(listed), *options, "--", *extra]

    def run(
        self,
        *paths: str,
        extra: Sequence[str] = (),
        options: Sequence[str] = (),
        python: str = PYTHON,
    ) -> Session:
        done = subprocess.run(
            self.command(paths, extra, options, python),
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        lines = self.records.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        return Session(done.returncode, records, done.stdout, done.stderr)

    def tree(self) -> set[Path]:
        return set(self.root.rglob("*"))


MakeSuite = Callable[[Mapping[str, str]], Suite]


@pytest.fixture
def suite(tmp_path: Path) -> MakeSuite:
    return lambda files: Suite(tmp_path, files)


EVERY_OUTCOME = """
    import unittest
    import pytest

    @pytest.fixture
    def broken_setup(): raise OSError("no device")
    @pytest.fixture
    def broken_teardown():
        yield
        raise OSError("device gone")

    def test_passed(): pass
    def test_failed():
        print("seen on stdout")
        assert 1 == 2, "numbers differ"
    def test_setup(broken_setup): pass
    def test_teardown(broken_teardown): pass
    def test_both(broken_teardown): assert False
    @pytest.mark.skip(reason="not today")
    def test_skip(): pass
    def test_skip_inside(): pytest.skip("not here")
    @pytest.mark.xfail(reason="known bug")
    def test_xfail(): assert False
    def test_xfail_inside(): pytest.xfail("known too")
    @pytest.mark.xfail(reason="mended")
    def test_xpass(): pass
    @pytest.mark.xfail(reason="mended", strict=True)
    def test_xpass_strict(): pass

    class TestUnit(unittest.TestCase):
        def test_passed(self): self.assertTrue(True)
        def test_failed(self): self.assertEqual(1, 2)
        @unittest.skip("later")
        def test_skip(self): pass
        @unittest.expectedFailure
        def test_expected(self): self.fail()
"""


def test_each_test_has_one_case_with_the_verdict_of_pytest(suite: MakeSuite) -> None:
    session = suite({"test_all.py": EVERY_OUTCOME}).run("test_all.py")

    told = {
        case["nodeid"].removeprefix("test_all.py::"): (
            case["outcome"],
            case["phase"],
            case["message"],
        )
        for case in session.cases
    }
    assert told == {
        "test_passed": ("passed", "call", ""),
        "test_failed": ("failed", "call", "AssertionError: numbers differ"),
        "test_setup": ("error", "setup", "OSError: no device"),
        "test_teardown": ("error", "teardown", "call passed; teardown: OSError: device gone"),
        "test_both": ("failed", "call", "assert False; teardown: OSError: device gone"),
        "test_skip": ("skipped", "setup", "not today"),
        "test_skip_inside": ("skipped", "call", "not here"),
        "test_xfail": ("xfailed", "call", "known bug"),
        "test_xfail_inside": ("xfailed", "call", "known too"),
        "test_xpass": ("xpassed", "call", "mended"),
        "test_xpass_strict": ("failed", "call", "[XPASS(strict)] mended"),
        "TestUnit::test_passed": ("passed", "call", ""),
        "TestUnit::test_failed": ("failed", "call", "AssertionError: 1 != 2"),
        "TestUnit::test_skip": ("skipped", "call", "later"),
        "TestUnit::test_expected": ("xfailed", "call", ""),
    }
    assert session.exit_code == EXIT_FAILED
    assert session.finished == {
        "kind": "finished",
        "runner_exit_code": 1,
        "collected": 15,
        "reported": 15,
        "crashed": [],
        "not_run": [],
        "outcome": "failed",
    }


def test_a_case_tells_where_when_and_what_was_seen(suite: MakeSuite) -> None:
    session = suite({"sub/test_all.py": EVERY_OUTCOME}).run("sub")

    passed, failed = session.cases[:2]
    assert (failed["file"], failed["line"]) == ("sub/test_all.py", 13)
    assert "numbers differ" in failed["output"]
    assert "---- Captured stdout call ----\nseen on stdout\n" in failed["output"]
    assert (passed["message"], passed["output"]) == ("", "")
    started = session.of_kind("started")
    assert [record["nodeid"] for record in started] == [case["nodeid"] for case in session.cases]
    assert started[0]["at"] == passed["at"]
    assert all(case["duration_s"] >= 0 for case in session.cases)
    first, second = session.records[:2]
    assert (first["kind"], first["rootdir"]) == ("session", str(session_root(first)))
    assert second == {"kind": "collected", "count": 15, "files": {"sub/test_all.py": 15}}


def session_root(record: Record) -> Path:
    root = Path(record["rootdir"])
    assert (root / "pytest.ini").exists()
    return root


def test_skips_xfails_and_lenient_xpasses_are_a_passed_session(suite: MakeSuite) -> None:
    text = EVERY_OUTCOME.replace("strict=True", "strict=False")
    named = ["passed", "skip", "xfail", "xpass", "xpass_strict"]

    session = suite({"test_all.py": text}).run(*(f"test_all.py::test_{name}" for name in named))

    assert (session.exit_code, session.finished["outcome"]) == (EXIT_PASSED, "passed")
    assert session.finished["reported"] == len(named)


@pytest.mark.parametrize("death", DEATHS)
def test_a_crash_costs_only_the_test_it_happened_in(suite: MakeSuite, death: str) -> None:
    crashing = TWO_AROUND.format(f"def test_crash():\n    import ctypes, os\n    {death}")
    session = suite({"test_a.py": crashing, "test_b.py": "def test_b(): pass\n"}).run(".")

    exit_code, signal_name, message = DEATHS[death]
    assert session.exit_code == EXIT_CRASHED
    assert session.outcomes == {
        "test_a.py::test_before": "passed",
        "test_a.py::test_crash": "error",
        "test_a.py::test_after": "passed",
        "test_b.py::test_b": "passed",
    }
    assert session.of_kind("crash") == [
        {
            "kind": "crash",
            "nodeid": "test_a.py::test_crash",
            "exit_code": exit_code,
            "signal": signal_name,
            "phase": "run",
        }
    ]
    assert [case["message"] for case in session.cases if case["message"]] == [message]
    assert len(session.of_kind("session")) == len(session.of_kind("collected")) == 1
    assert session.finished["crashed"] == ["test_a.py::test_crash"]
    assert (session.finished["outcome"], session.finished["runner_exit_code"]) == ("crashed", 0)


CRASHES = """
    import os, pytest

    @pytest.mark.parametrize("number", range(6))
    def test_crash(number): os._exit(9)
"""


def test_crashes_are_survived_up_to_a_limit(suite: MakeSuite) -> None:
    session = suite({"test_a.py": CRASHES}).run("test_a.py", options=["--max-crashes", "2"])

    assert session.finished["crashed"] == [f"test_a.py::test_crash[{n}]" for n in range(3)]
    assert session.finished["not_run"] == [f"test_a.py::test_crash[{n}]" for n in range(3, 6)]
    assert session.exit_code == EXIT_CRASHED


def test_a_suite_that_stops_at_its_first_failure_stops_at_a_crash(suite: MakeSuite) -> None:
    session = suite({"test_a.py": CRASHES}).run("test_a.py", extra=["--maxfail=2"])

    assert len(session.of_kind("crash")) == 2
    assert len(session.finished["not_run"]) == 4


def test_a_crash_while_collecting_ends_the_session(suite: MakeSuite) -> None:
    files = {"test_a.py": "import os\nos._exit(9)\n", "test_b.py": "def test_b(): pass\n"}

    session = suite(files).run("test_a.py", "test_b.py")

    (crash,) = session.of_kind("crash")
    assert (crash["nodeid"], crash["phase"]) == (None, "collect")
    assert (session.cases, session.finished["outcome"]) == ([], "crashed")
    assert session.exit_code == EXIT_CRASHED


def test_a_process_that_dies_after_pytest_has_finished_is_no_crash(suite: MakeSuite) -> None:
    text = "import atexit, os\ndef test_a(): atexit.register(os.kill, os.getpid(), 9)\n"

    session = suite({"test_a.py": text}).run("test_a.py")

    assert (session.exit_code, session.finished["runner_exit_code"]) == (EXIT_PASSED, 0)
    assert "pytest had finished, then died: crashed: signal SIGKILL" in session.stderr


@pytest.mark.parametrize("loaded", ["os", "duckdb"])
def test_what_a_test_leaves_to_the_end_of_the_process_is_done(
    suite: MakeSuite, loaded: str
) -> None:
    text = f"""\
        import atexit, pathlib, weakref, {loaded}
        class Held: pass
        held = Held()
        left = pathlib.Path(__file__).with_name("left.txt")
        def test_a():
            atexit.register(left.write_text, "done")
            weakref.finalize(held, left.with_name("finalized.txt").touch)
        """
    made = suite({"test_a.py": text})
    session = made.run(".")

    assert (session.exit_code, session.finished["runner_exit_code"]) == (EXIT_PASSED, 0)
    assert (made.root / "left.txt").read_text() == "done"
    assert (made.root / "finalized.txt").exists()
    assert "leaked" not in session.stdout + session.stderr


def test_half_a_record_is_dropped_when_the_process_dies_writing(suite: MakeSuite) -> None:
    text = """
        import os
        def test_torn():
            with open(os.environ["RECORDS"], "ab") as records:
                records.write(b'{"kind": "case", "node')
                records.flush()
                os.kill(os.getpid(), 9)
        def test_after(): pass
    """
    session = suite({"test_a.py": text}).run("test_a.py")

    assert session.outcomes == {"test_a.py::test_torn": "error", "test_a.py::test_after": "passed"}


def test_a_fork_that_comes_back_into_pytest_writes_nothing(suite: MakeSuite) -> None:
    text = """
        import os
        def test_fork():
            child = os.fork()
            if child:
                os.waitpid(child, 0)
        def test_after(): pass
    """
    session = suite({"test_a.py": text}).run("test_a.py")

    assert session.outcomes == {"test_a.py::test_fork": "passed", "test_a.py::test_after": "passed"}
    assert len(session.of_kind("started")) == 2
    assert session.exit_code == EXIT_PASSED


def test_files_that_cannot_be_collected_are_cases_and_the_others_run(suite: MakeSuite) -> None:
    files = {
        "test_bad.py": "import no_such_module\n",
        "test_syntax.py": "def (:\n",
        "test_skip.py": "import pytest\npytest.importorskip('no_such_module')\n",
        "test_fine.py": "def test_fine(): pass\n",
    }
    session = suite(files).run(".")

    told = {case["nodeid"]: (case["outcome"], case["phase"]) for case in session.cases}
    assert told == {
        "test_bad.py": ("error", "collect"),
        "test_syntax.py": ("error", "collect"),
        "test_skip.py": ("skipped", "collect"),
        "test_fine.py::test_fine": ("passed", "call"),
    }
    messages = {case["nodeid"]: case["message"] for case in session.cases}
    assert messages["test_bad.py"] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert messages["test_skip.py"].startswith("could not import 'no_such_module': No module named")
    assert (session.exit_code, session.finished["outcome"]) == (EXIT_FAILED, "error")


def test_a_file_that_cannot_be_collected_is_reported_once_despite_a_crash(suite: MakeSuite) -> None:
    crashing = TWO_AROUND.format("def test_crash():\n    import os\n    os._exit(3)")

    session = suite({"test_a.py": crashing, "test_bad.py": "import no_such_module\n"}).run(".")

    assert list(session.outcomes.values()) == ["error", "passed", "error", "passed"]


ODD = r"""
    import pytest

    ODD = ["a b ", "a::b", "x[0]", "é\u2028", "new\nline", "-x", "@f", "", "a/b", "::"]

    @pytest.mark.parametrize("value", ODD)
    def test_odd(value): pass

    class TestÜ:
        @pytest.mark.parametrize("value", ODD)
        def test_inside(self, value): pass
"""


def test_a_node_id_from_a_record_runs_that_test_alone(suite: MakeSuite) -> None:
    odd = suite({"-dash dir/test_odd.py": ODD, "@at/test_odd_too.py": ODD})
    everything = odd.run(".")
    (collected,) = everything.of_kind("collected")
    assert collected["count"] == len(everything.outcomes) == 40
    assert collected["files"] == {"-dash dir/test_odd.py": 20, "@at/test_odd_too.py": 20}

    chosen = list(everything.outcomes)[::3]
    session = odd.run(*chosen)

    assert session.outcomes == dict.fromkeys(chosen, "passed")


def test_classes_functions_and_whole_files_can_be_named_together(suite: MakeSuite) -> None:
    text = """
        import pytest
        class TestA:
            def test_1(self): pass
            def test_2(self): pass
        class TestAB:
            def test_1(self): pass
        @pytest.mark.parametrize("number", [1, 2])
        def test_p(number): pass
        def test_pq(): pass
    """
    named = suite({"test_a.py": text, "sub/test_b.py": "def test_1(): pass\ndef test_2(): pass\n"})

    session = named.run("test_a.py::TestA", "sub/test_b.py", "test_a.py::test_p")

    ran = {nodeid.rpartition("/")[2] for nodeid in session.outcomes}
    in_a = {f"test_a.py::{name}" for name in ("TestA::test_1", "TestA::test_2")}
    in_b = {f"test_b.py::{name}" for name in ("test_1", "test_2")}
    assert ran == {*in_a, *in_b, "test_a.py::test_p[1]", "test_a.py::test_p[2]"}


def test_a_name_that_no_test_has_is_an_error_and_the_others_run(suite: MakeSuite) -> None:
    some = suite({"test_a.py": "def test_a(): pass\n", "test_bad.py": "import no_such_module\n"})

    session = some.run("test_a.py::test_a", "test_a.py::test_b", "test_bad.py::test_c")

    assert session.outcomes == {
        "test_a.py::test_a": "passed",
        "test_a.py::test_b": "error",
        "test_bad.py": "error",
    }
    assert session.exit_code == EXIT_FAILED


def test_a_file_or_test_given_twice_is_run_once(suite: MakeSuite) -> None:
    twice = suite({"test_a.py": TWO_AROUND.format("")})

    assert list(twice.run("test_a.py", "test_a.py").outcomes) == [
        "test_a.py::test_before",
        "test_a.py::test_after",
    ]
    named = ["test_a.py::test_after"] * 2
    assert list(twice.run(*named).outcomes) == named[:1]


def test_thousands_of_named_tests_are_run(suite: MakeSuite) -> None:
    text = """
        import pytest
        @pytest.mark.parametrize("number", range(3000))
        def test_long_name(number): pass
    """
    name = "sub/" * 20 + "test_a.py"
    named = [f"{name}::test_long_name[{number}]" for number in range(0, 3000, 2)]

    session = suite({name: text}).run(*named, extra=["-q"])

    assert session.finished["collected"] == session.finished["reported"] == 1500
    assert session.exit_code == EXIT_PASSED


@pytest.mark.parametrize("flag", ["-x", "--stepwise"])
def test_tests_left_out_after_a_failure_are_listed_and_no_crash(
    suite: MakeSuite, flag: str
) -> None:
    text = TWO_AROUND.format("def test_failed(): assert False")

    session = suite({"test_a.py": text}).run("test_a.py", extra=[flag])

    assert session.finished["not_run"] == ["test_a.py::test_after"]
    assert (session.of_kind("crash"), session.exit_code) == ([], EXIT_FAILED)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("pytest.exit('enough')", "pytest.exit: enough"),
        ("pytest.exit('enough', returncode=0)", "pytest.exit: enough"),
    ],
)
def test_a_test_that_interrupts_pytest_is_an_error_and_no_crash(
    suite: MakeSuite, statement: str, reason: str
) -> None:
    text = TWO_AROUND.format(f"def test_stop():\n    import pytest\n    {statement}")

    session = suite({"test_a.py": text}).run("test_a.py")

    stopped = session.cases[-1]
    assert stopped["nodeid"] == "test_a.py::test_stop"
    assert (stopped["phase"], stopped["message"]) == ("call", f"interrupted: {reason}")
    assert session.finished["not_run"] == ["test_a.py::test_after"]
    assert session.finished["outcome"] == "error"
    assert (session.of_kind("crash"), session.exit_code) == ([], EXIT_FAILED)


def test_subtests_are_part_of_their_test(suite: MakeSuite) -> None:
    text = """
        import unittest
        def test_some_fail(subtests):
            for number in range(4):
                with subtests.test("part", number=number):
                    assert number % 2 == 0
        def test_none_fails(subtests):
            with subtests.test("part"): pass

        class TestUnit(unittest.TestCase):
            def test_some_fail(self):
                for number in range(4):
                    with self.subTest("part", number=number):
                        self.assertEqual(number % 2, 0)
            def test_none_fails(self):
                with self.subTest("part"): pass
    """
    session = suite({"test_a.py": text}).run("test_a.py")

    assert session.outcomes == {
        "test_a.py::test_some_fail": "failed",
        "test_a.py::test_none_fails": "passed",
        "test_a.py::TestUnit::test_some_fail": "failed",
        "test_a.py::TestUnit::test_none_fails": "passed",
    }
    for failed in [case for case in session.cases if case["outcome"] == "failed"]:
        assert failed["message"].startswith("2 failed subtest(s), first: ")
        assert failed["output"].count("number=1") == failed["output"].count("number=3") == 1


def test_doctests_are_cases(suite: MakeSuite) -> None:
    text = '''
        def good():
            """
            >>> 1 + 1
            2
            """
        def bad():
            """
            >>> 1 + 1
            3
            """
    '''
    session = suite({"module.py": text}).run("module.py", extra=["--doctest-modules"])

    assert session.outcomes == {
        "module.py::module.good": "passed",
        "module.py::module.bad": "failed",
    }


def test_long_output_keeps_its_head_and_tail(suite: MakeSuite) -> None:
    text = """
        def test_long():
            print("first" + "é" * 200_000 + "last")
            assert False, "m" * 9_000
    """
    (case,) = suite({"test_a.py": text}).run("test_a.py").cases

    size = len(case["output"].encode())
    assert OUTPUT_BYTES_MAX - 128 < size <= OUTPUT_BYTES_MAX
    assert "bytes left out ..." in case["output"]
    assert case["output"].startswith("def test_long():")
    assert case["output"].endswith("last\n")
    assert len(case["message"]) == 500


def test_output_that_is_no_text_is_still_valid_json(suite: MakeSuite) -> None:
    text = r"""
        def test_surrogate():
            assert False, "lone \ud800 surrogate"
    """
    (case,) = suite({"test_a.py": text}).run("test_a.py").cases

    assert case["message"].encode("utf-8") == rb"AssertionError: lone \ud800 surrogate"


def test_the_plugin_leaves_no_trace_for_the_tests(suite: MakeSuite) -> None:
    text = """
        import os, subprocess, sys
        SHOW = "import os, sys; print(*sys.path, *os.environ.items(), sep='\\\\n')"
        def test_path():
            child = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True)
            seen = [*sys.path, *map(str, os.environ.items()), *child.stdout.splitlines()]
            assert not [entry for entry in seen if "pytest_session" in entry]
            assert not [entry for entry in seen if "DTEST_PYTEST" in entry]
            assert os.environ.get("PYTHONPATH") == os.environ.get("EXPECTED")
    """
    clean = suite({"test_a.py": text})
    assert clean.run("test_a.py").exit_code == EXIT_PASSED

    for pythonpath in (str(clean.root), f"{clean.root}{os.pathsep}{clean.root}/sub", ""):
        clean.env.update(PYTHONPATH=pythonpath, EXPECTED=pythonpath)
        assert clean.run("test_a.py").exit_code == EXIT_PASSED


def test_the_directory_put_on_the_import_path_holds_one_module() -> None:
    plugin = Path(pytest_session.__file__).with_name("plugin")

    assert all(path.name.startswith("dtest_") for path in plugin.glob("*.py"))
    for path in plugin.glob("*.py"):
        assert not re.search(r"(import|from) dtest\b", path.read_text(encoding="utf-8"))


def test_nothing_is_written_into_the_tree_under_test(suite: MakeSuite) -> None:
    files = {"test_a.py": "import module\ndef test_a(): assert False\n", "module.py": ""}
    clean = suite(files)
    before = clean.tree()

    clean.run("test_a.py")

    assert clean.tree() == before


@pytest.mark.parametrize(
    "addopts",
    [
        "--strict-config --strict-markers -p no:cacheprovider",
        "-p no:terminal",
        "--tb=no -q --assert=plain",
        "-p no:logging -p no:capture --capture=no",
        "--import-mode=importlib -W error",
    ],
)
def test_settings_of_the_suite_are_respected(suite: MakeSuite, addopts: str) -> None:
    ini = f"[pytest]\naddopts = {addopts}\nfilterwarnings = error\n"
    text = TWO_AROUND.format("def test_failed(): raise OSError('no device')")

    session = suite({"pytest.ini": ini, "test_a.py": text}).run(".")

    assert list(session.outcomes.values()) == ["passed", "failed", "passed"]
    assert session.cases[1]["message"] == "OSError: no device"
    assert "OSError: no device" in session.cases[1]["output"]


def test_worker_processes_of_the_suite_are_turned_off(suite: MakeSuite) -> None:
    files = {
        "pytest.ini": "[pytest]\naddopts = -n auto\n",
        "conftest.py": """
            def pytest_addoption(parser):  # as xdist does
                parser.getgroup("xdist")._addoption("-n", dest="numprocesses")
        """,
        "test_a.py": "def test_a(pytestconfig): assert pytestconfig.option.numprocesses == 0\n",
    }
    session = suite(files).run("test_a.py")

    assert session.exit_code == EXIT_PASSED
    assert "dtest: runs without xdist workers" in session.stdout


@pytest.mark.parametrize("logged_apart", [True, False])
def test_a_test_that_a_plugin_runs_again_has_the_last_verdict(
    suite: MakeSuite, logged_apart: bool
) -> None:
    conftest = f"""
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):  # as rerunfailures does, and did
            where = dict(nodeid=item.nodeid, location=item.location)
            item.ihook.pytest_runtest_logstart(**where)
            for report in runtestprotocol(item, nextitem=item, log=False):
                if report.failed: report.outcome = "rerun"
                item.ihook.pytest_runtest_logreport(report=report)
            if {logged_apart}:
                item.ihook.pytest_runtest_logfinish(**where)
                item.ihook.pytest_runtest_logstart(**where)
            runtestprotocol(item, nextitem=nextitem)
            item.ihook.pytest_runtest_logfinish(**where)
            return True
    """
    flaky = "runs = []\ndef test_a():\n    runs.append(1)\n    assert len(runs) == 2\n"

    session = suite({"conftest.py": conftest, "test_a.py": flaky}).run("test_a.py")

    assert session.outcomes == {"test_a.py::test_a": "passed"}
    assert session.cases[0]["phase"] == "call"
    assert session.exit_code == EXIT_PASSED


def test_an_interpreter_without_pytest_is_named_with_the_next_step(
    suite: MakeSuite, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = str(tmp_path / "bare" / "bin" / "python")

    session = suite({"test_a.py": "def test_a(): pass\n"}).run("test_a.py", python=python)

    assert f"{python} cannot import pytest; next step: {python} -m pip install pytest" in (
        session.stderr
    )
    assert (session.exit_code, session.finished["outcome"]) == (EXIT_USAGE, "usage")


def test_an_interpreter_that_is_none_is_named(suite: MakeSuite, tmp_path: Path) -> None:
    python = str(tmp_path / "no-python")

    session = suite({"test_a.py": "def test_a(): pass\n"}).run("test_a.py", python=python)

    assert f"cannot start {python}: No such file or directory" in session.stderr
    assert (session.exit_code, session.finished["runner_exit_code"]) == (EXIT_USAGE, None)


@pytest.mark.parametrize(
    ("paths", "extra"),
    [
        (["test_gone.py"], []),
        (["test_a.py"], ["--no-such-option"]),
        (["test_a.py"], ["-p", "no_such_plugin"]),
        (["test_a.py"], ["--version"]),
    ],
)
def test_what_pytest_refuses_is_a_usage_error(
    suite: MakeSuite, paths: list[str], extra: list[str]
) -> None:
    session = suite({"test_a.py": "def test_a(): pass\n"}).run(*paths, extra=extra)

    assert (session.exit_code, session.finished["outcome"]) == (EXIT_USAGE, "usage")
    assert session.of_kind("crash") == []


def test_a_broken_configuration_is_an_error_and_no_crash(suite: MakeSuite) -> None:
    files = {
        "conftest.py": "def pytest_configure(config): raise OSError('no device')\n",
        "test_a.py": "def test_a(): pass\n",
    }
    session = suite(files).run("test_a.py")

    assert (session.exit_code, session.finished["outcome"]) == (EXIT_FAILED, "error")
    assert (session.of_kind("crash"), session.finished["runner_exit_code"]) == ([], 3)


def test_no_tests_has_a_code_of_its_own(suite: MakeSuite) -> None:
    session = suite({"test_a.py": "", "test_b.py": "def test_b(): pass\n"}).run("test_a.py")

    assert (session.exit_code, session.finished["outcome"]) == (EXIT_NO_TESTS, "no_tests")


def test_an_unreadable_order_is_a_usage_error(tmp_path: Path) -> None:
    known = ["--python", PYTHON, "--cwd", str(tmp_path), "--out", str(tmp_path / "cases.jsonl")]
    for arguments in (known, [*known, "--paths-file", str(tmp_path / "none.txt")]):
        done = subprocess.run(
            [sys.executable, "-I", "-m", SESSION_MODULE, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == EXIT_USAGE
        assert "paths-file" in done.stderr or "none.txt" in done.stderr


def test_sigterm_ends_pytest_and_the_session(suite: MakeSuite) -> None:
    text = """
        import os, signal
        def test_wait():
            print("pid", os.getpid(), flush=True)
            signal.pause()
    """
    waiting = suite({"test_a.py": text})
    command = waiting.command(["test_a.py"], ["-s"], [], PYTHON)

    with subprocess.Popen(command, env=waiting.env, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        pid = next(int(line.split()[-1]) for line in session.stdout if "pid" in line)
        session.terminate()
        assert session.wait(TIMEOUT_S) == -signal.SIGTERM

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    kinds = [json.loads(line)["kind"] for line in waiting.records.read_text().splitlines()]
    assert kinds == ["session", "collected", "started"]


def test_a_session_starts_no_run_of_its_own(suite: MakeSuite) -> None:
    own = ["-p", "dtest.pytest_plugin.entry", "--dtest", "--dtest-api", "http://127.0.0.1:9"]

    session = suite({"test_a.py": "def test_a(): pass\n"}).run(extra=own)

    assert session.outcomes == {"test_a.py::test_a": "passed"}
