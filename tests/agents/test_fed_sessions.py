"""Lasting sessions fed from a queue: every test one verdict, whatever tests do to the process."""

import asyncio
from collections import Counter
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from dtest.agents.feeder import Feeder
from dtest.events.attempt import AttemptFinished, TestcaseFinished
from dtest.events.reasons import Reason
from dtest.suites.suite import joined
from dtest.suites.unit import Part, Test, Unit, decode, encode
from tests.kit.agent import Workbench, marked
from tests.kit.nats import eventually
from tests.kit.queue import MemoryQueue

COUNTED = """
    import os, pathlib, pytest
    HERE = pathlib.Path(__file__).parent

    def note(name):
        with (HERE / "notes.txt").open("a") as file:
            file.write(f"{name}\\n")

    @pytest.fixture(scope="module")
    def module(): note("module up"); yield; note("module down")
    @pytest.fixture(scope="session", autouse=True)
    def session(): note(f"session {os.getpid()}"); yield
    @pytest.mark.parametrize("n", range(6))
    def test_n(module, n): note(f"test {n}")
"""


def suite(tmp_path: Path, **files: str) -> Path:
    root = tmp_path / "suite"
    root.mkdir()
    (root / "pytest.ini").write_text("[pytest]\n")
    for name, text in files.items():
        (root / f"{name}.py").write_text(dedent(text))
    return root


def unit(name: str, file: str, *tests: str, count: int = 6, together: bool = False) -> Unit:
    """Tests by name; of those with a parameter, which is their index, a function has ``count``."""
    chosen = tuple(planned(place, f"{file}::{test}", count) for place, test in enumerate(tests))
    return Unit(name, (Part(file, chosen, file if together else ""),))


def planned(number: int, nodeid: str, count: int = 6) -> Test:
    function, bracket, rest = nodeid.partition("::")[2].partition("[")
    if not bracket:
        return Test(number, function, name=nodeid)
    index = int(rest.rstrip("]").rpartition("-")[2])
    return Test(number, function, index, count, "", nodeid)


class Fed:
    """A workbench with one queue."""

    def __init__(self, bench: Workbench, root: Path) -> None:
        self.bench = bench
        self.root = root
        self.queue = bench.stores.queue("q")

    def start(self, task: str = "t", *, config: dict[str, Any] | None = None, **more: Any) -> None:
        environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        stated = {"queue": "q", "cwd": str(self.root), "env": environment, **(config or {})}
        self.bench.start([], task, type="test", config=stated, **more)

    async def put(self, *units: Unit, close: bool = True) -> None:
        await self.queue.put((each.id, encode(each)) for each in units)
        self.queue.closed = close

    async def cases(self, *tasks: str) -> Counter[tuple[str, str]]:
        facts = await self.bench.journal.facts(TestcaseFinished)
        return Counter(
            (case.nodeid.rpartition("::")[2], case.outcome)
            for case in facts
            if case.task_id in (tasks or ("t",))
        )

    async def end(self, task: str = "t") -> AttemptFinished:
        return await self.bench.ended(task)

    def notes(self) -> list[str]:
        return (self.root / "notes.txt").read_text().splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path / "agent")


async def test_one_session_runs_all_units_and_keeps_its_fixtures(
    bench: Workbench, tmp_path: Path
) -> None:
    fed = Fed(bench, suite(tmp_path, test_a=COUNTED))
    async with bench.agent():
        await fed.put(
            *(
                unit(f"u{n}", "test_a.py", f"test_n[{2 * n}]", f"test_n[{2 * n + 1}]")
                for n in (0, 1)
            ),
            close=False,
        )
        fed.start()
        await eventually(lambda: fed.queue.ended == ["u0", "u1"])
        await fed.put(unit("u2", "test_a.py", "test_n[4]", "test_n[5]"))
        end = await fed.end()

    assert (end.outcome, fed.queue.ended) == ("passed", ["u0", "u1", "u2"])
    assert await fed.cases() == Counter({(f"test_n[{n}]", "passed"): 1 for n in range(6)})
    assert sum(note.startswith("session") for note in fed.notes()) == 1
    assert [note for note in fed.notes() if note.startswith("test")] == [
        f"test {n}" for n in range(6)
    ]
    assert marked(bench.directory) == []


