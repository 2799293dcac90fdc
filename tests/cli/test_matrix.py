"""``dtest test`` on machines of several kinds: each test where it can run, a column a class."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from junitparser import JUnitXml

from tests.cli.cell import CellUser
from tests.cli.command import AGENT, Ended, Person, eventually
from tests.cli.conftest import Suite
from tests.cli.later import OPTIONS, is_the_same_later

GPU_MACHINE = """
[agent]
slots = 3
device_type = "mobile"
labels = {room = "lab"}
devices = [{kind = "cuda", count = 2, memory_gb = 24, compute = 8.0}]
browsers = [{name = "firefox"}]
"""
"""What the second agent says of its machine: no such hardware is there."""


@pytest.fixture(scope="module")
def module_cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CellUser]:
    """A cell with a plain worker, one with two declared CUDA devices, and simulated ROCm."""
    root = tmp_path_factory.mktemp("machines")
    user = CellUser(root / "home", root)
    machine = root / "gpu"
    machine.mkdir()
    (machine / "dtest.toml").write_text(GPU_MACHINE)
    with ExitStack() as stack:
        stack.callback(user.end_all)
        user.dtest("up", "--workers", "1", "--slots", "2", "--simulate", "rocm:1").good()
        agent = user.at(machine).started("--name", "gpu", program=AGENT)
        stack.callback(stack.enter_context(agent).terminate)
        eventually(lambda: "gpu" in workers(user), what="the second agent registers")
        yield user
        user.dtest("down", "--purge").good()


def workers(user: CellUser) -> set[str]:
    return {line["worker_id"] for line in user.here("worker", "ls", "--json").good().lines}


@pytest.fixture
def cell(module_cell: CellUser, tmp_path: Path) -> CellUser:
    """The user of the cell, with a cache of the test's own."""
    return CellUser(
        module_cell.home, tmp_path, {"XDG_CACHE_HOME": str(tmp_path / "cache")}, module_cell.mark
    )


@pytest.fixture
def run(cell: CellUser, suite: Suite) -> Callable[..., Ended]:
    """Write a suite, with its settings, and run it there."""

    def call(*words: str, settings: str = "", strict: bool = True, **files: str) -> Ended:
        ini = "addopts = --strict-markers\nmarkers = gpu\n" if strict else ""
        home = suite(ini=ini, **files) if files else cell.cwd / "suite"
        if settings:
            (home / "pyproject.toml").write_text(settings)
        return cell.at(home).here("test", *words)

    return call


def told(ended: Ended) -> dict[tuple[str, str | None], str]:
    """The verdicts by test and class of hardware."""
    return {
        (case["nodeid"].partition(".py::")[2], case["hardware"]): case["outcome"]
        for case in ended.json["testcases"]
    }


WHERE = "import os, pytest\n\ndef here():\n    return os.environ['DTEST_HARDWARE']\n"
MARKED = f"""{WHERE}
pytestmark = pytest.mark.dtest(min_memory_gb=0.001)

def test_anywhere(): assert here() == "cpu"

@pytest.mark.dtest(hardware="cuda")
def test_gpu(): assert here() == "cuda"

@pytest.mark.dtest(labels={{"room": "lab"}})
class TestInTheLab:
    @pytest.mark.parametrize("n", range(3))
    def test_lab(self, n): assert here() == "cpu"

    @pytest.mark.dtest(hardware=["rocm", "cuda"], min_device_memory_gb=16)
    def test_large(self): assert here() == "cuda"
"""
PLAIN = f"{WHERE}\n@pytest.mark.parametrize('n', range(4))\ndef test_n(n): assert here() == 'cpu'\n"


def test_the_report_later_of_a_mixed_run_is_that_at_the_end(
    run: Callable[..., Ended], cell: CellUser, tmp_path: Path
) -> None:
    """Two classes of hardware, tests that some machines cannot run, and failures that run again."""
    fails = "import random\ndef test_fails(): assert random.random() > 2\n"
    words = ("--on", "cpu | cuda | rocm", "--reruns", "1", *OPTIONS)

    ended = run(*words, test_marked=MARKED, test_plain=PLAIN, test_fails=fails)

    assert ended.code == 1, ended.err
    (latest,) = cell.here("run", "ls", "--limit", "1", "--json").good().lines
    is_the_same_later(cell, cell.cwd / "suite", latest["run_id"], tmp_path / "archive")


