"""Breakers, the health score and quarantine of workers: when they open, are tried, and close."""

from typing import Any

import pytest

from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import MEANINGS, Reason, RefusalCode
from dtest.events.task import Requirements, TaskCancelRequested
from dtest.events.worker import (
    WorkerQuarantined,
    WorkerQuarantineRequested,
    WorkerReinstated,
    WorkerReinstateRequested,
)
from dtest.leadership.rules import CURRENT
from dtest.recovery.guards import score
from dtest.scheduling.why import explain
from dtest.state.health import LOSSES, STRIKING, Guard
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.facts import registered, released, task
from tests.kit.faulting import end, faults_on, fleet, health, live, only_on, run, types
from tests.kit.world import World, assignments, places, rules

FORGIVEN_PASSES = CURRENT.parameters.forgiven_passes

POLICY = CURRENT.parameters
OPEN_S = POLICY.breaker_open_s


def opened(worker: str = "w") -> World:
    """A cell in which that worker's breaker has just opened."""
    world = faults_on(fleet(worker, "v"), worker, POLICY.breaker_threshold)
    world.settle()
    assert health(world, worker).guard is Guard.OPEN
    return world


def tried(world: World, worker: str = "w") -> World:
    """Let the time pass until one attempt is tried there."""
    until = health(world, worker).until
    assert until is not None
    world.tick(until - world.now).settle()
    return world


# -- breakers of workers ------------------------------------------------------------------------


def test_faults_of_three_tasks_in_a_row_open_the_breaker_of_their_worker() -> None:
    world = faults_on(fleet("w"), "w", POLICY.breaker_threshold - 1)
    world.settle()
    assert health(world, "w").guard is Guard.CLOSED

    faults_on(world, "w", 1, prefix="last")
    decided = world.step()

    (ruling,) = [data for data in decided if isinstance(data, BreakerOpened)]
    assert (ruling.breaker_id, ruling.cause) == ("worker:w", "consecutive_faults")
    assert ruling.until.timestamp() == world.now + OPEN_S
    assert health(world, "w").guard is Guard.OPEN
    assert not world.worker("w").takes_work


def test_one_task_that_faults_again_and_again_is_one_strike() -> None:
    world = fleet("w").given(task("t"))
    for _ in range(POLICY.faults_max + 1):
        run(world, "t")
        world.settle()
        world.tick(10)

    assert world.status("t") is Status.ERRORED
    assert len(health(world, "w").strikes) == 1
    assert health(world, "w").guard is Guard.CLOSED


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_a_verdict_between_faults_begins_the_row_anew(outcome: facts.Outcome) -> None:
    world = faults_on(fleet("w"), "w", 2)
    world.given(only_on("w", "t"))
    run(world, "t", outcome)
    faults_on(world, "w", 1, prefix="last")
    world.settle()

    assert health(world, "w").guard is Guard.CLOSED


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in STRIKING])
def test_what_is_not_the_workers_fault_does_not_speak_against_it(reason: Reason) -> None:
    world = fleet("w")
    for number in range(5):
        world.given(only_on("w", f"t{number}"))
        run(world, f"t{number}", "faulted", reason)
        world.given(TaskCancelRequested(TaskId(f"t{number}")))

    assert health(world, "w").strikes == []
    assert world.cell.kinds == {}


def test_what_speaks_against_a_worker_blames_it_or_its_device() -> None:
    assert {MEANINGS[reason].blame for reason in STRIKING} == {"worker", "device"}
    assert LOSSES < STRIKING


def test_nothing_goes_to_a_worker_with_an_open_breaker_and_why_says_so() -> None:
    world = opened()
    world.given(only_on("w", "t"), task("anywhere"))
    assert places(world.assign()) == {"anywhere": "v"}
    (reason, *_) = explain(world.cell, world.task("t"), world.now)
    assert reason.code == "workers_quarantined"
    assert "w (open, consecutive_faults) until" in reason.text


def test_what_runs_on_a_worker_when_its_breaker_opens_goes_on() -> None:
    world = fleet("w", slots=4)
    world.given(only_on("w", "long")).settle()
    faults_on(world, "w", 3)
    world.settle()
    assert health(world, "w").guard is Guard.OPEN

    end(world, live(world, "long"), "passed")
    assert world.status("long") is Status.PASSED


def test_after_its_time_a_breaker_lets_a_single_attempt_through() -> None:
    world = faults_on(fleet("w", slots=4), "w", 3)
    world.settle()
    world.record(*(only_on("w", f"n{number}") for number in range(4)))
    assert world.assign() == []
    world.tick(OPEN_S)

    decided = world.settle()

    assert BreakerHalfOpened("worker:w", None, facts.instant(world.now + POLICY.probation_s)) in (
        decided
    )
    assert len(assignments(decided)) == 1
    assert health(world, "w").probe is not None