async def test_an_error_at_the_end_of_the_session_is_told_at_its_last_test(
    bench: Workbench, tmp_path: Path
) -> None:
    text = """
        import pytest
        @pytest.fixture(scope="session")
        def rude():
            yield
            raise OSError("cannot end")
        def test_a(rude): pass
    """
    fed = Fed(bench, suite(tmp_path, test_a=text))
    async with bench.agent():
        await fed.put(unit("u", "test_a.py", "test_a"))
        fed.start()
        end = await fed.end()
        cases = await bench.journal.facts(TestcaseFinished)

    assert end.outcome == "failed"
    assert [(case.outcome, case.phase) for case in cases] == [
        ("passed", "call"),
        ("error", "teardown"),
    ]
    assert "cannot end" in cases[1].message


async def test_a_session_that_collects_says_what_the_suite_holds(
    bench: Workbench, tmp_path: Path
) -> None:
    text = """
        import os, pytest, unittest
        class TestTogether:
            @pytest.fixture(scope="class")
            def dear(self): pass
            def test_a(self, dear): pass
        class TestPlain(unittest.TestCase):
            def test_b(self): pass
        class TestOwn(unittest.TestCase):
            @classmethod
            def setUpClass(cls): pass
            def test_c(self): pass
        @pytest.fixture(scope="module")
        def wide(): pass
        def test_d(wide): pass
        def test_e(): pass
    """
    root = suite(
        tmp_path,
        test_a=text,
        test_broken="import no_such_module",
        test_deadly="import os\nos._exit(1)",
        test_skips="import pytest\npytest.skip('not here', allow_module_level=True)",
    )
    fed = Fed(bench, root)
    async with bench.agent():
        fed.start(config={"collect": True, "paths": [".", "test_a.py::test_nowhere"]})
        await eventually(lambda: bool(fed.queue.told), within_s=60.0)
        found = joined(fed.queue.told)
        await fed.put(unit("u", "test_a.py", "test_e"))
        await fed.end()

    assert found.tests == (
        ("test_a.py::TestTogether::test_a", "test_a.py::TestTogether"),
        ("test_a.py::TestPlain::test_b", ""),
        ("test_a.py::TestOwn::test_c", "test_a.py::TestOwn"),
        ("test_a.py::test_d", "test_a.py"),
        ("test_a.py::test_e", ""),
    )
    assert found.skipped == ("test_skips.py",)
    assert set(found.broken) == {"test_broken.py", "test_a.py::test_nowhere"}
    assert await fed.cases() == Counter(
        {
            ("test_e", "passed"): 1,
            ("test_broken.py", "error"): 1,
            ("test_deadly.py", "error"): 1,
            ("test_nowhere", "error"): 1,
            ("test_skips.py", "skipped"): 1,
        }
    )


