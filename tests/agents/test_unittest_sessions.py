"""unittest in a lasting session: every test one verdict, fixtures run as unittest runs them."""

import sys
import unittest
from collections import Counter
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from dtest.events.attempt import AttemptFinished, TestcaseFinished
from dtest.events.reasons import Reason
from dtest.suites.suite import Suite, joined
from dtest.suites.unit import Part, Test, Unit, encode
from tests.kit.agent import Workbench, marked
from tests.kit.nats import eventually

ALL = """
import os, sys, time, unittest

class Plain(unittest.TestCase):
    def test_good(self): print("quiet")
    def test_bad(self):
        print("said before")
        self.assertEqual(1 + 1, 3)
    def test_error(self): raise RuntimeError("no such device")
    @unittest.skip("not here")
    def test_skip(self): pass
    @unittest.expectedFailure
    def test_known(self): self.fail()
    @unittest.expectedFailure
    def test_mended(self): pass
    def test_parts(self):
        for i in range(4):
            with self.subTest(i=i): self.assertNotIn(i, (1, 3))
    def test_partly_skipped(self):
        with self.subTest(i=1): self.skipTest("part")
        with self.subTest(i=2): pass
    def test_exit(self): sys.exit(3)

class Broken(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise ValueError("set up")
    def test_one(self): pass
    def test_two(self): pass

class Down(unittest.TestCase):
    @classmethod
    def tearDownClass(cls): raise ValueError("tear down")
    def test_one(self): pass

class Elsewhere(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise unittest.SkipTest("no display")
    def test_one(self): pass

class Asynchronous(unittest.IsolatedAsyncioTestCase):
    async def test_one(self): pass
"""
FIXTURES = """
import pathlib, unittest

def note(name):
    with pathlib.Path("notes.txt").open("a") as file:
        file.write(f"{name}\\n")

class Shared(unittest.TestCase):
    @classmethod
    def setUpClass(cls): note("class up")
    @classmethod
    def tearDownClass(cls): note("class down")
    def test_a(self): note("a")
    def test_b(self): note("b")

class Other(unittest.TestCase):
    def test_c(self): note("c")
"""
MODULE = """
import unittest
def setUpModule():
    unittest.addModuleCleanup(lambda: 1 / 0)
class T(unittest.TestCase):
    def test_t(self): pass
"""


class Session:
    """A workbench with one queue and a directory of tests."""

    def __init__(self, bench: Workbench, root: Path) -> None:
        self.bench = bench
        self.root = root
        self.queue = bench.stores.queue("q")
        root.mkdir()

    def write(self, **files: str) -> None:
        """Write files; two underscores in a name are a slash."""
        for name, text in files.items():
            path = self.root / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    def start(self, *arguments: str, **config: Any) -> None:
        """Start a session in the interpreter of these tests."""
        runner = {"name": "unittest", "arguments": list(arguments)}
        stated = {"queue": "q", "cwd": str(self.root), "runner": runner, **config}
        self.bench.start([], type="test", config=stated)

    async def all(self, *arguments: str, **config: Any) -> AttemptFinished:
        """Collect all, and run it as one unit for each file."""
        async with self.bench.agent():
            self.start(*arguments, collect=True, **config)
            self.suite = await self.told()
            parts: dict[str, list[Test]] = {}
            for place in range(len(self.suite.tests)):
                parts.setdefault(self.suite.file_at(place), []).append(self.suite.test_at(place))
            units = [Unit(f"u{n}", (Part(f, tuple(t)),)) for n, (f, t) in enumerate(parts.items())]
            await self.queue.put((unit.id, encode(unit)) for unit in units)
            self.queue.closed = True
            end = await self.bench.ended()
        assert marked(self.bench.directory) == []
        return end

    suite: Suite

    async def told(self) -> Suite:
        """What the session collected."""
        await eventually(lambda: bool(self.queue.told), what="the suite is told")
        return joined(self.queue.told)

    async def cases(self) -> dict[str, TestcaseFinished]:
        """The verdicts by node id; none may come twice."""
        facts = await self.bench.journal.facts(TestcaseFinished)
        found = {case.nodeid: case for case in facts}
        assert len(found) == len(facts)
        return found

    async def outcomes(self) -> dict[str, str]:
        """The outcomes by node id."""
        return {nodeid: case.outcome for nodeid, case in (await self.cases()).items()}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(Workbench(tmp_path / "agent"), tmp_path / "suite")


