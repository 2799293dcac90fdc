"""Sessions of other runners: every test one verdict, whatever runners write or do not write."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from dtest.events.attempt import AttemptFinished, TestcaseFinished
from dtest.events.reasons import Reason
from dtest.suites.suite import Suite, joined
from dtest.suites.unit import Part, Test, Unit, encode
from tests.kit import gtest_program
from tests.kit.agent import Workbench, marked
from tests.kit.nats import eventually

RECORDED = Path(__file__).parents[1] / "runners" / "recorded"
NODE = RECORDED / "node-20.junit.xml"
MATH = ("Adds", "Fails", "DISABLED_Later", "Skips", "Dies", "AfterDeath", "Hangs")


class Foreign:
    """A workbench with one queue, and a runner."""

    def __init__(self, bench: Workbench, root: Path) -> None:
        self.bench = bench
        self.root = root
        self.queue = bench.stores.queue("q")
        root.mkdir()

    def start(self, runner: str, *arguments: str, **more: Any) -> None:
        """Start a session."""
        results = more.pop("results", None)
        config = {
            "queue": "q",
            "cwd": str(self.root),
            "runner": {"name": runner, "arguments": list(arguments), "results": results},
            **more.pop("config", {}),
        }
        self.bench.start([], type="test", config=config, **more)

    async def put(self, *parts: Part) -> None:
        """Fill the queue: a unit for each."""
        units = [Unit(f"u{number}", (part,)) for number, part in enumerate(parts)]
        await self.queue.put((unit.id, encode(unit)) for unit in units)
        self.queue.closed = True

    async def run(self, runner: str, *arguments: str, parts: list[Part], **more: Any) -> None:
        """Run to the end."""
        async with self.bench.agent():
            await self.put(*parts)
            self.start(runner, *arguments, **more)
            self.end = await self.bench.ended()
        assert self.queue.ended == [f"u{number}" for number in range(len(parts))]
        assert marked(self.bench.directory) == []

    end: AttemptFinished

    async def cases(self) -> dict[str, TestcaseFinished]:
        """The verdicts by node id; none may come twice."""
        facts = await self.bench.journal.facts(TestcaseFinished)
        found = {case.nodeid: case for case in facts}
        assert len(found) == len(facts)
        return found

    async def outcomes(self) -> dict[str, str]:
        """The outcomes by node id."""
        return {nodeid: case.outcome for nodeid, case in (await self.cases()).items()}

    async def suite(self) -> Suite:
        """What the session collected."""
        await eventually(lambda: bool(self.queue.told), what="the suite is told")
        return joined(self.queue.told)

    def script(self, name: str, text: str) -> str:
        """Write a program."""
        path = self.root / name
        path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
        path.chmod(0o755)
        return f"./{name}"

    def gtest(self, *flags: str) -> None:
        """Put a GoogleTest program in place."""
        text = Path(gtest_program.__file__).read_text(encoding="utf-8")
        self.script("t", text.partition("\n")[2])
        for flag in flags:
            (self.root / flag).touch()


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    return Foreign(Workbench(tmp_path / "agent"), tmp_path / "suite")


def whole(file: str) -> Part:
    return Part(file)


def part_of(file: str, *names: str) -> Part:
    return Part(file, tuple(Test(n, name=f"{file}::{name}") for n, name in enumerate(names)))


async def test_a_command_that_writes_junit_becomes_cases(foreign: Foreign) -> None:
    await foreign.run("command", "sh", "-c", f"cat {NODE}; exit 1", parts=[whole("sh")])

    found = await foreign.cases()
    assert len(found) == 7
    assert (found["sh::fails"].outcome, found["sh::fails"].file) == ("failed", "sh")
    assert "2 !== 3" in found["sh::fails"].output
    assert (foreign.end.outcome, foreign.end.reason) == ("failed", Reason.ASSERTION_FAILED)


GOOD = "echo 1..1; echo ok 1 - a; "
PROBLEMS = [
    ("echo 1..3; echo ok 1 - a; echo not ok 2 - b", "planned 3 tests and reported 2"),
    (f"{GOOD} exit 3", "exit status 3 though no test failed"),
    (f"{GOOD} kill -SEGV $$", "crashed: signal SIGSEGV"),
    (f"head -c 900 {NODE}", "its XML ends or breaks off"),
    ("true", "and there was nothing"),
    ("echo fine", "and there was something else"),
    ("echo '<testsuites/>'", "it reported no tests"),
]


@pytest.mark.parametrize(("line", "problem"), PROBLEMS)
async def test_what_is_wrong_with_a_run_is_an_error_of_its_own(
    foreign: Foreign, line: str, problem: str
) -> None:
    await foreign.run("command", "sh", "-c", line, parts=[whole("sh")])

    found = await foreign.cases()
    assert found["sh"].outcome == "error"
    assert problem in found["sh"].message
    assert ("sh::a" in found) == ("ok 1 - a" in line)
    assert foreign.end.outcome == "failed"


async def test_what_is_no_text_does_not_lose_a_verdict(foreign: Foreign) -> None:
    events = [
        {"Action": "output", "Package": "p", "Test": "T\ud800", "Output": "\ud800 ü\n"},
        {"Action": "fail", "Package": "p", "Test": "T\ud800"},
        {"Action": "fail", "Package": "p"},
    ]
    stream = foreign.root / "events"
    stream.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    await foreign.run("command", "cat", "events", parts=[whole("cat")])

    found = await foreign.cases()
    assert found["cat::p::T?"].output == "? ü\n"


async def test_a_command_that_cannot_be_started_is_an_error(foreign: Foreign) -> None:
    await foreign.run("command", "./nowhere", parts=[whole("nowhere")])

    found = await foreign.cases()
    assert found["nowhere"].message == "cannot start ./nowhere: No such file or directory"


async def test_a_command_that_takes_too_long_is_ended_with_all_it_started(foreign: Foreign) -> None:
    line = f"{GOOD} sleep 600 & sleep 600"
    config = {"test_timeout_seconds": 0.3}
    await foreign.run("command", "sh", "-c", line, parts=[whole("sh")], config=config)

    found = await foreign.cases()
    assert found["sh"].message == "timed out after 0.3 s"
    assert found["sh::a"].outcome == "passed"


@pytest.mark.parametrize("pattern", ["r.xml", "out/**/*.xml"])
async def test_results_in_files_count_if_this_run_wrote_them(
    foreign: Foreign, pattern: str
) -> None:
    (foreign.root / "out" / "deep").mkdir(parents=True)
    for stale in ("r.xml", "out/old.xml"):
        (foreign.root / stale).write_text("<testsuite><testcase name='old'/></testsuite>")
    line = f"echo words; cp {NODE} r.xml; cp {NODE} out/deep/new.xml; exit 1"

    await foreign.run("command", "sh", "-c", line, parts=[whole("sh")], results=pattern)

    found = await foreign.outcomes()
    assert "sh::old" not in found
    assert len(found) == 7


async def test_results_of_an_earlier_run_prove_nothing(foreign: Foreign) -> None:
    (foreign.root / "r.xml").write_text("<testsuite><testcase name='old'/></testsuite>")

    await foreign.run("command", "true", "", parts=[whole("true")], results="r.xml")

    found = await foreign.cases()
    assert {nodeid: case.message for nodeid, case in found.items()} == {
        "true": "it wrote no results"
    }


async def test_a_command_for_each_path_writes_to_a_file_of_its_own(foreign: Foreign) -> None:
    write = "echo '<testsuite><testcase name=\"'$0'\"/></testsuite>' > $1"
    parts = [whole("a.t"), whole("b.t")]
    await foreign.run("command", "sh", "-c", write, "{path}", "{results}", parts=parts)

    assert await foreign.outcomes() == {"a.t::a.t": "passed", "b.t::b.t": "passed"}


async def test_when_run_again_only_what_was_asked_for_is_told(foreign: Foreign) -> None:
    part = part_of("sh", "fails", "adds", "gone")
    await foreign.run("command", "sh", "-c", f"cat {NODE}; exit 1", parts=[part])

    found = await foreign.cases()
    assert {nodeid: case.outcome for nodeid, case in found.items()} == {
        "sh::fails": "failed",
        "sh::adds": "passed",
        "sh::gone": "error",
    }


async def test_a_run_that_was_wrong_as_a_whole_can_become_right(foreign: Foreign) -> None:
    part = Part("sh", (Test(name="sh"),))
    await foreign.run("command", "sh", "-c", GOOD, parts=[part])

    assert await foreign.outcomes() == {"sh": "passed", "sh::a": "passed"}


async def test_the_paths_of_a_command_are_its_units(foreign: Foreign) -> None:
    for name in ("a.t", "b.t", "c.x"):
        (foreign.root / name).touch()
    async with foreign.bench.agent():
        config = {"collect": True, "paths": ["*.t", "c.x"]}
        foreign.start("command", "prove", "{path}", config=config)
        assert await foreign.suite() == Suite(whole=("a.t", "b.t", "c.x"))
        foreign.queue.closed = True
        assert (await foreign.bench.ended()).outcome == "passed"


# -- GoogleTest -----------------------------------------------------------------------------------


async def test_tests_of_a_program_are_listed_and_run_in_parts(foreign: Foreign) -> None:
    foreign.gtest()
    names = [f"Math.{name}" for name in MATH]
    async with foreign.bench.agent():
        foreign.start("gtest", config={"collect": True, "paths": ["t"]})
        suite = await foreign.suite()
        await foreign.put(part_of("t", *names[:3]), part_of("t", *names[3:], "Typed/0.HasSize"))
        await foreign.bench.ended()

    assert len(suite.tests) == 16
    assert ("t::Few/Values.IsSmall/2", "") in suite.tests
    assert await foreign.outcomes() == {
        **dict.fromkeys((f"t::{name}" for name in names), "passed"),
        "t::Math.Fails": "failed",
        "t::Math.DISABLED_Later": "skipped",
        "t::Math.Skips": "skipped",
        "t::Typed/0.HasSize": "passed",
    }
    runs = (foreign.root / "runs.txt").read_text().split()
    assert sorted(name for run in runs for name in run.split(":")) == sorted(
        [*names, "Typed/0.HasSize"]
    )


async def test_a_crash_names_its_test_and_the_others_run_on(foreign: Foreign) -> None:
    foreign.gtest("DIE")
    names = [f"Math.{name}" for name in MATH]
    await foreign.run("gtest", parts=[Part("t", part_of("t", *names).tests, group="t")])

    found = await foreign.cases()
    assert found["t::Math.Dies"].message == "crashed: signal SIGABRT"
    assert found["t::Math.Dies"].outcome == "error"
    assert found["t::Math.AfterDeath"].outcome == "passed"
    assert len(found) == len(names)
    assert foreign.end.outcome == "failed"


async def test_a_test_that_hangs_is_ended_and_named(foreign: Foreign) -> None:
    foreign.gtest("HANG")
    part = part_of("t", "Math.Hangs", "Math.Adds")
    config = {"test_timeout_seconds": 0.5}
    await foreign.run("gtest", parts=[part], config=config)

    found = await foreign.cases()
    assert found["t::Math.Hangs"].message == "timed out after 0.5 s"
    assert found["t::Math.Adds"].outcome == "passed"


async def test_a_set_up_that_fails_though_no_test_does_is_an_error(foreign: Foreign) -> None:
    foreign.gtest("BROKEN")
    await foreign.run("gtest", parts=[part_of("t", "Broken.One")])

    found = await foreign.cases()
    assert found["t::Broken.One"].outcome == "skipped"
    assert found["t"].message == "exit status 1 though no test failed"


async def test_a_program_that_is_none_is_broken_and_the_others_run(foreign: Foreign) -> None:
    foreign.gtest()
    foreign.script("x", "print('hello')")
    async with foreign.bench.agent():
        foreign.start("gtest", config={"collect": True, "paths": ["x", "t", "gone"]})
        suite = await foreign.suite()
        foreign.queue.closed = True
        end = await foreign.bench.ended()

    assert (suite.broken, len(suite.tests)) == (("x", "gone"), 16)
    found = await foreign.cases()
    assert "is it a GoogleTest program?" in found["x"].message
    assert "cannot start ./gone" in found["gone"].message
    assert (end.outcome, end.reason) == ("faulted", Reason.COLLECTION_ERROR)


async def test_a_program_that_is_slow_to_start_is_not_started_for_each_moment(
    foreign: Foreign,
) -> None:
    text = """