async def test_a_session_that_collects_says_what_marks_ask_for(
    bench: Workbench, tmp_path: Path
) -> None:
    text = """
        import pytest
        pytestmark = [pytest.mark.wide, pytest.mark.dtest(min_memory_gb=1)]

        def test_plain(): pass

        @pytest.mark.skipif(False, reason="x")
        class TestNear:
            pytestmark = pytest.mark.dtest(hardware="cuda", labels={"room": object(), "n": ("a",)})
            @pytest.mark.parametrize("n", [
                0, pytest.param(1, marks=pytest.mark.dtest("cuda", min_memory_gb=float("inf")))
            ])
            @pytest.mark.near
            def test_n(self, n): pass
    """
    root = suite(tmp_path, test_a=text, test_b="def test_b(): pass")
    (root / "pytest.ini").write_text(
        "[pytest]\nmarkers = wide\n near\naddopts = --strict-markers\n"
    )
    fed = Fed(bench, root)
    async with bench.agent():
        fed.start(config={"collect": True})
        await eventually(lambda: bool(fed.queue.told), within_s=60.0)
        found = joined(fed.queue.told)
        await fed.put()
        await fed.end()

    wide: tuple[list[Any], dict[str, Any]] = ([], {"min_memory_gb": 1})
    odd = found.marks_at(1).asked[0][1]
    assert odd["hardware"] == "cuda"
    assert odd["labels"]["n"] == ["a"]
    ((text,),) = odd["labels"]["room"]
    assert text.startswith("<object object")
    near: tuple[list[Any], dict[str, Any]] = ([], odd)
    assert {
        nodeid: (found.marks_at(place).names, list(found.marks_at(place).asked))
        for place, (nodeid, _) in enumerate(found.tests)
    } == {
        "test_a.py::test_plain": (("wide",), [wide]),
        "test_a.py::TestNear::test_n[0]": (("near", "wide"), [near, wide]),
        "test_a.py::TestNear::test_n[1]": (
            ("near", "wide"),
            [(["cuda"], {"min_memory_gb": [["inf"]]}), near, wide],
        ),
        "test_b.py::test_b": ((), []),
    }


async def test_fixtures_of_conftest_files_are_found_however_late_a_unit_comes(
    bench: Workbench, tmp_path: Path
) -> None:
    root = suite(tmp_path, conftest="import pytest\n@pytest.fixture\ndef top(): return 1")
    for name in ("one", "two"):
        (root / name).mkdir()
        (root / name / "conftest.py").write_text(
            f"import pytest\n@pytest.fixture\ndef near(): return {name!r}\n"
        )
        (root / name / f"test_{name}.py").write_text(
            f"def test_it(top, near): assert (top, near) == (1, {name!r})\n"
        )
    fed = Fed(bench, root)
    async with bench.agent():
        await fed.put(unit("u1", "one/test_one.py", "test_it"), close=False)
        fed.start()
        await eventually(lambda: fed.queue.ended == ["u1"], within_s=60.0)
        await fed.put(unit("u2", "two/test_two.py", "test_it"))
        end = await fed.end()

    assert (end.outcome, sum((await fed.cases()).values())) == ("passed", 2)


async def test_while_it_waits_a_session_imports_what_may_come(
    bench: Workbench, tmp_path: Path
) -> None:
    imported = """
        import pathlib
        with pathlib.Path(__file__).with_name("notes.txt").open("a") as file:
            file.write(f"{__name__}\\n")
        print("said at import")
        def test_it(): pass
    """
    fed = Fed(
        bench,
        suite(tmp_path, test_a=imported, test_bad="raise SystemExit(3)", test_c=imported),
    )
    async with bench.agent():
        fed.start()
        notes = fed.root / "notes.txt"
        await eventually(lambda: notes.exists() and len(fed.notes()) == 2)
        await fed.put(unit("u", "test_c.py", "test_it"))
        end = await fed.end()

    assert end.outcome == "passed"
    assert fed.notes() == ["test_a", "test_c"]
    assert await fed.cases() == Counter({("test_it", "passed"): 1})
    assert b"said at import" not in bench.stores.output()


async def test_an_import_that_nobody_asked_for_may_end_the_process(
    bench: Workbench, tmp_path: Path
) -> None:
    deadly = """
        import os, pathlib
        with pathlib.Path(__file__).with_name("notes.txt").open("a") as file:
            file.write("died\\n")
        os._exit(7)
    """
    fed = Fed(bench, suite(tmp_path, test_a=deadly, test_b="def test_it(): pass"))
    async with bench.agent():
        fed.start()
        notes = fed.root / "notes.txt"
        await eventually(notes.exists)
        await fed.put(unit("u", "test_b.py", "test_it"))
        end = await fed.end()

    assert end.outcome == "passed"
    assert fed.notes() == ["died"]
    assert await fed.cases() == Counter({("test_it", "passed"): 1})