async def test_every_outcome_is_told(session: Session) -> None:
    session.write(test_all=ALL)
    end = await session.all()

    found = await session.cases()
    assert {name.partition("::")[2]: case.outcome for name, case in found.items()} == {
        "Plain::test_good": "passed",
        "Plain::test_bad": "failed",
        "Plain::test_error": "error",
        "Plain::test_skip": "skipped",
        "Plain::test_known": "xfailed",
        "Plain::test_mended": "failed",
        "Plain::test_parts": "failed",
        "Plain::test_partly_skipped": "passed",
        "Plain::test_exit": "error",
        "Broken::test_one": "error",
        "Broken::test_two": "error",
        "Down::test_one": "passed",
        "Down": "error",
        "Elsewhere::test_one": "skipped",
        "Asynchronous::test_one": "passed",
    }
    bad = found["test_all.py::Plain::test_bad"]
    assert (bad.message, bad.line) == ("AssertionError: 2 != 3", 6)
    assert "said before" in bad.output
    parts = found["test_all.py::Plain::test_parts"]
    assert parts.message.startswith("(i=1): AssertionError: 1 unexpectedly found")
    assert "(i=3)" in parts.output
    assert found["test_all.py::Broken::test_one"].message == "ValueError: set up"
    assert found["test_all.py::Down"].message == "tearDownClass: ValueError: tear down"
    assert found["test_all.py::Elsewhere::test_one"].message == "no display"
    assert (end.outcome, end.reason) == ("failed", Reason.ASSERTION_FAILED)


def test_the_verdicts_count_as_unittest_counts(tmp_path: Path) -> None:
    (tmp_path / "test_counted.py").write_text(ALL)
    try:
        result = unittest.TestResult()
        unittest.TestLoader().discover(str(tmp_path), "test_counted.py").run(result)
    finally:
        sys.modules.pop("test_counted", None)

    # Of subtests each counts there, and a failed set-up of a class counts once.
    assert len(result.failures) == 1 + 2
    assert len(result.errors) == 2 + 2
    assert len(result.unexpectedSuccesses) == 1


async def test_fixtures_of_classes_run_once_and_their_tests_stay_together(session: Session) -> None:
    session.write(test_shared=FIXTURES, test_module=MODULE)
    await session.all()

    assert dict(session.suite.tests) == {
        "test_module.py::T::test_t": "test_module.py",
        "test_shared.py::Other::test_c": "",
        "test_shared.py::Shared::test_a": "test_shared.py::Shared",
        "test_shared.py::Shared::test_b": "test_shared.py::Shared",
    }
    notes = (session.root / "notes.txt").read_text().split("\n")
    assert notes == ["c", "class up", "a", "b", "class down", ""]
    found = await session.cases()
    assert found["test_module.py"].message == "tearDownModule: ZeroDivisionError: division by zero"
    assert found["test_module.py"].phase == "teardown"


async def test_files_that_cannot_be_imported_or_skip_themselves_are_told(session: Session) -> None:
    session.write(
        pkg__tests____init__="",
        test_lost="import nothing_of_this_name",
        test_elsewhere="import unittest; raise unittest.SkipTest('not here')",
        test_torn="def (",
        test_good=MODULE,
    )
    (session.root / "pkg" / "__init__.py").touch()
    (session.root / "pkg" / "tests" / "__init__.py").touch()
    (session.root / "pkg" / "tests" / "test_in.py").write_text("from pkg import tests\n" + MODULE)
    await session.all()

    assert sorted(session.suite.broken) == ["test_lost.py", "test_torn.py"]
    assert session.suite.skipped == ("test_elsewhere.py",)
    found = await session.cases()
    assert "No module named 'nothing_of_this_name'" in found["test_lost.py"].message
    assert found["test_lost.py"].phase == "collect"
    assert (found["test_elsewhere.py"].outcome, found["test_elsewhere.py"].message) == (
        "skipped",
        "not here",
    )
    assert found["pkg/tests/test_in.py::T::test_t"].outcome == "passed"