import pathlib, sys, time
time.sleep(0.1)
with pathlib.Path("runs.txt").open("a") as file:
    file.write("run\\n")
chosen = next(word for word in sys.argv if word.startswith("--gtest_filter="))
for name in chosen.partition("=")[2].split(":"):
    print(f"[ RUN      ] {name}\\n[       OK ] {name} (10 ms)")
report = next(word for word in sys.argv if word.startswith("--gtest_output="))
pathlib.Path(report.partition("xml:")[2]).write_text("<testsuites/>")
"""
    foreign.script("slow", text)
    names = [f"A.t{n}" for n in range(200)]
    await foreign.run("gtest", parts=[part_of("slow", *names)])

    found = await foreign.outcomes()
    assert {name for name, outcome in found.items() if outcome == "passed"} == {
        f"slow::{name}" for name in names
    }
    assert len((foreign.root / "runs.txt").read_text().split()) < 12


# -- CTest and others -----------------------------------------------------------------------------

CTEST = """
import pathlib, re, sys
words = sys.argv[1:]
recorded = pathlib.Path({recorded!r})
if "--show-only=json-v1" in words:
    print((recorded / "ctest-3.25.list.json").read_text())
    sys.exit(0)
chosen = re.compile(words[words.index("-R") + 1])
report = (recorded / "ctest-3.25.run.xml").read_text()
cases = re.findall(r"<testcase name=.*?</testcase>", report, re.DOTALL)
kept = [case for case in cases if chosen.search(re.search('name="(.*?)"', case)[1])]
out = pathlib.Path(words[words.index("--output-junit") + 1])
out.write_text(f"<testsuite>{{''.join(kept)}}</testsuite>")
print((recorded / "ctest-3.25.run.txt").read_text())
sys.exit(8 if any('status="fail"' in case for case in kept) else 0)
"""


async def test_ctest_is_listed_and_run_in_parts(foreign: Foreign) -> None:
    foreign.script("ctest", CTEST.format(recorded=str(RECORDED)))
    env = {"PATH": f"{foreign.root}:/usr/bin:/bin"}
    async with foreign.bench.agent():
        foreign.start("ctest", config={"collect": True, "paths": ["build"], "env": env})
        suite = await foreign.suite()
        await foreign.put(part_of("build", "good", "missing"), part_of("build", "odd name [x]+(y)"))
        await foreign.bench.ended()

    assert dict(suite.tests)["build::needs"] == "build::setup"
    assert await foreign.outcomes() == {
        "build::good": "passed",
        "build::missing": "error",
        "build::odd name [x]+(y)": "passed",
    }


async def test_go_runs_package_by_package(foreign: Foreign) -> None:
    text = f"""