def test_a_marked_test_runs_where_its_mark_is_met(run: Callable[..., Ended]) -> None:
    ended = run("--json", test_marked=MARKED, test_plain=PLAIN).good()

    assert told(ended) == {
        ("test_anywhere", "cpu"): "passed",
        ("test_gpu", "cuda"): "passed",
        **{(f"TestInTheLab::test_lab[{n}]", "cpu"): "passed" for n in range(3)},
        ("TestInTheLab::test_large", "cuda"): "passed",
        **{(f"test_n[{n}]", "cpu"): "passed" for n in range(4)},
    }
    assert {
        case["worker_id"]
        for case in ended.json["testcases"]
        if "InTheLab" in case["nodeid"] or case["hardware"] == "cuda"
    } == {"gpu"}
    assert ended.json["faults"] == []


def test_what_nobody_can_run_is_not_proven_and_the_others_run(run: Callable[..., Ended]) -> None:
    text = f"{PLAIN}\n@pytest.mark.dtest(hardware='rocm')\ndef test_rocm(): pass\n"

    ended = run("--junit", "report.xml", test_all=text)

    assert (ended.code, ended.out) == (3, "1 not proven, 4 passed\n")
    assert "NOT_PROVEN test_all.py::test_rocm: no worker can run it: " in ended.err
    for lacks in ("local-1 has no rocm", "gpu has no rocm", "is simulated"):
        assert lacks in ended.err


@pytest.mark.parametrize(
    ("words", "code", "out"),
    [
        (("test_all.py",), 3, "1 not proven\n"),
        (("--on", "cpu"), 1, "1 error, 1 skipped\n"),
        (("--on", "cpu", "-k", "rocm", "test_all.py"), 5, "1 skipped\n"),
    ],
)
def test_a_suite_of_which_nothing_can_run_still_comes_to_an_end(
    run: Callable[..., Ended], words: tuple[str, ...], code: int, out: str
) -> None:
    text = f"{WHERE}\n@pytest.mark.dtest(hardware='rocm')\ndef test_rocm(): pass\n"

    ended = run(*words, test_all=text, test_broken="import no_such_module\n")

    assert (ended.code, ended.out) == (code, out)


def test_what_nobody_can_run_may_end_the_run_at_once(run: Callable[..., Ended]) -> None:
    text = f"{PLAIN}\n@pytest.mark.dtest(hardware='rocm')\ndef test_rocm(): pass\n"

    ended = run("--fail-unmatched", test_all=text)

    assert ended.code == 8
    assert "test_all.py::test_rocm: no worker can run it" in ended.err


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        ("hardwear='cuda'", "unknown keyword 'hardwear'; known: hardware, min_memory_gb"),
        ("hardware=object, min_memory_gb=float('nan')", "hardware.0: "),
    ],
)
def test_a_mark_that_makes_no_sense_is_told_with_its_test(
    run: Callable[..., Ended], mark: str, problem: str
) -> None:
    ended = run(test_all=f"{WHERE}\n@pytest.mark.dtest({mark})\ndef test_odd(): pass\n")

    assert ended.code == 2
    assert f"pytest.mark.dtest of test_all.py::test_odd: {problem}" in ended.err
    assert "min_cuda_compute" in ended.err


RULES = """
[tool.dtest.test]
reruns = 1

[[tool.dtest.requirements]]
match = "test_gpu.py"
hardware = "cuda"

[[tool.dtest.requirements]]
marker = "gpu"
hardware = "cuda"
min_cuda_compute = 7.5
"""


