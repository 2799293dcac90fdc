"""What failed runs again where it belongs, away from where it failed, each test once."""

from dtest.conducting.rerunning import NAMED_MAX, rerun_orders, units_again
from dtest.conducting.spans import numbers_in, spans_of
from dtest.events.fields import RunId
from dtest.events.suite_decision import SuitePooled
from dtest.events.task import Requirements
from dtest.reports.observation import Observation, Phase
from dtest.reports.verdicts import CaseKey, Result, Verdict
from dtest.suites.suite import Suite

RUN = RunId("run")
CUDA = Requirements(hardware=("cuda", "rocm"))
POOLS = [
    SuitePooled(RUN, 0, "", ((0, 9),), "q", sessions=4),
    SuitePooled(RUN, 1, "", ((10, 19),), "qp1", CUDA, sessions=2),
    SuitePooled(RUN, 2, "", ((20, 29),), None, cause="asks for qnn"),
]


def result(
    number: int | None,
    verdict: Verdict = "failed",
    *,
    worker: str = "w1",
    kind: str = "",
    phase: Phase = "call",
) -> Result:
    nodeid = f"a.py::t{number}"
    seen = Observation("t", 1, 1, 1, nodeid, "failed", phase=phase, worker_id=worker)
    return Result(CaseKey(nodeid, kind, 1), verdict, (seen,), number=number)


def test_nothing_runs_again_where_nothing_failed() -> None:
    assert rerun_orders(RUN, 1, [result(1, "passed"), result(2, "flaky")], POOLS) == []


def test_what_cannot_be_collected_does_not_run_again() -> None:
    assert rerun_orders(RUN, 1, [result(3, "error", phase="collect")], POOLS) == []


def test_tests_stay_in_their_pools_and_on_their_hardware() -> None:
    failed = [result(1), result(12, kind="rocm"), result(3), result(11, kind="cuda")]

    orders = rerun_orders(RUN, 2, failed, POOLS)

    assert [(order.round, order.part, order.parts) for order in orders] == [
        (2, 0, 3),
        (2, 1, 3),
        (2, 2, 3),
    ]
    assert [list(numbers_in(order.tests)) for order in orders] == [[1, 3], [12], [11]]
    assert [order.requirements.hardware for order in orders] == [(), ("rocm",), ("cuda",)]
    assert len({order.queue for order in orders}) == 3


def test_those_that_failed_elsewhere_go_elsewhere() -> None:
    orders = rerun_orders(RUN, 1, [result(1, worker="w1"), result(2, worker="w2")], POOLS)

    assert {(order.avoid_workers, order.tests) for order in orders} == {
        (("w1",), ((1, 1),)),
        (("w2",), ((2, 2),)),
    }
    assert [order.first_session for order in orders] == [0, orders[0].sessions]


def test_many_without_a_number_are_told_in_parts() -> None:
    failed = [
        Result(
            CaseKey(f"a.t::x{n}", "", 1),
            "failed",
            (Observation("t", 1, n, n, f"a.t::x{n}", "failed"),),
        )
        for n in range(2 * NAMED_MAX + 1)
    ]

    orders = rerun_orders(RUN, 1, failed, POOLS)

    names = [each.nodeid for order in orders for each in order.named]
    assert sorted(names) == sorted(found.key.nodeid for found in failed)
    assert all(len(order.named) <= NAMED_MAX for order in orders)


def test_whoever_conducts_makes_the_same_units_of_an_order() -> None:
    suite = Suite(tuple((f"a.py::t{n}", "") for n in range(10)))
    (order,) = rerun_orders(RUN, 1, [result(n) for n in (1, 4, 5)], POOLS)

    one, other = units_again(order, {"": suite}), units_again(order, {"": suite})

    assert one == other
    assert [test.number for unit in one for part in unit.parts for test in part.tests or ()] == [
        *numbers_in(spans_of([1, 4, 5]))
    ]