import sys
if sys.argv[1] == "list":
    print("example.com/shop/cart")
else:
    print(open({str(RECORDED / "go.jsonl")!r}).read())
    sys.exit(1)
"""
    foreign.script("go", text)
    env = {"PATH": f"{foreign.root}:/usr/bin:/bin"}
    package = "example.com/shop/cart"
    async with foreign.bench.agent():
        foreign.start("go", config={"collect": True, "env": env})
        suite = await foreign.suite()
        await foreign.put(whole(package))
        await foreign.bench.ended()

    assert suite.whole == (package,)
    assert (await foreign.outcomes())[f"{package}::TestTotals/many"] == "failed"


async def test_a_runner_that_nobody_knows_is_refused_with_those_that_are(foreign: Foreign) -> None:
    async with foreign.bench.agent():
        foreign.start("nose")
        end = await foreign.bench.ended()

    assert end.reason is Reason.LAUNCH_FAILED
    assert end.detail == (
        "this agent knows no runner nose; it knows command, ctest, go, gtest, unittest"
    )


async def test_a_command_that_eats_memory_is_ended_and_the_next_one_runs(foreign: Foreign) -> None:
    text = """
import sys, time
hoard = bytearray(b"x") * (700_000_000 if sys.argv[1] == "a" else 1)
print("1..1", "ok 1 - t", sep="\\n", flush=True)
time.sleep(600 if sys.argv[1] == "a" else 0)
"""
    program = foreign.script("eats", text)
    parts = [whole("a"), whole("b")]
    await foreign.run("command", program, "{path}", parts=parts, memory_limit_gb=0.4)

    found = await foreign.cases()
    assert "GB of memory; the limit is 0.4 GB" in found["a"].message
    assert found["b::t"].outcome == "passed"


async def test_the_output_of_a_test_is_kept_head_and_tail(foreign: Foreign) -> None:
    text = """
