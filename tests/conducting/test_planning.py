"""What of a suite runs where: lanes, lots, and what earlier runs on the same hardware say."""

from pathlib import Path
from typing import Any

import pytest

from dtest.caller.gathering import keys_of
from dtest.caller.history_file import HistoryFile
from dtest.conducting.lanes import lanes_of
from dtest.conducting.orders import Order
from dtest.conducting.planning import Lot, Plan, Planner, Share, asks_no_more, completed
from dtest.conducting.sessions import title_of
from dtest.errors import NoWorkerMatches
from dtest.events.fields import RunId, WorkerId
from dtest.events.suite import Selection, SuiteSubmitted
from dtest.events.suite_decision import Lane
from dtest.events.suite_list import Function
from dtest.events.worker import Capability, Device
from dtest.reports.observation import Known, Part, Planned
from dtest.reports.report import compose
from dtest.state.worker import Worker, whole
from dtest.suites.suite import Suite
from tests.reports.samples import known, seen, tried

TESTS = Suite(tuple((f"{file}.py::t{n}", "") for file in ("a", "gpu") for n in range(4)))
RULES = ({"match": "gpu.py", "hardware": "cuda"},)
RUN = RunId("run")


def worker(name: str, *kinds: str) -> Worker:
    devices = tuple(Device(kind, n) for n, kind in enumerate(kinds))
    capability = Capability(slots=4, devices=devices)
    free = whole(capability)
    return Worker(WorkerId(name), "i", "h", capability, False, free, 0.0, 0, None)


FLEET = [worker("plain"), worker("gpu", "cuda", "cuda")]


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HistoryFile:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return HistoryFile(tmp_path)


def lanes(on: str = "", sessions: int | None = None, fleet: list[Worker] = FLEET) -> list[Lane]:
    order = Order(SuiteSubmitted(RUN, on=on, sessions=sessions))
    return list(lanes_of(order, fleet, RUN))


def planner(history: HistoryFile, **options: Any) -> Planner:
    spec = SuiteSubmitted(RUN, rules=RULES, selection=Selection(**options))
    return Planner(Order(spec), history, FLEET)


def share(lane: Lane, history: HistoryFile, suite: Suite = TESTS, **options: Any) -> Share:
    (found,) = planner(history, **options).plan([lane], [suite]).shares
    return found


def names(lot: Lot) -> list[str]:
    return [test.nodeid for test in lot.tests]


def kept(history: HistoryFile, run: Known) -> None:
    """Have the history know a run."""
    history.add(compose(run), {})


def test_without_classes_there_is_one_lane_for_all_slots() -> None:
    (lane,) = lanes()

    assert (lane.name, lane.sessions, lane.is_crowded) == ("", 8, False)
    assert lanes(sessions=3)[0].sessions == 3


def test_a_class_has_as_many_sessions_as_its_machines_have_room_for() -> None:
    cuda, cpu = lanes("cuda | cpu")

    assert (cuda.sessions, cpu.sessions) == (2, 8)
    assert [lane.first_sessions for lane in (cuda, cpu)] == [1, 1]
    assert cuda.is_crowded
    assert cpu.is_crowded


def test_classes_on_machines_of_their_own_start_warm() -> None:
    fleet = [worker("one", "cuda"), worker("two", "rocm")]

    assert [lane.first_sessions for lane in lanes("cuda | rocm", fleet=fleet)] == [1, 1]
    assert not any(lane.is_crowded for lane in lanes("cuda | rocm", fleet=fleet))


def test_a_class_without_a_worker_says_why_and_all_of_them_end_the_call() -> None:
    rocm, cpu = lanes("rocm | cpu")

    assert (rocm.sessions, cpu.sessions) == (0, 8)
    assert rocm.why_not == "no worker can run it: plain has no rocm; gpu has no rocm"
    with pytest.raises(NoWorkerMatches, match=r"rocm: no worker.*qnn: no worker"):
        lanes("rocm | qnn")


def test_tests_without_wishes_keep_the_sessions_that_warmed_up(history: HistoryFile) -> None:
    (lane,) = lanes()
    found = share(lane, history, TESTS.only(lambda place: place < 2))

    assert [(lot.queue, lot.sessions) for lot in found.lots] == [(lane.queue, 8)]
    assert not found.begins_anew


def test_tests_with_wishes_get_early_sessions_and_all_begin_anew(history: HistoryFile) -> None:
    (lane,) = lanes()
    base, early = share(lane, history).lots

    assert asks_no_more(lane, base.requirements)
    assert not asks_no_more(lane, early.requirements)
    assert base.queue != lane.queue != early.queue
    assert early.requirements.hardware == ("cuda",)
    assert early.sessions == 2
    assert title_of(lane, early.requirements) == " (cuda)"
    assert {*names(base), *names(early)} == {nodeid for nodeid, _ in TESTS.tests}


