"""An attempt's way, fenced by its number: late and foreign reports change nothing."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from dtest.events.attempt import AttemptAssigned, AttemptReturned, AttemptStopRequested
from dtest.events.catalogue import Payload
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import MEANINGS, Reason, RefusalCode
from dtest.events.task import RetryPolicy, TaskCancelRequested, TaskRetryRequested
from dtest.leadership.rules import CURRENT
from dtest.state.snapshot import dump
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.facts import finished, released, started, task, testcase
from tests.kit.world import World, only, running

ACCEPT_IDLE_S_MAX = CURRENT.parameters.accept_idle_s_max

Report = Callable[[AttemptAssigned], Payload]
REPORTS: dict[str, Report] = {
    "started": started,
    "refused": facts.refused,
    "released": released,
    "finished": finished,
    "failed": lambda data: finished(data, "failed"),
    "faulted": lambda data: finished(data, "faulted", Reason.DISK_FULL),
}


def here() -> World:
    return World().led().given(facts.registered("w"))


def unchanged(world: World) -> dict[str, object]:
    """The state, but for what is merely counted."""
    document = json.loads(dump(world.cell))
    return {
        name: value
        for name, value in document.items()
        if name not in {"seq", "now", "ignored", "refusals", "strays"}
    }


def test_an_assignment_reserves_and_the_end_gives_back() -> None:
    world = here().given(task("t"))
    one = only(world.assign())
    assert (world.status("t"), world.worker("w").free.slots) == (Status.ASSIGNED, 0)
    world.given(started(one))
    assert world.status("t") is Status.RUNNING
    world.given(finished(one))

    assert (world.status("t"), world.worker("w").free.slots) == (Status.PASSED, 1)


def test_an_attempt_may_end_before_its_start_was_told() -> None:
    world = here().given(task("t"))
    world.given(finished(only(world.assign())))

    assert world.status("t") is Status.PASSED


@pytest.mark.parametrize(
    ("outcome", "reason", "expected"),
    [
        ("passed", None, Status.PASSED),
        ("failed", None, Status.FAILED),
        ("failed", Reason.RUN_TIMEOUT, Status.FAILED),
        ("failed", Reason.COLLECTION_ERROR, Status.FAILED),
        ("faulted", Reason.WORKER_LOST, Status.JUDGED),
        ("faulted", None, Status.JUDGED),
        ("cancelled", None, Status.JUDGED),
    ],
)
def test_a_verdict_ends_the_task_and_a_fault_is_judged(
    outcome: facts.Outcome, reason: Reason | None, expected: Status
) -> None:
    world = here()
    world.given(finished(running(world), outcome, reason))

    assert world.status("t") is expected


@pytest.mark.parametrize("reason", [None, *Reason])
def test_a_failure_is_judged_only_if_its_task_has_retries_left_for_that_reason(
    reason: Reason | None,
) -> None:
    world = here()
    one = running(world, retry_policy=RetryPolicy(1))
    world.given(finished(one, "failed", reason))

    may = reason is None or MEANINGS[reason].retry != "never"
    assert world.status("t") is (Status.JUDGED if may else Status.FAILED)


def test_passed_after_a_failure_is_flaky() -> None:
    world = here()
    one = running(world, retry_policy=RetryPolicy(1))
    world.given(finished(one, "failed"))
    world.given(finished(only(world.assign())))

    assert world.task("t").flaky


# -- fencing --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_about_an_attempt_that_was_given_away_changes_nothing(name: str) -> None:
    world = here()
    old = running(world)
    world.given(facts.registered("v"), facts.suspected("w"))
    world.settle()
    world.tick(5).settle()
    assert (world.task("t").attempt, world.task("t").worker_id) == (2, "v")
    before = unchanged(world)

    world.given(REPORTS[name](old))

    assert unchanged(world) == before
    assert world.ignored() == {"stale_attempt": 1}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_about_an_ended_attempt_changes_nothing(name: str) -> None:
    world = here()
    one = running(world)
    world.given(finished(one))
    before = unchanged(world)

    world.given(REPORTS[name](one))

    assert unchanged(world) == before
    assert world.ignored() == {"stale_attempt": 1}


@pytest.mark.parametrize("name", [*REPORTS, "testcase"])
@pytest.mark.parametrize(
    "change", [{"worker_id": "v"}, {"attempt": 2}, {"worker_id": "v", "attempt": 9}]
)
def test_a_report_about_what_was_never_assigned_is_refused(
    name: str, change: dict[str, str]
) -> None:
    world = here().given(facts.registered("v", facts.machine(task_types=())))
    one = running(world)
    before = unchanged(world)

    world.given({**REPORTS, "testcase": testcase}[name](replace(one, **change)))  # type: ignore[arg-type]

    assert unchanged(world) == before
    assert world.to_refuse() == [RefusalCode.NOT_ASSIGNED]


@pytest.mark.parametrize("name", [*REPORTS, "testcase"])
def test_a_report_about_an_unknown_task_is_refused(name: str) -> None:
    world = here()
    one = replace(running(world), task_id=TaskId("nobody"))

    world.given({**REPORTS, "testcase": testcase}[name](one))

    assert world.to_refuse() == [RefusalCode.UNKNOWN_TASK]


def test_a_test_case_of_a_given_away_attempt_is_neither_refused_nor_counted() -> None:
    world = here()
    one = running(world)
    world.given(testcase(one), released(one))
    world.settle()
    world.given(testcase(one))

    assert not world.to_refuse()


def test_an_attempt_that_starts_after_it_was_given_away_is_stopped() -> None:
    world = here().given(task("t"), facts.registered("v"))
    one = only(world.assign())
    world.tick(ACCEPT_IDLE_S_MAX).settle()
    world.tick(2).settle()
    assert world.task("t").worker_id != one.worker_id

    world.given(started(one))

    assert world.settle() == [
        AttemptStopRequested(TaskId("t"), 1, one.worker_id, Reason.WORKER_LOST)
    ]
    assert world.status("t") is Status.ASSIGNED


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"attempt": 3}, id="a number that is not the next"),
        pytest.param({"worker_id": WorkerId("nobody")}, id="an unknown worker"),
        pytest.param({"incarnation": "i0"}, id="another incarnation"),
        pytest.param({"task_id": TaskId("nobody")}, id="an unknown task"),
    ],
)
def test_an_assignment_that_does_not_fit_the_state_is_ignored(change: dict[str, str]) -> None:
    world = here().given(task("t"))
    (planned,) = (data for parts in world.plan().values() for data in parts)
    assert isinstance(planned, AttemptAssigned)

    world.given(replace(planned, **change))  # type: ignore[arg-type]

    assert world.ignored() == {"assignment_out_of_date": 1}
    assert world.status("t") is Status.QUEUED


def test_an_assignment_to_a_worker_that_left_in_the_meantime_is_ignored() -> None:
    world = here().given(task("t"))
    draft = world.draft()
    world.given(facts.left("w"))
    world.enact(draft)

    assert world.ignored() == {"assignment_out_of_date": 1}
    assert world.status("t") is Status.QUEUED


def test_a_return_of_an_attempt_that_started_in_the_meantime_is_ignored() -> None:
    world = here().given(task("t"))
    one = only(world.assign())
    world.tick(ACCEPT_IDLE_S_MAX)
    draft = world.draft()
    world.given(started(one))

    assert [type(data) for data in world.enact(draft)] == [AttemptReturned]
    assert world.status("t") is Status.RUNNING
    assert world.ignored() == {"return_out_of_date": 1}


def test_a_stop_meant_for_another_worker_leaves_the_attempt_alone() -> None:
    world = here()
    running(world)
    world.given(AttemptStopRequested(TaskId("t"), 1, WorkerId("v"), Reason.WORKER_LOST))

    assert world.status("t") is Status.RUNNING
    assert world.ignored() == {"stop_out_of_date": 1}


# -- cancellation ---------------------------------------------------------------------------

CANCEL = TaskCancelRequested(TaskId("t"))


def test_a_cancelled_queued_task_ends_without_an_attempt() -> None:
    world = World().led().given(task("t"), CANCEL, facts.registered("w"))

    assert not world.assign()
    assert world.status("t") is Status.CANCELLED


def test_a_cancelled_blocked_task_ends_and_what_rests_on_it_is_skipped() -> None:
    world = World().led()
    world.record(task("a"), task("t", after=("a",)), task("c", after=("t",)))
    world.given(CANCEL)
    world.settle()

    assert [world.status(name) for name in "atc"] == [
        Status.QUEUED,
        Status.CANCELLED,
        Status.SKIPPED,
    ]


def test_a_cancelled_delayed_task_ends_without_waiting_for_its_backoff() -> None:
    world = here()
    world.given(finished(running(world), "faulted", Reason.DISK_FULL))
    world.settle()
    assert world.status("t") is Status.DELAYED
    world.given(CANCEL)
    world.settle()

    assert world.status("t") is Status.CANCELLED


@pytest.mark.parametrize("begun", [False, True])
def test_a_cancelled_attempt_is_stopped_and_then_cancelled(*, begun: bool) -> None:
    world = here().given(task("t"))
    one = only(world.assign())
    if begun:
        world.given(started(one))
    world.given(CANCEL)

    assert world.settle() == [
        AttemptStopRequested(TaskId("t"), 1, WorkerId("w"), Reason.CANCELLED_USER)
    ]
    assert world.status("t") is Status.STOPPING
    world.given(finished(one, "cancelled"))
    assert world.status("t") is Status.CANCELLED
    assert world.worker("w").free.slots == 1


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("passed", Status.PASSED),
        ("failed", Status.CANCELLED),
        ("faulted", Status.CANCELLED),
        ("cancelled", Status.CANCELLED),
    ],
)
def test_a_cancelled_task_that_ends_first_is_passed_or_cancelled_and_not_tried_again(
    outcome: facts.Outcome, expected: Status
) -> None:
    world = here()
    one = running(world, retry_policy=RetryPolicy(5))
    world.given(CANCEL, finished(one, outcome))
    world.settle()

    assert world.status("t") is expected


@pytest.mark.parametrize("outcome", ["faulted", "failed"])
def test_a_cancel_that_arrives_while_the_retry_is_being_recorded_is_not_forgotten(
    outcome: facts.Outcome,
) -> None:
    world = here()
    one = running(world, retry_policy=RetryPolicy(5, 3.0))
    world.given(finished(one, outcome, Reason.DISK_FULL if outcome == "faulted" else None))
    draft = world.draft()
    world.given(CANCEL)
    world.enact(draft)
    world.settle()

    assert world.status("t") is Status.CANCELLED


def test_a_cancel_that_arrives_while_the_assignment_is_being_recorded_stops_the_attempt() -> None:
    world = here().given(task("t"))
    draft = world.draft()
    world.given(CANCEL)
    world.enact(draft)
    assert world.status("t") is Status.ASSIGNED
    world.settle()

    assert world.status("t") is Status.STOPPING


def test_a_cancelled_attempt_whose_worker_is_lost_is_cancelled() -> None:
    world = here()
    running(world)
    world.given(CANCEL, facts.suspected("w"))
    world.settle()

    assert world.status("t") is Status.CANCELLED
    assert not world.ignored()


def test_a_cancel_is_repeated_and_comes_late_without_effect() -> None:
    world = here()
    one = running(world)
    world.given(CANCEL, CANCEL, finished(one), CANCEL)

    assert world.ignored() == {"cancel_repeated": 1, "cancel_of_ended_task": 1}
    assert world.status("t") is Status.PASSED


def test_a_cancel_of_an_unknown_task_is_refused() -> None:
    world = World()
    world.record(CANCEL)

    assert world.to_refuse() == [RefusalCode.UNKNOWN_TASK]


# -- retry by hand --------------------------------------------------------------------------

RETRY = TaskRetryRequested(TaskId("t"))


def test_a_retry_by_hand_runs_an_ended_task_once_more_with_fresh_budgets() -> None:
    world = here()
    one = running(world, retry_policy=RetryPolicy(1))
    world.given(finished(one, "failed"))
    world.given(finished(only(world.assign()), "failed"))
    assert world.status("t") is Status.FAILED
    world.given(RETRY)
    again = only(world.assign())
    world.given(finished(again, "failed"))
    world.settle()

    assert again.attempt == 3
    assert world.task("t").attempt == 4
    assert world.cell.ended[Status.FAILED] == 0


def test_a_cancelled_task_may_be_retried_by_hand() -> None:
    world = World().led().given(task("t"), CANCEL)
    world.settle()
    world.given(RETRY, facts.registered("w"))

    assert only(world.assign()).attempt == 1


@pytest.mark.parametrize("outcome", [None, "passed"])
def test_a_task_that_passed_or_has_not_ended_is_not_retried(
    outcome: facts.Outcome | None,
) -> None:
    world = here()
    one = running(world)
    if outcome is not None:
        world.given(finished(one, outcome))
    world.record(RETRY)

    assert world.to_refuse() == [RefusalCode.NOT_RETRYABLE]


def test_a_retry_of_an_unknown_task_is_refused() -> None:
    world = World()
    world.record(RETRY)

    assert world.to_refuse() == [RefusalCode.UNKNOWN_TASK]