import sys
if "--gtest_list_tests" not in sys.argv:
    print("[ RUN      ] A.b")
    for _ in range(100):
        sys.stdout.write("x" * 1_000_000)
    print("\\nat the end")
    print("[  FAILED  ] A.b (5 ms)")
    sys.exit(1)
"""
    foreign.script("loud", text)
    await foreign.run("gtest", parts=[part_of("loud", "A.b")])

    found = await foreign.cases()
    assert found["loud::A.b"].outcome == "failed"
    assert len(found["loud::A.b"].output) < 100_000
    assert "at the end" in found["loud::A.b"].output


@pytest.mark.node
async def test_the_test_runner_of_node_is_read_in_both_forms(foreign: Foreign) -> None:
    node = shutil.which("node")
    assert node is not None, "needs Node.js"
    for name, body in (("good", ""), ("bad", "throw new Error('no such device');")):
        text = f"require('node:test')('{name}', () => {{ {body} }});"
        (foreign.root / f"{name}.test.js").write_text(text)
    forms = ("junit", "tap")
    command = (node, "--test", "--test-reporter={path}")
    await foreign.run("command", *command, parts=[whole("junit"), whole("tap")])

    assert await foreign.outcomes() == {
        f"{form}::{name}": outcome
        for form in forms
        for name, outcome in (("good", "passed"), ("bad", "failed"))
    }