async def test_an_empty_queue_that_is_closed_ends_the_session(
    bench: Workbench, tmp_path: Path
) -> None:
    fed = Fed(bench, suite(tmp_path, test_a="def test_a(): pass"))
    async with bench.agent():
        await fed.put()
        fed.start()
        end = await fed.end()

    assert (end.outcome, await fed.cases()) == ("passed", Counter())


async def test_each_test_that_ends_the_process_is_named_and_the_others_run(
    bench: Workbench, tmp_path: Path
) -> None:
    text = """
        import os, signal, time
        def test_exit(): os._exit(3)
        def test_a(): pass
        def test_kill(): os.kill(os.getpid(), signal.SIGKILL)
        def test_hang(): time.sleep(600)
        def test_fails(): assert False
        def test_b(): pass
    """
    root = suite(tmp_path, test_a=text, test_b="import os\nos._exit(1)\n", test_c="def test_c(): 0")
    fed = Fed(bench, root)
    async with bench.agent():
        await fed.put(Unit("u", (Part("test_a.py"), Part("test_b.py"), Part("test_c.py"))))
        fed.start(config={"test_timeout_seconds": 1.0})
        end = await fed.end()
        cases = {case.nodeid: case for case in await bench.journal.facts(TestcaseFinished)}

    assert (end.outcome, end.reason) == ("failed", Reason.ASSERTION_FAILED)
    assert await fed.cases() == Counter(
        {
            ("test_exit", "error"): 1,
            ("test_a", "passed"): 1,
            ("test_kill", "error"): 1,
            ("test_hang", "error"): 1,
            ("test_fails", "failed"): 1,
            ("test_b", "passed"): 1,
            ("test_b.py", "error"): 1,
            ("test_c", "passed"): 1,
        }
    )
    assert cases["test_a.py::test_exit"].message == (
        "crashed: exit code 3 without finishing, os._exit?"
    )
    assert cases["test_a.py::test_kill"].message == "crashed: signal SIGKILL"
    assert cases["test_a.py::test_hang"].message == "timed out after 1 s"
    assert "test_hang" in cases["test_a.py::test_hang"].output  # where it hung
    assert cases["test_b.py"].message.startswith("its import crashed")
    assert fed.queue.ended == ["u"]


async def test_a_test_that_eats_memory_is_ended_alone(bench: Workbench, tmp_path: Path) -> None:
    text = """
        import time
        def test_eats():
            hoard = bytearray(b"x") * 700_000_000
            time.sleep(600)
        def test_a(): pass
    """
    fed = Fed(bench, suite(tmp_path, test_a=text))
    async with bench.agent():
        await fed.put(unit("u", "test_a.py", "test_eats", "test_a"))
        fed.start(memory_limit_gb=0.4)
        await fed.end()
        cases = {case.nodeid: case for case in await bench.journal.facts(TestcaseFinished)}

    assert await fed.cases() == Counter({("test_eats", "error"): 1, ("test_a", "passed"): 1})
    assert cases["test_a.py::test_eats"].message.endswith("GB of memory; the limit is 0.4 GB")


async def test_who_has_nothing_to_do_gets_half_of_what_is_left(
    bench: Workbench, tmp_path: Path
) -> None:
    text = """
        import os, pathlib, pytest, time
        GO = pathlib.Path(__file__).with_name("go")
        @pytest.mark.parametrize("n", range(20))
        def test_n(n):
            while n == 0 and not GO.exists():
                time.sleep(0.01)
    """
    fed = Fed(bench, suite(tmp_path, test_a=text))
    names = [f"test_n[{n}]" for n in range(20)]
    async with bench.agent():
        await fed.put(unit("u", "test_a.py", *names, count=20))
        fed.start("t")
        fed.start("t2")

        async def others_have_some() -> bool:
            told = {task: await fed.cases(task) for task in ("t", "t2")}
            return sum(map(len, told.values())) >= 9

        await eventually(others_have_some, what="tests run elsewhere")
        (fed.root / "go").touch()
        for task in ("t", "t2"):
            assert (await fed.end(task)).outcome == "passed"

    assert await fed.cases("t", "t2") == Counter({(name, "passed"): 1 for name in names})
    assert any(name.startswith("u-") for name in fed.queue.ended)