def test_a_probe_that_brings_a_verdict_closes_the_breaker() -> None:
    for outcome in ("passed", "failed"):
        world = tried(opened().given(only_on("w", "t"), only_on("w", "u")))
        assert world.status("u") is Status.QUEUED
        end(world, live(world, "t"), outcome)

        decided = world.settle()

        assert BreakerClosed("worker:w", "probe_passed") in decided
        assert (health(world, "w").guard, health(world, "w").strikes) == (Guard.CLOSED, [])
        assert world.status("u") is Status.ASSIGNED


@pytest.mark.parametrize(
    ("threshold", "ruling", "guard"),
    [(70.0, "worker.quarantined", Guard.QUARANTINED), (0.0, "breaker.opened", Guard.OPEN)],
)
def test_a_probe_that_faults_opens_it_again(threshold: float, ruling: str, guard: Guard) -> None:
    world = World(rules(health_threshold=threshold)).led()
    faults_on(fleet("w", "v", world=world), "w", 3).settle()
    tried(world.given(only_on("w", "t"), only_on("w", "u")))
    end(world, live(world, "t"))

    assert ruling in types(world.settle())
    assert (health(world, "w").guard, health(world, "w").until) == (guard, world.now + OPEN_S)
    assert world.status("u") is Status.QUEUED


def test_a_probe_without_a_verdict_lets_the_next_one_try() -> None:
    world = tried(opened().given(only_on("w", "t"), only_on("w", "u")))
    end(world, live(world, "t"), "faulted", Reason.MISSING_INPUT)
    world.settle()
    assert live(world, "u").worker_id == "w"
    world.given(released(live(world, "u"))).settle()

    assert health(world, "w").guard is Guard.HALF_OPEN
    assert health(world, "w").probe == (TaskId("u"), 2)


def test_a_worker_that_is_tried_gets_no_task_that_has_faulted_if_another_can_take_it() -> None:
    world = faults_on(fleet("w", "v", "u"), "w", 3)
    world.settle()
    world.given(only_on("u", "busy"), task("t")).settle()
    world.given(facts.started(live(world, "busy")))
    assert run(world, "t").worker_id == "v"
    world.given(only_on("v", "more")).settle()
    world.given(facts.started(live(world, "more")))
    tried(world).given(task("fresh"))

    assert places(world.assign()) == {"fresh": "w"}
    assert world.task("t").worker_id == "v"


def test_a_worker_to_which_nothing_comes_is_let_in_again() -> None:
    world = tried(opened())
    world.tick(POLICY.probation_s)

    assert BreakerClosed("worker:w", "nothing_ran") in world.settle()
    assert world.worker("w").takes_work


def test_a_breaker_outlives_the_restart_of_its_agent() -> None:
    world = opened()
    has = world.worker("w").capability
    world.given(facts.left("w"), registered("w", has, incarnation="i2")).settle()

    assert health(world, "w").guard is Guard.OPEN
    assert world.given(only_on("w", "t")).assign() == []


def test_the_loss_of_a_worker_is_one_strike_however_much_ran_there() -> None:
    world = fleet("w", slots=5)
    world.record(*(only_on("w", f"t{number}") for number in range(5)))
    world.settle()
    world.given(facts.lost("w"))

    assert len(health(world, "w").strikes) == 1
    assert world.cell.kinds == {}


# -- the score ----------------------------------------------------------------------------------


def test_the_score_falls_with_strikes_and_rises_with_time_and_verdicts() -> None:
    world = faults_on(fleet("w"), "w", 2)
    strikes = health(world, "w").strikes

    assert score([], world.now, POLICY) == 100.0
    assert score(strikes, world.now, POLICY) == 80.0
    assert score(strikes, world.now + POLICY.strike_half_life_s, POLICY) == 90.0
    world.given(only_on("w", "t"))
    run(world, "t", "passed")
    assert score(health(world, "w").strikes, world.now, POLICY) == 84.0
    assert score(strikes * 20, world.now, POLICY) == 0.0


def test_strikes_are_forgotten_after_many_verdicts() -> None:
    world = faults_on(fleet("w"), "w", 1)
    for number in range(FORGIVEN_PASSES):
        world.given(only_on("w", f"t{number}"))
        run(world, f"t{number}", "passed")

    assert health(world, "w").strikes == []
    assert world.cell.ailing == {}


def flaps(world: World, rounds: int, *, prefix: str = "r") -> None:
    """Fault and pass in turn: never three faults in a row."""
    for number in range(rounds):
        faults_on(world, "w", 1, prefix=f"{prefix}{number}")
        world.given(only_on("w", f"{prefix}p{number}"))
        world.settle()
        if world.status(f"{prefix}p{number}") is not Status.ASSIGNED:
            world.given(TaskCancelRequested(TaskId(f"{prefix}p{number}"))).settle()
            return
        run(world, f"{prefix}p{number}", "passed")