DEATHS = """
import os, time, unittest
class T(unittest.TestCase):
    def test_a(self): pass
    def test_dies(self): os.abort()
    def test_exits(self): os._exit(0)
    def test_hangs(self): time.sleep(600)
    def test_z(self): pass
"""


async def test_a_test_that_takes_its_process_down_is_named_and_the_others_run(
    session: Session,
) -> None:
    session.write(test_deaths=DEATHS)
    end = await session.all(test_timeout_seconds=0.5)

    found = {name.rpartition("::")[2]: case for name, case in (await session.cases()).items()}
    assert {name: case.outcome for name, case in found.items()} == {
        "test_a": "passed",
        "test_dies": "error",
        "test_exits": "error",
        "test_hangs": "error",
        "test_z": "passed",
    }
    assert found["test_dies"].message == "crashed: signal SIGABRT"
    assert found["test_exits"].message.startswith("crashed: exit code 0 without finishing")
    assert found["test_hangs"].message == "timed out after 0.5 s"
    assert "test_hangs" in found["test_hangs"].output
    assert end.outcome == "failed"


async def test_a_death_between_tests_is_laid_to_the_class_before(session: Session) -> None:
    text = """
        import os, unittest
        class A(unittest.TestCase):
            @classmethod
            def tearDownClass(cls): os._exit(3)
            def test_a(self): pass
        class B(unittest.TestCase):
            def test_b(self): pass
    """
    session.write(test_down=text)
    end = await session.all()

    assert await session.outcomes() == {
        "test_down.py::A::test_a": "passed",
        "test_down.py::A": "error",
        "test_down.py::B::test_b": "passed",
    }
    assert end.outcome == "failed"


async def test_a_file_whose_import_ends_the_process_is_named_and_the_others_run(
    session: Session,
) -> None:
    session.write(test_deadly="import os; os._exit(7)", test_good=MODULE)
    await session.all()

    assert session.suite.broken == ("test_deadly.py",)
    found = await session.cases()
    assert found["test_deadly.py"].message.startswith("its import crashed: exit code 7")
    assert found["test_good.py::T::test_t"].outcome == "passed"


async def test_a_session_imports_only_the_files_of_its_units(session: Session) -> None:
    session.write(test_a=FIXTURES, test_b="raise RuntimeError('imported')")
    tests = [
        Test(n, f"Shared::{name}", name=f"test_a.py::Shared::{name}")
        for n, name in ((2, "test_b"), (9, "gone"))
    ]
    part = Part("test_a.py", tuple(tests))
    async with session.bench.agent():
        await session.queue.put([("u", encode(Unit("u", (part,))))])
        session.queue.closed = True
        session.start()
        await session.bench.ended()

    found = await session.cases()
    assert {name: (case.outcome, case.message) for name, case in found.items()} == {
        "test_a.py::Shared::test_b": ("passed", ""),
        "test_a.py::Shared::gone": (
            "error",
            (
                "the tests differ between processes: Shared::gone has 0 tests here, "
                "1 where the suite was collected"
            ),
        ),
    }


async def test_tests_are_named_by_file_class_or_name(session: Session) -> None:
    session.write(test_a=FIXTURES, check_b=MODULE)
    paths = ["test_a.py::Other", "test_a.py::Shared::test_a", "test_a.py::Nobody"]
    await session.all(paths=paths)

    assert await session.outcomes() == {
        "test_a.py::Other::test_c": "passed",
        "test_a.py::Shared::test_a": "passed",
        "test_a.py::Nobody": "error",
    }


