"""What follows from faults: retry by reason, budgets apart, elsewhere, after a bounded backoff."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from dtest.events.attempt import AttemptAssigned
from dtest.events.catalogue import Payload
from dtest.events.envelope import Event
from dtest.events.fields import TaskId
from dtest.events.reasons import MEANINGS, Reason
from dtest.events.task import (
    RetryPolicy,
    TaskCancelRequested,
    TaskEnded,
    TaskRetryRequested,
    TaskRetryScheduled,
)
from dtest.leadership.rules import CURRENT
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.facts import finished, refused, registered, released, task
from tests.kit.world import World, assignments, only, rules, running

RULES = {
    rule: [reason for reason in Reason if MEANINGS[reason].retry == rule]
    for rule in ("policy", "never", "elsewhere", "refused", "preempted", "once")
}
FAULTS_MAX = CURRENT.parameters.faults_max
FREE = [*RULES["refused"], *RULES["preempted"]]


def here() -> World:
    return World().led().given(registered("w"))


def again(world: World) -> AttemptAssigned:
    """Let the backoff pass and take the next assignment."""
    world.settle()
    if world.status("t") is Status.DELAYED:
        world.tick(world.task("t").not_before - world.now).settle()
    item = world.task("t")
    assert item.status is Status.ASSIGNED, item.status
    assert item.worker_id is not None
    return AttemptAssigned(item.id, item.attempt, item.worker_id, "i1", "cpu", "command")


def assigned(world: World) -> AttemptAssigned:
    """The latest assignment, as it was recorded."""
    world.settle()
    found = [event for record in world.history for event in record.events]
    return assignments(event.data for event in found if isinstance(event, Event))[-1]


def faults(world: World, reason: Reason, *, at_most: int = 12) -> int:
    """Fault with that reason until the task ends; how many attempts there were."""
    one = running(world) if "t" not in world.cell.tasks else again(world)
    for count in range(1, at_most + 1):
        world.given(finished(one, "faulted", reason))
        world.settle()
        if world.status("t") not in (Status.DELAYED, Status.ASSIGNED):
            return count
        one = again(world)
    return at_most


def test_every_reason_has_one_of_the_rules() -> None:
    assert sorted(reason for reasons in RULES.values() for reason in reasons) == sorted(Reason)


@pytest.mark.parametrize("reason", RULES["elsewhere"])
def test_a_fault_of_the_infrastructure_is_retried_from_its_budget(reason: Reason) -> None:
    world = here()

    assert faults(world, reason) == 1 + FAULTS_MAX
    assert world.status("t") is Status.ERRORED
    assert world.task("t").reason is reason


@pytest.mark.parametrize("reason", RULES["never"])
def test_what_the_client_did_is_not_retried(reason: Reason) -> None:
    world = here()

    assert faults(world, reason) == 1
    assert world.status("t") is Status.ERRORED


@pytest.mark.parametrize("reason", RULES["once"])
def test_what_nobody_understands_is_retried_once(reason: Reason) -> None:
    assert faults(here(), reason) == 2


@pytest.mark.parametrize("reason", FREE)
def test_what_nobody_did_is_retried_and_costs_neither_retry_nor_fault(reason: Reason) -> None:
    world = here()

    assert faults(world, reason) == 12
    assert (world.task("t").faults_used, world.task("t").retries_used) == (0, 0)


@pytest.mark.parametrize("reason", FREE)
def test_a_ping_pong_ends_with_its_reason(reason: Reason) -> None:
    hasty = rules(refusals_max=3, preemptions_max=4)
    world = World(hasty).led().given(registered("w"))

    assert faults(world, reason) == 1 + (3 if reason in RULES["refused"] else 4)
    assert (world.status("t"), world.task("t").reason) == (Status.ERRORED, reason)


def test_a_task_that_nobody_keeps_waits_ever_longer() -> None:
    world = here()
    one = running(world)
    delays: list[float] = []
    for _ in range(5):
        world.given(released(one)).settle()
        delays.append(max(0.0, world.task("t").not_before - world.now))
        one = again(world)

    assert delays[0] == 0.0
    assert all(later > 1.3 * earlier for earlier, later in pairwise(delays[1:]))


@pytest.mark.parametrize("reason", [Reason.RUN_TIMEOUT, Reason.IDLE_OUTPUT_TIMEOUT])
def test_a_retry_after_a_time_out_has_half_as_much_time_more(reason: Reason) -> None:
    world = here()
    limits: dict[str, Any] = {"timeout_seconds": 100.0, "idle_timeout_seconds": 10.0}
    world.given(task("t", retry_policy=RetryPolicy(9), **limits))
    given: list[tuple[float | None, float | None]] = []
    for _ in range(4):
        world.settle()
        world.tick(max(0.0, world.task("t").not_before - world.now))
        last = assigned(world)
        given.append((last.timeout_seconds, last.idle_timeout_seconds))
        world.given(finished(last, "faulted", reason))

    assert given == [(100.0, 10.0), (150.0, 15.0), (225.0, 22.5), (337.5, 33.75)]
    for _ in range(5):
        world.settle()
        world.given(finished(assigned(world), "faulted", reason)).settle()
    assert world.task("t").timeout_factor == CURRENT.parameters.timeout_factor_max


def test_a_retry_after_anything_else_has_the_time_that_the_task_states() -> None:
    world = here()
    world.given(task("t", retry_policy=RetryPolicy(1), timeout_seconds=100.0))
    world.given(finished(assigned(world), "failed")).settle()

    assert assigned(world).timeout_seconds == 100.0


def test_a_task_asked_for_again_has_fresh_budgets_and_its_own_time() -> None:
    world = World(rules(refusals_max=1)).led().given(registered("w"))
    world.given(task("t", retry_policy=RetryPolicy(1), timeout_seconds=8.0))
    world.given(finished(assigned(world), "faulted", Reason.RUN_TIMEOUT)).settle()
    world.given(refused(assigned(world))).settle()
    world.tick(1.0)
    world.given(refused(assigned(world))).settle()
    assert world.status("t") is Status.ERRORED
    world.given(TaskRetryRequested(TaskId("t")))

    assert (world.task("t").refusals_used, world.task("t").preemptions_used) == (0, 0)
    assert assigned(world).timeout_seconds == 8.0


@pytest.mark.parametrize("reason", RULES["policy"])
@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("outcome", ["failed", "faulted"])
def test_what_the_test_said_is_repeated_by_the_tasks_own_policy_alone(
    reason: Reason, retries: int, outcome: facts.Outcome
) -> None:
    world = here()
    one = running(world, retry_policy=RetryPolicy(retries))
    for _ in range(retries):
        world.given(finished(one, outcome, reason))
        one = again(world)
    world.given(finished(one, outcome, reason))
    world.settle()

    verdict = outcome == "failed" or reason in (Reason.ASSERTION_FAILED, Reason.EXIT_NONZERO)
    assert world.status("t") is (Status.FAILED if verdict else Status.ERRORED)
    assert world.task("t").attempt == retries + 1
    assert world.task("t").retries_used == retries


@pytest.mark.parametrize("give_back", [refused, released])
def test_a_refused_or_released_attempt_costs_no_budget(
    give_back: Callable[[AttemptAssigned], Payload],
) -> None:
    world = here().given(task("t"))
    one = only(world.assign())
    for _ in range(10):
        world.given(give_back(one))
        one = again(world)

    assert one.attempt == 11
    assert (world.task("t").faults_used, world.task("t").retries_used) == (0, 0)


def test_the_budgets_are_counted_apart() -> None:
    world = here()
    one = running(world, retry_policy=RetryPolicy(2))
    for _ in range(FAULTS_MAX):
        world.given(finished(one, "faulted", Reason.DISK_FULL))
        one = again(world)
    for _ in range(2):
        world.given(finished(one, "failed"))
        one = again(world)
    assert (world.task("t").faults_used, world.task("t").retries_used) == (FAULTS_MAX, 2)
    world.given(finished(one))

    assert world.task("t").flaky


def test_a_spent_budget_ends_the_task_with_the_last_reason() -> None:
    world = World(rules(faults_max=0)).led().given(registered("w"))
    world.given(finished(running(world), "faulted", Reason.DEVICE_LOST))

    assert world.settle() == [TaskEnded(TaskId("t"), "errored", Reason.DEVICE_LOST)]


def test_a_cancelled_task_is_not_retried_whatever_the_reason() -> None:
    for reason in Reason:
        world = here()
        one = running(world, retry_policy=RetryPolicy(5))
        world.given(TaskCancelRequested(one.task_id), finished(one, "faulted", reason))
        world.settle()
        assert world.status("t") is Status.CANCELLED


def test_an_attempt_that_its_agent_stopped_on_its_own_is_tried_again() -> None:
    world = here()
    world.given(finished(running(world), "cancelled"))

    assert again(world).attempt == 2


def test_the_delay_grows_with_each_fault_and_is_recorded_to_the_microsecond() -> None:
    world = here()
    one = running(world)
    delays: list[float] = []
    for _ in range(FAULTS_MAX):
        world.given(finished(one, "faulted", Reason.DISK_FULL))
        (ruling,) = world.step()
        assert isinstance(ruling, TaskRetryScheduled)
        assert world.task("t").not_before == ruling.not_before.timestamp()
        delays.append(ruling.not_before.timestamp() - world.now)
        one = again(world)

    assert [round(delay) for delay in delays] == [1, 2, 4] or delays == sorted(delays)
    assert all(
        0.8 * full <= delay <= 1.2 * full for delay, full in zip(delays, [1, 2, 4], strict=True)
    )


def test_a_task_whose_worker_left_in_good_order_goes_back_at_once() -> None:
    world = here()
    running(world)
    world.given(facts.left("w"))
    world.settle()

    assert world.status("t") is Status.QUEUED


def test_a_first_retry_by_policy_waits_as_long_as_the_task_says() -> None:
    world = here()
    world.given(finished(running(world, retry_policy=RetryPolicy(1, 60.0)), "failed"))
    world.settle()

    assert 48.0 <= world.task("t").not_before - world.now <= 72.0


def test_the_rulings_of_one_decision_are_bounded_and_the_rest_follows() -> None:
    world = World(rules(rulings_max=10)).led()
    world.record(*(task(f"t{n}", deadline=facts.instant(facts.START + 1)) for n in range(25)))
    world.tick(2)

    assert [len(world.step()) for _ in range(4)] == [10, 10, 5, 0]
    assert world.cell.ended == {Status.EXPIRED: 25}