def quarantined(world: World | None = None, prefix: str = "r") -> World:
    world = world or fleet("w", "v")
    flaps(world, 20, prefix=prefix)
    assert health(world, "w").guard is Guard.QUARANTINED
    return world


def test_a_worker_that_faults_now_and_then_is_quarantined_by_its_score() -> None:
    world = quarantined()

    assert health(world, "w").until == world.now + POLICY.quarantine_s
    assert health(world, "w").quarantines == 1
    assert score(health(world, "w").strikes, world.now, POLICY) < POLICY.health_threshold
    assert not world.worker("w").takes_work


def test_a_quarantined_worker_is_reinstated_by_a_probe_and_starts_afresh() -> None:
    world = tried(quarantined())
    assert health(world, "w").guard is Guard.PROBATION
    world.given(only_on("w", "t"))
    run(world, "t", "passed")

    assert WorkerReinstated(WorkerId("w"), "probe_passed") in world.settle()
    assert (health(world, "w").guard, health(world, "w").strikes) == (Guard.CLOSED, [])


def test_each_further_quarantine_lasts_longer_up_to_a_bound() -> None:
    world = quarantined()
    lengths: list[float] = []
    for number in range(7):
        until = health(world, "w").until
        assert until is not None
        lengths.append(until - health(world, "w").since)
        tried(world).given(only_on("w", f"probe{number}"))
        run(world, f"probe{number}")
        world.given(TaskCancelRequested(TaskId(f"probe{number}"))).settle()

    assert lengths == [300.0, 600.0, 1200.0, 2400.0, 3600.0, 3600.0, 3600.0]


def test_a_quarantine_long_ago_does_not_count() -> None:
    world = tried(quarantined()).tick(POLICY.probation_s)
    assert WorkerReinstated(WorkerId("w"), "nothing_ran") in world.settle()
    quarantined(world, prefix="soon")
    assert health(world, "w").quarantines == 2
    tried(world).tick(POLICY.probation_s).settle()
    world.tick(POLICY.quarantine_memory_s + 1)
    quarantined(world, prefix="late")

    assert health(world, "w").quarantines == 1


# -- by hand ------------------------------------------------------------------------------------


def test_an_operators_quarantine_holds_until_it_is_lifted() -> None:
    world = fleet("w").given(WorkerQuarantineRequested(WorkerId("w"), "smoke"), only_on("w", "t"))
    world.tick(10 * POLICY.quarantine_s_max)
    assert world.settle() == []
    has = world.worker("w").capability
    world.given(facts.left("w"), registered("w", has, incarnation="i2"))
    assert world.settle() == []
    assert health(world, "w").cause == "operator: smoke"

    world.given(WorkerReinstateRequested(WorkerId("w")))
    assert places(world.assign()) == {"t": "w"}


def test_an_operator_may_reinstate_at_any_time_and_what_was_is_forgotten() -> None:
    for world in (opened(), tried(opened()), quarantined(), tried(quarantined())):
        world.given(WorkerReinstateRequested(WorkerId("w")))
        assert (health(world, "w").guard, health(world, "w").strikes) == (Guard.CLOSED, [])
        assert world.worker("w").takes_work
        world.settle()
        assert health(world, "w").guard is Guard.CLOSED


@pytest.mark.parametrize("event", [WorkerQuarantineRequested, WorkerReinstateRequested])
def test_an_unknown_worker_cannot_be_asked_for(event: Any) -> None:
    world = fleet("w").given(event(WorkerId("nobody")))

    assert world.to_refuse() == [RefusalCode.UNKNOWN_WORKER]


def test_what_was_decided_before_an_operator_spoke_changes_nothing() -> None:
    world = faults_on(fleet("w"), "w", 3)
    draft = world.draft()
    world.given(WorkerQuarantineRequested(WorkerId("w")))
    world.enact(draft)

    assert health(world, "w").until is None
    assert world.ignored() == {"breaker_out_of_date": 1}
    for late in (
        WorkerReinstated(WorkerId("w"), "probe_passed"),
        BreakerClosed("worker:w", "probe_passed"),
        BreakerHalfOpened("worker:w"),
        WorkerQuarantined(WorkerId("w"), facts.instant(world.now), 0.0),
    ):
        world.given(late)
    assert (health(world, "w").guard, health(world, "w").until) == (Guard.QUARANTINED, None)


def test_requirements_and_cancellation_work_on_as_ever() -> None:
    world = opened().given(only_on("w", "t"), task("never", requirements=Requirements(("tpu",))))
    world.given(TaskCancelRequested(TaskId("t"))).settle()

    assert world.status("t") is Status.CANCELLED
    assert world.status("never") is Status.QUEUED