def test_rules_of_the_settings_ask_for_tests_that_say_nothing(run: Callable[..., Ended]) -> None:
    by_file = f"{WHERE}\ndef test_gpu(): assert here() == 'cuda'\n"
    by_marker = f"{WHERE}\n@pytest.mark.gpu\ndef test_marked(): assert here() == 'cuda'\n"
    shaky = (
        f"{WHERE}\nimport pathlib\n@pytest.mark.gpu\ndef test_shaky():\n"
        "    assert here() == 'cuda'\n"
        "    note = pathlib.Path(__file__).with_name('note')\n"
        "    seen = note.exists()\n    note.touch()\n    assert seen\n"
    )

    ended = run(
        *("--json", "--html", "report.html"),
        settings=RULES,
        test_gpu=by_file,
        test_marked=by_marker,
        test_plain=PLAIN,
        test_shaky=shaky,
    ).good()

    assert told(ended) == {
        ("test_gpu", "cuda"): "passed",
        ("test_marked", "cuda"): "passed",
        ("test_shaky", "cuda"): "flaky",
        **{(f"test_n[{n}]", "cpu"): "passed" for n in range(4)},
    }


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("[tool.dtest.test]\nworkres = 2\n", "unknown key 'workres'"),
        ("[tool.dtest.test]\nworkers = '2'\n", "workers is '2', not a whole number"),
        ("[tool.dtest.test]\nworkers = 0\n", "--workers is 0"),
        ("[tool.dtest.test]\non = 'cuda ||'\n", "--on"),
        ("[tool.dtest.tests]\nworkers = 2\n", "unknown setting 'tests'"),
        (
            "[[tool.dtest.requirements]]\nmatch = 'a'\nhardwear = 'cuda'\n",
            "requirements[0]: unknown",
        ),
        ("[[tool.dtest.requirements]]\nmatch = 'a'\n", "requirements[0]: asks for nothing"),
        ("[tool.dtest.requirements]\nhardware = 'cuda'\n", "unknown setting 'requirements'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    run: Callable[..., Ended], settings: str, problem: str
) -> None:
    ended = run(settings=settings, test_plain=PLAIN)

    assert ended.code == 2
    assert problem in ended.err


EVERYWHERE = f"""{WHERE}
def test_good(): pass

def test_not_on_cuda(): assert here() == "cpu"

@pytest.mark.dtest(hardware="cuda")
def test_kernel(): assert here() == "cuda"
"""


def test_a_suite_runs_once_for_each_class_of_hardware(
    cell: CellUser, run: Callable[..., Ended]
) -> None:
    ended = run("--on", "cuda | cpu", "--json", "--junit", "report.xml", test_all=EVERYWHERE)

    assert ended.code == 1
    assert ended.json["hardware"] == ["cpu", "cuda"]
    assert told(ended) == {
        ("test_good", "cpu"): "passed",
        ("test_good", "cuda"): "passed",
        ("test_not_on_cuda", "cpu"): "passed",
        ("test_not_on_cuda", "cuda"): "failed",
        ("test_kernel", "cpu"): "skipped",
        ("test_kernel", "cuda"): "passed",
    }
    cases = [
        case for found in JUnitXml.fromfile(str(cell.cwd / "suite/report.xml")) for case in found
    ]
    names = {case.name: case for case in cases}
    assert len(names) == 6
    assert names["test_kernel @ cpu"].result[0].message == "asks for cuda, not cpu"
    built = cell.here("report", "build", ended.json["run_id"], "--format", "json").good().json
    assert {(case["nodeid"], case["hardware"]) for case in built["results"]} == {
        (f"test_all.py::{name}", hardware) for name, hardware in told(ended)
    }, "the plan stands in the journal"


def test_the_matrix_shows_what_differs(run: Callable[..., Ended]) -> None:
    ended = run("--on", "cuda | cpu", "--reruns", "1", test_all=EVERYWHERE)

    assert (ended.code, ended.out) == (1, "1 failed, 4 passed, 1 skipped\n")
    shown = [" ".join(line.split()) for line in ended.err.splitlines()]
    table = shown[shown.index("cpu cuda") :]
    assert table[:6] == [
        "cpu cuda",
        "failed 0 1",
        "passed 2 2",
        "not for it 1 0",
        "",
        "cpu cuda test",
    ]
    assert table[6] == "passed failed test_all.py::test_not_on_cuda"
    assert "test_good" not in ended.err


def test_a_class_without_a_worker_is_not_proven_with_its_cause(run: Callable[..., Ended]) -> None:
    ended = run("--on", "rocm | cpu", test_plain=PLAIN)

    assert (ended.code, ended.out) == (3, "4 not proven, 4 passed\n")
    assert "rocm: nothing is proven: no worker can run it: " in ended.err
    assert run("--on", "rocm | cpu", "--fail-unmatched").code == 8