async def test_what_several_paths_lead_to_is_run_once(session: Session) -> None:
    session.write(test_a=FIXTURES, test_lost="import nothing_of_this_name")
    await session.all(paths=[".", "test_a.py", ".", "test_lost.py"])

    assert len(session.suite.tests) == 3
    assert len(await session.cases()) == 4


async def test_processes_that_a_test_spawns_find_what_they_need(session: Session) -> None:
    text = """
        import multiprocessing, unittest
        def double(n): return 2 * n
        class T(unittest.TestCase):
            def test_spawns(self):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    self.assertEqual(pool.apply(double, (21,)), 42)
    """
    session.write(test_spawning=text)
    await session.all(test_timeout_seconds=30)

    assert await session.outcomes() == {"test_spawning.py::T::test_spawns": "passed"}


async def test_a_pattern_chooses_other_files(session: Session) -> None:
    session.write(test_a=FIXTURES, check_b=ALL)
    await session.all("-p", "check_*.py", paths=["."])

    assert session.suite.files == {"check_b.py"}


LOADED = """
import doctest, unittest

def twice(n):
    '''
    >>> twice(2)
    4
    '''
    return 2 * n

class T(unittest.TestCase):
    def test_t(self): pass

def load_tests(loader, tests, pattern):
    tests.addTests(doctest.DocTestSuite("test_loaded"))
    tests.addTests(loader.loadTestsFromTestCase(T))
    return tests
"""


async def test_what_a_module_adds_by_itself_is_run_too(session: Session) -> None:
    session.write(test_loaded=LOADED)
    await session.all()

    facts = await session.bench.journal.facts(TestcaseFinished)
    assert Counter((case.nodeid, case.outcome) for case in facts) == Counter(
        {
            ("test_loaded.py::T::test_t", "passed"): 2,
            ("test_loaded.py::test_loaded::twice", "passed"): 1,
        }
    )


@pytest.mark.parametrize(
    ("arguments", "paths", "said"),
    [
        (("--nothing",), [], b"unrecognized arguments: --nothing"),
        ((), ["nowhere"], b"there is no nowhere here"),
    ],
)
async def test_what_cannot_be_collected_at_all_says_why(
    session: Session, arguments: tuple[str, ...], paths: list[str], said: bytes
) -> None:
    async with session.bench.agent():
        session.start(*arguments, collect=True, paths=paths)
        end = await session.bench.ended()

    assert end.reason is Reason.MISSING_INPUT
    assert said in session.bench.stores.output("t.1")


async def test_what_is_no_text_does_not_lose_a_verdict(session: Session) -> None:
    text = """
        import unittest
        class T(unittest.TestCase):
            pass
        setattr(T, "test_\\udc80", lambda self: self.fail("\\udc80"))
    """
    session.write(test_odd=text)
    await session.all()

    (case,) = (await session.cases()).values()
    assert (case.nodeid, case.outcome) == ("test_odd.py::T::test_?", "failed")


async def test_much_output_is_kept_head_and_tail(session: Session) -> None:
    text = """
        import unittest
        class T(unittest.TestCase):
            def test_loud(self):
                for _ in range(100):
                    print("x" * 1_000_000)
                print("at the end")
                self.fail()
    """
    session.write(test_loud=text)
    await session.all()

    (case,) = (await session.cases()).values()
    assert len(case.output) < 100_000
    assert "at the end" in case.output


SHY = """
import unittest
class T(unittest.TestCase):
    def test_before(self): pass
    def test_shy(self): pass
    def run(self, result=None):
        if self._testMethodName == "test_before":
            return super().run(result)
        result.addSkip(self, "not even begun")
        result.stopTest(self)
"""


async def test_a_skip_without_a_start_is_a_skip(session: Session) -> None:
    session.write(test_shy=SHY)
    await session.all()

    assert {name: case.message for name, case in (await session.cases()).items()} == {
        "test_shy.py::T::test_before": "",
        "test_shy.py::T::test_shy": "not even begun",
    }