def test_a_class_that_nobody_has_plans_what_the_others_hold(history: HistoryFile) -> None:
    both = lanes("rocm | cpu")

    rocm, cpu = planner(history).plan(both, completed([None, TESTS])).shares

    assert rocm.lots == ()
    assert {each.applies for each in rocm.unrun} == {True, False}
    assert {each.cause for each in rocm.unrun if each.applies} == {both[0].why_not}
    assert {each.cause for each in rocm.unrun if not each.applies} == {"asks for cuda, not rocm"}
    assert [len(lot.tests) for lot in cpu.lots] == [4]
    assert len(cpu.unrun) == 4


def test_history_is_kept_by_hardware(history: HistoryFile) -> None:
    kept(
        history,
        known(
            seen("a.py::t0", task="c", duration_s=1.0),
            seen("a.py::t0", "failed", task="g", duration_s=3.0),
            attempts=[tried("c"), tried("g", hardware="cuda")],
        ),
    )

    assert (history.load("cpu").durations, history.load("cpu").failed) == ({"a.py::t0": 1.0}, set())
    assert history.load("cuda").durations == {"a.py::t0": 3.0}
    assert history.load("cuda").failed == {"a.py::t0"}
    assert history.load("rocm", "cuda", "cpu").durations == {"a.py::t0": 3.0}
    assert history.load("cpu", "cuda").durations == {"a.py::t0": 1.0}
    assert history.load("rocm").durations == {}


def test_a_class_runs_again_what_failed_there(history: HistoryFile) -> None:
    attempts = [tried("c"), tried("g", hardware="cuda")]
    cases = [seen("a.py::t0", task="c"), seen("a.py::t0", "failed", task="g")]
    kept(history, known(*cases, attempts=attempts))
    classes = lanes("cuda | cpu")

    cuda, cpu = planner(history, last_failed=True).plan(classes, [TESTS, TESTS]).shares

    assert [names(lot) for lot in cuda.lots] == [["a.py::t0"]]
    assert (cpu.lots, cpu.unrun) == ((), ())


def test_all_run_where_none_failed(history: HistoryFile) -> None:
    kept(history, known(seen("a.py::t0", task="c"), attempts=[tried("c")]))
    (lane,) = lanes()

    plan = planner(history, last_failed=True).plan([lane], [TESTS])

    assert sum(len(lot.tests) for lot in plan.lots) == len(TESTS.tests)
    assert list(plan.notes) == [
        "--last-failed: nothing failed when it last ran here; all tests run"
    ]


def test_a_file_that_could_not_be_collected_is_remembered_and_its_tests_run(
    history: HistoryFile,
) -> None:
    (lane,) = lanes()
    kept(history, known(seen("gpu.py", "error", phase="collect"), attempts=[tried()]))

    chosen = share(lane, history, last_failed=True)
    assert [name for lot in chosen.lots for name in names(lot)] == [
        f"gpu.py::t{n}" for n in range(4)
    ]

    kept(
        history,
        known(seen("gpu.py::t0"), seen("gpu.py::t1", "failed", ordinal=2), attempts=[tried()]),
    )
    chosen = share(lane, history, last_failed=True)
    assert [name for lot in chosen.lots for name in names(lot)] == ["gpu.py::t1"]


def test_ids_that_are_new_in_each_run_are_remembered_by_their_places(history: HistoryFile) -> None:
    def suite_of(run: int) -> Suite:
        tests = tuple((f"a.py::t[{run}-{n}]", "") for n in range(3))
        of = (Function("a.py", "t", 3, ""),)
        return Suite(tests, functions=of, places=tuple((0, n, "") for n in range(3)))

    (lane,) = lanes()
    plan = [Planned(f"a.py::t[1-{n}]", number=n, place=f"a.py::t @{n}") for n in range(3)]
    parts = [Part("t1", "session", "failed", "assertion_failed", is_session=True)]
    cases = [
        seen(f"a.py::t[2-{n}]", "failed" if n == 1 else "passed", number=n, ordinal=n + 1)
        for n in range(3)
    ]
    run = known(*cases, attempts=[tried()], parts=parts, planned=plan)
    history.add(compose(run), keys_of(plan))

    again = share(lane, history, suite_of(3), last_failed=True)

    assert [name for lot in again.lots for name in names(lot)] == ["a.py::t[3-1]"]


def test_a_prediction_counts_what_shares_slots(history: HistoryFile) -> None:
    cases = [
        seen(nodeid, task="g" if "gpu" in nodeid else "c", ordinal=n, duration_s=2.0)
        for n, (nodeid, _) in enumerate(TESTS.tests)
    ]
    attempts = [tried("c"), tried("g", hardware="cuda")]
    kept(history, known(*cases, attempts=attempts))
    (lane,) = lanes()

    assert Plan((share(lane, history),)).predicted_s == pytest.approx(4.0, abs=0.1)
