"""Exactly one verdict for each test, whatever was seen of it and in whatever order."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.events.reasons import Reason
from dtest.events.suite_decision import WHOLE_FIRST
from dtest.reports.ends import ends
from dtest.reports.observation import Attempt, Known, Observation, Outcome, Part, Planned
from dtest.reports.report import compose
from dtest.reports.verdicts import VERDICTS, Verdict, is_of_work, judge, verdicts
from tests.reports.samples import everything, known, seen, tried

OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "skipped", "xfailed", "xpassed", "error")
BAD = {"failed", "error"}
FIRST: tuple[Outcome, ...] = ("passed", "failed", "passed")


def told(run: Known) -> dict[str, Verdict]:
    """The verdicts by node id, of runs where that is enough."""
    results = verdicts(run)
    assert len({result.key.nodeid for result in results}) == len(results)
    return {result.key.nodeid: result.verdict for result in results}


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], "not_proven"),
        *(([outcome], outcome) for outcome in OUTCOMES),
        (["failed", "passed"], "flaky"),
        (["error", "passed"], "flaky"),
        (["failed", "failed", "passed"], "flaky"),
        (["failed", "xpassed"], "flaky"),
        (["failed", "xfailed"], "flaky"),
        (["passed", "failed"], "failed"),
        (["failed", "error"], "error"),
        (["failed", "passed", "failed"], "failed"),
        (["failed", "passed", "passed"], "flaky"),
        (["passed", "passed"], "passed"),
        (["skipped", "skipped"], "skipped"),
        (["failed", "skipped"], "failed"),
        (["passed", "skipped"], "passed"),
        (["skipped", "passed"], "passed"),
        (["failed", "skipped", "passed"], "flaky"),
        (["xfailed", "xfailed"], "xfailed"),
    ],
)
def test_outcomes_in_order_make_one_verdict(outcomes: list[Outcome], verdict: Verdict) -> None:
    assert judge(outcomes) == verdict


@given(st.lists(st.sampled_from(OUTCOMES), max_size=8))
def test_every_order_of_attempts_has_exactly_one_verdict(outcomes: list[Outcome]) -> None:
    run = known(*(seen("a.py::t", outcome, attempt=n) for n, outcome in enumerate(outcomes, 1)))
    results = verdicts(run)

    assert [result.verdict for result in results] == ([judge(outcomes)] if outcomes else [])
    assert all(result.verdict in VERDICTS for result in results)


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=8))
def test_a_pass_after_a_failure_is_never_plain(outcomes: list[Outcome]) -> None:
    verdict = judge(outcomes)

    if BAD & set(outcomes):
        assert verdict in {"failed", "error", "flaky"}
    if outcomes[-1] in BAD:
        assert verdict == outcomes[-1]


OBSERVED = st.lists(
    st.tuples(
        st.sampled_from(["a.py::t", "a.py::u", "b.py::t[1]"]),
        st.sampled_from(OUTCOMES),
        st.sampled_from(["t1", "t2"]),
        st.integers(1, 3),
        st.sampled_from(["", "crashed: signal SIGSEGV", "AssertionError: x"]),
    ),
    max_size=20,
)
ENDS = st.sampled_from(
    [("passed", None), ("failed", None), ("faulted", "worker_lost"), ("faulted", "crash_signal")]
)


def run_of(rows: list[Any], ends: list[tuple[str, str | None]]) -> Known:
    """A run whose journal tells the rows in order."""
    ordinals: Counter[tuple[str, int]] = Counter()
    observations = []
    for seq, (nodeid, outcome, task, attempt, message) in enumerate(rows):
        ordinals[task, attempt] += 1
        place: dict[str, Any] = {"task": task, "attempt": attempt, "seq": seq}
        one = seen(nodeid, outcome, ordinal=ordinals[task, attempt], message=message, **place)
        observations.append(one)
    attempts = [
        tried(task, n, hardware="cpu" if task == "t1" else "cuda", status=status, reason=reason)
        for (task, n), (status, reason) in zip(
            [(task, n) for task in ("t1", "t2") for n in (1, 2, 3)], ends, strict=True
        )
    ]
    return known(*observations, attempts=attempts)


@given(OBSERVED, st.lists(ENDS, min_size=6, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_their_repetition_change_nothing(
    rows: list[Any], ends: list[tuple[str, str | None]], luck: random.Random
) -> None:
    run = run_of(rows, ends)
    shuffled = [*run.observations, *luck.choices(run.observations or (None,), k=2)]
    luck.shuffle(shuffled)
    attempts = list(run.attempts)
    luck.shuffle(attempts)
    mixed = [item for item in shuffled if isinstance(item, Observation)]

    again = Known(run.run, run.parts, tuple(attempts), tuple(mixed), run.planned)

    assert verdicts(again) == verdicts(run)


@given(OBSERVED, st.lists(ENDS, min_size=6, max_size=6))
def test_no_test_has_two_verdicts_and_none_is_lost(
    rows: list[Any], ends: list[tuple[str, str | None]]
) -> None:
    planned = [Planned("a.py::t"), Planned("c.py::never")]
    run = run_of(rows, ends)
    results = verdicts(Known(run.run, (), run.attempts, run.observations, tuple(planned)))

    keys = [result.key for result in results]
    assert len(set(keys)) == len(keys)
    assert {"a.py::t", "c.py::never"} <= {key.nodeid for key in keys}
    voided = {item.nodeid for item in run.observations} - {key.nodeid for key in keys}
    for item in run.observations:
        if item.nodeid in voided:
            assert item.message.startswith("crashed:")


@given(OBSERVED, st.lists(ENDS, min_size=6, max_size=6))
def test_other_tests_change_no_verdict(rows: list[Any], ends: list[tuple[str, str | None]]) -> None:
    run = run_of(rows, ends)
    alone = tuple(item for item in run.observations if item.nodeid == "a.py::t")

    mine = [result for result in verdicts(run) if result.key.nodeid == "a.py::t"]

    assert mine == list(verdicts(Known(run.run, (), run.attempts, alone)))


# -- attempts -------------------------------------------------------------------------------------

LOST = tried(status="faulted", reason="worker_lost")


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ("passed", "passed", "passed"),
        ("failed", "passed", "flaky"),
        ("passed", "failed", "failed"),
        ("failed", "failed", "failed"),
    ],
)
def test_what_a_lost_attempt_reported_counts_once(
    first: Outcome, second: Outcome, verdict: Verdict
) -> None:
    run = known(
        seen("a.py::t", first),
        seen("a.py::t", second, attempt=2),
        attempts=[LOST, tried(attempt=2)],
    )

    assert told(run) == {"a.py::t": verdict}


def test_re_runs_are_tasks_of_their_own_in_the_order_of_the_journal() -> None:
    run = known(
        seen("a.py::t", "passed", task="a-rerun", seq=50),
        seen("a.py::t", "failed", task="z-first", seq=10),
        seen("b.py::t", "passed", task="a-first", seq=10),
        seen("b.py::t", "failed", task="z-rerun", seq=50),
    )

    assert told(run) == {"a.py::t": "flaky", "b.py::t": "failed"}


def test_subtests_of_one_node_id_each_have_a_verdict_by_their_place() -> None:
    first = [seen("a.py::t", o, ordinal=n) for n, o in enumerate(FIRST, 1)]
    second = [seen("a.py::t", "passed", attempt=2, ordinal=n) for n in (1, 2, 3)]
    counted = Counter(result.verdict for result in verdicts(known(*first)))
    assert counted == {"passed": 2, "failed": 1}, "the multiset is that of plain pytest"

    again = [(r.key.occurrence, r.verdict) for r in verdicts(known(*first, *second))]
    assert again == [(1, "passed"), (2, "flaky"), (3, "passed")]


def test_a_verdict_is_for_each_class_of_hardware() -> None:
    run = known(
        seen("a.py::t", "passed", task="cpu"),
        seen("a.py::t", "failed", task="gpu", seq=1),
        attempts=[tried("cpu", hardware="cpu"), tried("gpu", hardware="cuda")],
    )

    assert [(r.key.hardware, r.verdict) for r in verdicts(run)] == [
        ("cpu", "passed"),
        ("cuda", "failed"),
    ]


# -- what took a test down ------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["crashed: signal SIGKILL", "interrupted: KeyboardInterrupt"])
@pytest.mark.parametrize(
    ("status", "reason", "verdict"),
    [
        ("faulted", "crash_signal", "error"),
        ("failed", "assertion_failed", "error"),
        ("running", None, "error"),
        ("faulted", "worker_lost", "not_proven"),
        ("faulted", "oom_host", "not_proven"),
        ("faulted", "agent_crash", "not_proven"),
        ("faulted", None, "not_proven"),
        ("faulted", "something newer", "not_proven"),
        ("cancelled", "cancelled_user", "not_proven"),
        ("cancelled", "preempted", "not_proven"),
    ],
)
def test_infrastructure_is_never_held_against_a_test(
    word: str, status: str, reason: str | None, verdict: Verdict
) -> None:
    run = known(
        seen("a.py::t", "error", message=word),
        attempts=[tried(status=status, reason=reason)],
        planned=[Planned("a.py::t")],
    )

    assert told(run) == {"a.py::t": verdict}


def test_a_failure_that_a_test_came_to_stands_although_its_worker_was_lost_later() -> None:
    run = known(seen("a.py::t", "failed", message="assert 0"), attempts=[LOST])

    assert told(run) == {"a.py::t": "failed"}


@pytest.mark.parametrize("reason", ["run_timeout", "idle_output_timeout", "oom_task", "disk_quota"])
def test_a_limit_names_the_test_that_ran(reason: str) -> None:
    end = tried(status="faulted", reason=reason, detail="while a.py::hangs[ ran x] ran")
    run = known(seen("a.py::before"), attempts=[end])

    (named,) = [result for result in verdicts(run) if result.verdict == "error"]

    assert named.key.nodeid == "a.py::hangs[ ran x]"
    assert named.observations[0].message.startswith(reason)
    assert named.observations[0].worker_id == "w1"
    assert told(run)["a.py::before"] == "passed"


def test_a_limit_that_the_session_named_itself_is_told_once() -> None:
    end = tried(status="faulted", reason="run_timeout", detail="while a.py::hangs ran")
    run = known(seen("a.py::hangs", "error", message="timed out"), attempts=[end])

    (result,) = verdicts(run)

    assert len(result.observations) == 1


def test_a_test_that_hung_and_then_passed_is_flaky() -> None:
    end = tried(status="faulted", reason="run_timeout", detail="while a.py::hangs ran")
    run = known(seen("a.py::hangs", attempt=2), attempts=[end, tried(attempt=2)])

    assert told(run) == {"a.py::hangs": "flaky"}


def test_a_worker_lost_while_a_test_ran_names_no_test() -> None:
    end = tried(status="faulted", reason="worker_lost", detail="while a.py::t ran")

    assert verdicts(known(attempts=[end])) == ()


# -- what was planned -----------------------------------------------------------------------------


def part(
    *planned: str, status: str = "errored", reason: str | None = "worker_lost", **more: Any
) -> Part:
    return Part("t1", "tests 1/1", status, reason, 1, planned, **more)


def test_a_planned_test_that_nothing_reported_is_not_proven_and_says_why() -> None:
    run = known(seen("a.py::seen"), parts=[part("a.py::seen", "a.py::never")])

    never = next(result for result in verdicts(run) if result.key.nodeid == "a.py::never")

    assert never.verdict == "not_proven"
    assert never.cause == "tests 1/1: errored, worker_lost"
    assert never.deciding is None


@pytest.mark.parametrize(
    "name",
    [
        "a/b.py::T::t[1]",
        "a/b.py::T::t",
        "a/b.py::T",
        "a/b.py",
        "/home/x/a/b.py::T::t[1]",
        "b.py::T::t",
    ],
)
def test_a_plan_may_name_a_test_as_a_command_line_does(name: str) -> None:
    run = known(seen("a/b.py::T::t[1]"), planned=[Planned(name)])

    assert told(run) == {"a/b.py::T::t[1]": "passed"}


@pytest.mark.parametrize(
    "name", ["a/b.py::T::t[2]", "a/b.py::T::u", "c/b.py::T::t", "a/b.py::Ti", "xb.py"]
)
def test_a_plan_does_not_take_another_test_for_its_own(name: str) -> None:
    run = known(seen("a/b.py::T::t[1]"), planned=[Planned(name)])

    assert told(run)[name] == "not_proven"


def test_a_test_planned_for_two_classes_needs_both() -> None:
    run = known(
        seen("a.py::t", task="cpu"),
        attempts=[tried("cpu", hardware="cpu")],
        planned=[Planned("a.py::t", "cpu"), Planned("a.py::t", "cuda")],
    )

    assert [(r.key.hardware, r.verdict) for r in verdicts(run)] == [
        ("cpu", "passed"),
        ("cuda", "not_proven"),
    ]


def test_a_test_named_by_a_task_and_by_the_plan_is_missed_once() -> None:
    run = known(parts=[part("/home/x/a.py::t", hardware="cuda")], planned=[Planned("a.py::t")])

    assert [result.verdict for result in verdicts(run)] == ["not_proven"]


# -- tasks without a verdict ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "outcome", "told"),
    [
        ("passed", None, "passed", False),
        ("failed", "assertion_failed", "failed", False),
        ("errored", "crash_signal", "error", False),
        ("errored", "collection_error", "error", False),
        ("errored", "crash_signal", "passed", True),
        ("errored", "run_timeout", "error", True),
        ("errored", "worker_lost", "failed", True),
        ("cancelled", "cancelled_user", "passed", True),
        ("expired", "no_capacity", "passed", True),
        ("running", None, "passed", True),
    ],
)
def test_a_task_whose_end_leaves_unknown_tests_unproven_is_told(
    status: str, reason: str | None, outcome: Outcome, told: bool
) -> None:
    run = known(seen("a.py::t", outcome), parts=[part(status=status, reason=reason)])

    assert [fault.task_id for fault in ends(run).faults] == (["t1"] if told else [])


def test_a_task_that_names_its_tests_is_no_fault_of_its_own() -> None:
    assert ends(known(parts=[part("a.py::t")])).faults == ()


def test_every_reason_blames_the_suite_or_does_not() -> None:
    of_work = {str(reason) for reason in Reason if is_of_work(reason)}

    assert of_work == {
        *("assertion_failed", "exit_nonzero", "crash_signal", "run_timeout", "oom_task"),
        *("oom_device", "idle_output_timeout", "disk_quota", "malformed_payload", "missing_input"),
        *("collection_error", "no_tests"),
    }
    assert not is_of_work(None)
    assert not is_of_work("unheard of")


def test_a_run_in_which_everything_happened_has_every_verdict() -> None:
    assert {result.verdict for result in verdicts(everything())} == set(VERDICTS)


def test_an_attempt_that_nobody_knows_has_no_hardware() -> None:
    run = Known(everything().run, (), (), (seen("a.py::t"),))

    (result,) = verdicts(run)

    assert result.key.hardware == ""
    assert isinstance(tried(), Attempt)


@pytest.mark.parametrize("told", ["pkg/a", "pkg/a::T", "pkg/a::T/sub::x"])
def test_a_file_that_runs_as_a_whole_is_answered_by_any_result_of_it(told: str) -> None:
    run = known(seen(told), planned=[Planned("pkg/a", number=WHOLE_FIRST)])

    assert [result.verdict for result in verdicts(run)] == ["passed"]
    assert compose(run).exit_code == 0


@pytest.mark.parametrize("told", ["x/pkg/a::T", "pkg/ab::T", "pkg/b::pkg/a"])
def test_a_file_that_runs_as_a_whole_and_of_which_nothing_is_told_is_not_proven(told: str) -> None:
    planned = [Planned("pkg/b", number=WHOLE_FIRST), Planned("pkg/a", number=WHOLE_FIRST + 1)]
    run = known(seen("pkg/b::T"), seen(told, ordinal=2), planned=planned)

    report = compose(run)

    silent = next(result for result in report.results if result.key.nodeid == "pkg/a")
    assert (silent.verdict, silent.cause) == ("not_proven", "no task reported it")
    assert report.exit_code == 3


def test_a_file_that_runs_as_a_whole_is_told_on_each_class_of_hardware() -> None:
    planned = [Planned("a", kind, number=WHOLE_FIRST) for kind in ("cpu", "cuda")]
    run = known(
        seen("a::T"),
        parts=[Part("t1", "s", "passed", hardware="cpu", is_session=True)],
        planned=planned,
    )

    found = {(result.key.hardware, result.verdict) for result in verdicts(run)}

    assert found == {("cpu", "passed"), ("cuda", "not_proven")}