def test_classes_none_of_which_has_a_worker_end_the_call(run: Callable[..., Ended]) -> None:
    ended = run("--on", "rocm | qnn", test_plain=PLAIN)

    assert ended.code == 8
    assert "rocm: no worker can run it" in ended.err
    assert "qnn: no worker can run it" in ended.err


def test_classes_of_the_same_hardware_are_columns_of_their_own(run: Callable[..., Ended]) -> None:
    ended = run("--on", "browser=firefox|cpu & label:room=lab", "--json", test_plain=PLAIN).good()

    assert ended.json["hardware"] == ["browser=firefox", "cpu & label:room=lab"]
    assert len(told(ended)) == 8
    assert {case["worker_id"] for case in ended.json["testcases"]} == {"gpu"}


def test_a_class_on_which_pytest_cannot_run_ends_the_call(run: Callable[..., Ended]) -> None:
    conftest = "import os\nif os.environ['DTEST_HARDWARE'] == 'cuda':\n    import no_driver\n"

    ended = run("--on", "cpu | cuda", conftest=conftest, test_plain=PLAIN)

    assert ended.code == 2
    assert "pytest cannot run this suite on cuda: " in ended.err
    assert "no_driver" in ended.err


def test_classes_on_machines_of_their_own_keep_the_sessions_that_collected(
    cell: CellUser, run: Callable[..., Ended]
) -> None:
    kinds = {
        line["worker_id"]: line["device_type"] for line in cell.here("worker", "ls", "--json").lines
    }
    here = f"device_type={kinds['local-1']}"
    assert here != "device_type=mobile"

    ended = run("--on", f"device_type=mobile | {here}", "--json", test_plain=PLAIN).good()

    assert {(case["hardware"], case["worker_id"]) for case in ended.json["testcases"]} == {
        ("device_type=mobile", "gpu"),
        (here, "local-1"),
    }
    assert ended.json["counts"] == {"passed": 8}
    tasks = cell.here("run", "show", ended.json["run_id"], "--json").json["task_list"]
    assert all(task["name"].startswith("session") for task in tasks)


def test_a_failure_on_one_class_ends_all_with_x(run: Callable[..., Ended]) -> None:
    long = (
        f"{WHERE}\nimport time\ndef test_it():\n    assert here() == 'cpu'\n    time.sleep(600)\n"
    )

    ended = run("--on", "cuda | cpu", "-x", test_long=long)

    assert ended.code == 1
    assert ended.out == "1 failed, 1 not proven\n"


def test_what_failed_last_runs_again_in_its_own_place(run: Callable[..., Ended]) -> None:
    text = (
        f"{PLAIN}\n@pytest.mark.dtest(hardware='cuda')\ndef test_gpu(): assert here() == 'rocm'\n"
    )
    run(test_all=text)

    ended = run("--lf", "--json")

    assert told(ended) == {("test_gpu", "cuda"): "failed"}


def test_tests_get_their_places_though_others_run_elsewhere(run: Callable[..., Ended]) -> None:
    """Every process makes other ids, so that a test is known by its place in the file only."""
    text = f"""{WHERE}
import uuid
CASES = [pytest.param(n, id=uuid.uuid4().hex, marks=[pytest.mark.dtest(hardware="cuda")] * (n % 2))
         for n in range(6)]

@pytest.mark.parametrize("n", CASES)
def test_n(n): assert here() == ("cuda" if n % 2 else "cpu")
"""
    ended = run("--json", test_random=text).good()

    assert sorted(hardware or "" for _, hardware in told(ended)) == ["cpu"] * 3 + ["cuda"] * 3
    assert ended.json["counts"] == {"passed": 6}


def test_a_suite_alone_tells_what_its_machine_lacks(suite: Suite, person: Person) -> None:
    text = f"{WHERE}\n@pytest.mark.dtest(hardware='qnn')\ndef test_npu(): pass\n"
    home = suite(test_npu=text, test_plain="def test_plain(): pass\n")

    ended = person.at(home).dtest("test", "--workers", "1")

    assert (ended.code, ended.out) == (3, "1 not proven, 1 passed\n")
    assert "has no qnn" in ended.err
