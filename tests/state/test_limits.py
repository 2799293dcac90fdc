"""Time: backoffs end, assignments are to be accepted, deadlines and wait limits expire a task."""

from typing import Any

import pytest

from dtest.events.attempt import AttemptReturned
from dtest.events.fields import RunId, TaskId
from dtest.events.reasons import Reason
from dtest.events.run import RunOpened
from dtest.events.task import TaskCancelRequested, TaskEnded, TaskRetryRequested
from dtest.leadership.rules import CURRENT
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.facts import finished, refused, started, task
from tests.kit.world import World, only, running

ACCEPT_S_MAX = CURRENT.parameters.accept_s_max
ACCEPT_AGAIN_S = CURRENT.parameters.accept_again_s
ACCEPT_IDLE_S_MAX = CURRENT.parameters.accept_idle_s_max

RETRY = TaskRetryRequested(TaskId("t"))
LIMITS: dict[str, tuple[dict[str, Any], Reason]] = {
    "deadline": ({"deadline": facts.instant(facts.START + 60)}, Reason.DEADLINE_EXCEEDED),
    "wait": ({"wait_limit_seconds": 60.0}, Reason.NO_CAPACITY),
}


def here() -> World:
    return World().led().given(facts.registered("w"))


def busy(world: World, seconds: float) -> World:
    """Let time pass while other things are stored each second."""
    for _ in range(int(seconds)):
        world.tick(1.0).given(RunOpened(RunId("tick")))
    return world.tick(seconds - int(seconds))


def test_an_assignment_that_is_not_accepted_in_time_goes_back_to_the_queue() -> None:
    world = here().given(task("t"))
    one = only(world.assign())
    assert not busy(world, ACCEPT_S_MAX - 0.1).settle()

    decided = busy(world, 1.0).step()

    assert decided == [AttemptReturned(one.task_id, 1, one.worker_id)]
    assert world.task("t").reason is Reason.NOT_ACCEPTED
    assert world.worker("w").free.slots == 1


def test_the_absence_of_the_journal_is_not_held_against_a_worker() -> None:
    """The report of its start waits for the journal like everything else."""
    world = here().given(task("t"))
    only(world.assign())
    world.tick(ACCEPT_S_MAX * 3)
    assert not world.settle()
    world.given(RunOpened(RunId("first")))
    assert not busy(world, ACCEPT_AGAIN_S - 0.5).settle()

    assert len(busy(world, 1.0).step()) == 1


def test_an_idle_journal_is_not_waited_for_without_end() -> None:
    world = here().given(task("t"))
    only(world.assign())
    assert not world.tick(ACCEPT_IDLE_S_MAX - 0.1).settle()
    assert world.cell.next_timer_at() == pytest.approx(world.now + 0.1)

    assert len(world.tick(0.1).step()) == 1


def test_messages_that_trickle_do_not_put_a_return_off_without_end() -> None:
    world = here().given(task("t"))
    only(world.assign())
    for _ in range(int(ACCEPT_IDLE_S_MAX / 3)):
        assert world.status("t") is Status.ASSIGNED
        world.tick(3.0).given(RunOpened(RunId("tick"))).settle()

    assert world.task("t").reason is Reason.NOT_ACCEPTED


def test_an_accepted_assignment_is_not_returned() -> None:
    world = here()
    running(world)

    assert not world.tick(ACCEPT_S_MAX * 2).settle()


def test_a_delayed_task_starts_when_its_backoff_ended_and_not_before() -> None:
    world = here()
    world.given(finished(running(world), "faulted", Reason.DISK_FULL))
    world.settle()
    until = world.task("t").not_before
    assert not world.tick(until - world.now - 0.001).settle()

    assert only(world.tick(0.001).assign()).attempt == 2


def test_the_next_instant_to_look_at_is_known() -> None:
    world = here().given(task("t", wait_limit_seconds=60.0), task("u", wait_limit_seconds=30.0))

    assert world.cell.next_timer_at() == facts.START + 30
    world.cell.wake(facts.START + 30)
    assert world.cell.next_timer_at() == facts.START + 60


def test_nothing_to_look_at_is_no_instant() -> None:
    assert World().cell.next_timer_at() is None


@pytest.mark.parametrize("limit", LIMITS)
def test_a_task_that_waits_too_long_expires_with_its_reason(limit: str) -> None:
    stated, reason = LIMITS[limit]
    world = World().led().given(task("t", **stated))
    assert not world.tick(59.9).settle()

    assert world.tick(0.1).settle() == [TaskEnded(TaskId("t"), "expired", reason)]
    assert world.status("t") is Status.EXPIRED


@pytest.mark.parametrize("limit", LIMITS)
def test_a_blocked_task_expires_too(limit: str) -> None:
    world = World().led().given(task("a"), task("t", after=("a",), **LIMITS[limit][0]))
    world.tick(60).settle()

    assert world.status("t") is Status.EXPIRED