async def test_a_session_that_gave_the_rest_away_asks_for_more(tmp_path: Path) -> None:
    """Its last test waits for a successor, or for the word that there is none."""
    queue = MemoryQueue()
    await queue.put([("u", encode(unit("u", "test_a.py", *(f"test_{n}" for n in range(3)))))])
    feeder = Feeder(queue, tmp_path, name="t", read=lambda: None)
    following = asyncio.create_task(feeder.follow())
    feed = tmp_path / "feed.jsonl"
    await eventually(lambda: feed.exists() and b'"u/1"' in feed.read_bytes(), what="two are out")

    await queue.say_hungry("another")

    await eventually(
        lambda: any(name.startswith("u-") for name, _ in queue.held.values()),
        what="nobody else wanted it, so it is taken back",
    )
    following.cancel()


async def test_what_two_sessions_give_of_one_unit_stands_in_the_queue(tmp_path: Path) -> None:
    """The first dies before it is done; the second gives more of the unit than the first did."""
    tests = [f"test_{n}" for n in range(8)]
    queue = MemoryQueue()
    await queue.put([("u", encode(unit("u", "test_a.py", *tests)))])
    given: list[set[str]] = []
    for number, slices in ((1, 4), (2, 1)):
        place = tmp_path / str(number)
        place.mkdir()
        feeder = Feeder(queue, place, name=f"t{number}", read=lambda: None)
        pulled = await queue.pull(0.1)
        assert pulled is not None
        await feeder._take(pulled)  # noqa: SLF001 - one step at a time
        held = feeder._held["u"]  # noqa: SLF001
        held.given, held.slices = slices, 1
        feeder._hungry.add("another")  # noqa: SLF001
        feeder._give(1e9)  # noqa: SLF001
        await feeder._acknowledge()  # noqa: SLF001
        units = [decode(body) for name, body in queue.waiting if name != "u"]
        named = [part.tests or () for unit in units for part in unit.parts]
        given.append({test.name for tests in named for test in tests})
        kept = {test.name for piece in held.pieces for part in piece for test in part.tests or ()}
        assert given[-1] >= {f"test_a.py::{name}" for name in tests} - kept
        await queue.give_back(pulled.handle)

    assert given[0] < given[1]


async def test_ids_that_every_process_makes_anew_are_found_by_their_places(
    bench: Workbench, tmp_path: Path
) -> None:
    text = """
        import os, pytest
        @pytest.mark.parametrize("n", [f"{os.getpid()}-{n}" for n in range(4)])
        def test_n(n): pass
    """
    fed = Fed(bench, suite(tmp_path, test_a=text))
    async with bench.agent():
        tests = tuple(planned(n, f"test_a.py::test_n[1-{n}]", count=4) for n in (1, 3))
        missing = (planned(7, "test_a.py::test_n[1-1]", count=8),)
        await fed.put(Unit("u", (Part("test_a.py", tests + missing),)))
        fed.start()
        await fed.end()
        cases = await bench.journal.facts(TestcaseFinished)

    assert Counter(case.outcome for case in cases) == {"passed": 2, "error": 1}
    (lost,) = (case for case in cases if case.outcome == "error")
    assert "test_n has 4 tests here, 8 where the suite was collected" in lost.message
    assert {case.number for case in cases} == {1, 3, 7}