@pytest.mark.parametrize("limit", LIMITS)
def test_a_task_that_runs_in_time_does_not_expire(limit: str) -> None:
    world = here()
    one = running(world, **LIMITS[limit][0])
    assert not world.tick(100).settle()
    world.given(finished(one))

    assert world.status("t") is Status.PASSED


@pytest.mark.parametrize("limit", LIMITS)
def test_an_expiring_task_is_not_assigned_in_the_same_decision(limit: str) -> None:
    world = World().led().given(task("t", **LIMITS[limit][0]))
    world.tick(60).given(facts.registered("w"))

    assert not world.assign()
    assert world.status("t") is Status.EXPIRED


@pytest.mark.parametrize("limit", LIMITS)
def test_an_expiring_task_whose_dependency_ends_in_the_meantime_is_not_assigned(
    limit: str,
) -> None:
    world = here()
    one = running(world, "a")
    world.given(task("t", after=("a",), **LIMITS[limit][0])).tick(60)
    draft = world.draft()
    world.given(finished(one))
    assert not world.cell.ready
    world.enact(draft)

    assert world.status("t") is Status.EXPIRED
    assert not world.ignored()


def test_a_deadline_that_was_in_the_past_expires_at_once() -> None:
    for past in (facts.instant(0.0), facts.instant(-60.0), facts.instant(facts.START)):
        world = here().given(task("t", deadline=past))
        world.settle()
        assert world.status("t") is Status.EXPIRED


def test_no_attempt_starts_after_the_deadline_even_if_one_ran_when_it_passed() -> None:
    world = here()
    one = running(world, **LIMITS["deadline"][0])
    world.tick(61).settle()
    world.given(finished(one, "faulted", Reason.WORKER_LOST))

    assert not world.assign()
    assert world.status("t") is Status.EXPIRED
    assert world.task("t").reason is Reason.DEADLINE_EXCEEDED


def test_the_wait_limit_is_about_the_first_start_only() -> None:
    world = here()
    one = running(world, **LIMITS["wait"][0])
    world.tick(59.5).given(finished(one, "faulted", Reason.WORKER_LOST))
    world.settle()
    world.tick(5)

    assert only(world.assign()).attempt == 2


def test_an_assignment_that_was_refused_is_no_start() -> None:
    world = here().given(task("t", **LIMITS["wait"][0]))
    one = only(world.assign())
    world.tick(61).settle()
    world.given(refused(one))
    world.settle()

    assert world.status("t") is Status.EXPIRED


def test_a_retry_by_hand_is_a_new_arrival() -> None:
    world = World().led().given(task("t", **LIMITS["wait"][0]))
    world.tick(60).settle()
    world.given(RETRY)
    assert not world.tick(59).settle()
    assert world.status("t") is Status.QUEUED
    world.tick(1).settle()

    assert world.status("t") is Status.EXPIRED


def test_the_wait_limit_of_the_first_arrival_does_not_reach_into_the_second() -> None:
    world = World().led().given(task("t", **LIMITS["wait"][0]))
    world.given(TaskCancelRequested(TaskId("t")))
    world.tick(50).settle()
    world.given(RETRY)

    assert not world.tick(59).settle()
    assert len(world.tick(1).settle()) == 1


def test_a_deadline_that_had_passed_counts_no_more_after_a_retry_by_hand() -> None:
    world = World().led().given(task("t", **LIMITS["deadline"][0]))
    world.tick(60).settle()
    world.tick(1).given(RETRY, facts.registered("w"))

    world.given(finished(only(world.assign())))

    assert world.status("t") is Status.PASSED


def test_a_deadline_that_lies_ahead_counts_after_a_retry_by_hand() -> None:
    world = World().led().given(task("t", **LIMITS["deadline"][0]))
    world.given(TaskCancelRequested(TaskId("t")))
    world.settle()
    world.given(RETRY)
    world.tick(60).settle()

    assert world.status("t") is Status.EXPIRED


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("looks", [(), (30.0,), (59.0, 60.5), (60.5, 70.0, 80.0)])
def test_it_does_not_matter_when_a_leader_looked(limit: str, looks: tuple[float, ...]) -> None:
    """A leader wakes its cell often, the audit only where something was decided."""
    world = World().led().given(task("t", **LIMITS[limit][0]), facts.registered("w"))
    world.given(started(only(world.assign()), world.now))
    for look in looks:
        world.cell.wake(facts.START + look)
    world.tick(90).given(facts.left("w"), TaskCancelRequested(TaskId("t")))
    world.settle()
    world.given(RETRY, facts.registered("w"))
    world.cell.wake(world.now)
    seldom = world.replayed()
    seldom.wake(world.now)

    assert set(seldom.expiring) == set(world.cell.expiring) == set()
    assert set(seldom.ready) == set(world.cell.ready) != set()