async def test_a_restarted_agent_goes_on_feeding(bench: Workbench, tmp_path: Path) -> None:
    text = """
        import pathlib, time
        GO = pathlib.Path(__file__).with_name("go")
        def test_waits():
            while not GO.exists(): time.sleep(0.01)
        def test_b(): pass
    """
    fed = Fed(bench, suite(tmp_path, test_a=text))
    async with bench.agent():
        await fed.put(unit("u", "test_a.py", "test_waits"), close=False)
        fed.start()
        await eventually(lambda: any(slot for slot in bench.slots()))
        feed = next((bench.directory / "slots").iterdir()) / "feed.jsonl"
        await eventually(lambda: feed.exists() and feed.read_bytes().count(b"\n") >= 1)
    async with bench.agent():
        (fed.root / "go").touch()
        await fed.put(unit("u2", "test_a.py", "test_b"))
        end = await fed.end()

    assert end.outcome == "passed"
    assert set(await fed.cases()) == {("test_waits", "passed"), ("test_b", "passed")}
    assert sorted(fed.queue.ended) == ["u", "u2"]


async def test_units_of_a_stopped_session_go_back(bench: Workbench, tmp_path: Path) -> None:
    text = "import time\ndef test_hangs(): time.sleep(600)\n"
    fed = Fed(bench, suite(tmp_path, test_a=text))
    async with bench.agent():
        await fed.put(unit("u", "test_a.py", "test_hangs"))
        fed.start()
        await eventually(lambda: bool(fed.queue.held))
        assert bench.executor.held()
        bench.executor.stop(bench.executor.held()[0].task_id, 1, Reason.CANCELLED_USER)
        end = await fed.end()

    assert end.outcome == "cancelled"
    assert [name for name, _ in fed.queue.waiting] == ["u"]
    assert marked(bench.directory) == []


async def test_an_internal_error_is_told_and_the_others_run_once(
    bench: Workbench, tmp_path: Path
) -> None:
    root = suite(tmp_path, test_a=COUNTED)
    (root / "conftest.py").write_text(
        "def pytest_runtest_makereport(item):\n"
        "    if item.name == 'test_n[2]': raise KeyError('no tracker')\n"
    )
    fed = Fed(bench, root)
    async with bench.agent():
        await fed.put(unit("u", "test_a.py", *(f"test_n[{n}]" for n in range(6))))
        fed.start()
        end = await fed.end()

    assert (end.outcome, end.reason) == ("failed", Reason.EXIT_NONZERO)
    assert end.detail == "internal error of pytest: KeyError: 'no tracker'"
    assert await fed.cases() == Counter(
        {
            ("test_n[2]", "error"): 1,
            **{(f"test_n[{n}]", "passed"): 1 for n in (0, 1, 3, 4, 5)},
        }
    )
    assert [note for note in fed.notes() if note.startswith("test")] == [
        f"test {n}" for n in (0, 1, 3, 4, 5)
    ], "its report of the set-up was the error"


async def test_a_session_does_not_live_in_the_world_of_its_suite(
    bench: Workbench, tmp_path: Path
) -> None:
    text = """
        import json, os, time
        import pytest

        @pytest.fixture(scope="module", autouse=True)
        def sealed():
            def no(*_, **__):
                raise AssertionError("sealed")
            patch = pytest.MonkeyPatch()
            for module, name in (
                (json, "loads"), (json, "dumps"), (os, "write"), (time, "sleep")
            ):
                patch.setattr(module, name, no)
            yield
            patch.undo()

        @pytest.mark.parametrize("n", range(6))
        def test_n(n): pass
    """
    fed = Fed(bench, suite(tmp_path, test_a=text))
    async with bench.agent():
        await fed.put(unit("u0", "test_a.py", "test_n[0]", "test_n[1]"), close=False)
        fed.start()
        await eventually(lambda: fed.queue.ended == ["u0"])
        await fed.put(unit("u1", "test_a.py", *(f"test_n[{n}]" for n in range(2, 6))))
        end = await fed.end()

    assert (end.outcome, end.detail) == ("passed", "")
    assert await fed.cases() == Counter({(f"test_n[{n}]", "passed"): 1 for n in range(6)})
