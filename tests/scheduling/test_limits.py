"""Observed time-outs: only where none is stated, only when asked for, never below what passed."""

from dataclasses import replace
from typing import Any

import pytest

from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import TaskId, WorkerId
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason
from dtest.events.task import Requirements
from dtest.events.worker import WorkerRegistered
from dtest.leadership.rules import CURRENT
from dtest.state.durations import bucket_of, end_of
from dtest.state.snapshot import dump, load
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.facts import cuda, machine, registered, task
from tests.kit.world import World, only

DURATIONS_MAX = CURRENT.parameters.durations_max

ENOUGH = CURRENT.parameters.observed_passes_min
FLOOR_S = CURRENT.parameters.observed_floor_s
MULTIPLIER = CURRENT.parameters.observed_multiplier
OBSERVED = PolicyChanged(timeouts="observed")


def cell(*policies: PolicyChanged) -> World:
    return World().led().given(registered("w", machine(1, cuda(0))), *policies)


def begun(world: World, task_id: str, **more: Any) -> AttemptAssigned:
    """A task's attempt begins."""
    more.setdefault("name", "unit")
    world.given(task(task_id, **more))
    one = only(world.assign())
    assert one.task_id == task_id
    world.given(facts.started(one, world.now))
    return one


def took(world: World, seconds: float, task_id: str, **more: Any) -> AttemptAssigned:
    """A task passes after so many seconds."""
    one = begun(world, task_id, **more)
    start = facts.instant(world.now)
    world.tick(seconds)
    end = facts.finished(one, "passed", None, world.now)
    world.given(replace(end, started_at=start))
    return one


def observed(seconds: float, count: int = ENOUGH, **more: Any) -> World:
    world = cell(OBSERVED)
    for number in range(count):
        took(world, seconds, f"p{number}", **more)
    return world


def test_a_time_out_follows_from_what_others_of_the_signature_took() -> None:
    one = begun(observed(100.0), "t")

    assert one.timeout_observed
    assert one.timeout_seconds == MULTIPLIER * end_of(bucket_of(100.0))


def test_short_runs_get_the_floor() -> None:
    assert begun(observed(0.5), "t").timeout_seconds == FLOOR_S


def test_the_longest_run_that_passed_is_never_killed() -> None:
    world = observed(100.0, count=200)
    took(world, 5_000.0, "slow")
    one = begun(world, "t")

    assert one.timeout_seconds is not None
    assert one.timeout_seconds >= 5_000.0


@pytest.mark.parametrize(
    "world",
    [observed(100.0, count=ENOUGH - 1), observed(100.0, name="other")],
    ids=["too few runs", "another signature"],
)
def test_as_long_as_too_little_is_known_there_is_no_time_out(world: World) -> None:
    one = begun(world, "t")

    assert (one.timeout_seconds, one.timeout_observed) == (None, False)


def test_on_other_hardware_it_may_take_another_time() -> None:
    one = begun(observed(100.0), "t", requirements=Requirements(("cuda",)))

    assert one.timeout_seconds is None


def test_what_the_task_states_holds_and_is_not_counted() -> None:
    world = observed(100.0, timeout_seconds=500.0)

    assert world.cell.durations == {}
    assert begun(world, "t").timeout_seconds is None
    world = observed(100.0)
    one = begun(world, "u", timeout_seconds=7.0)
    assert (one.timeout_seconds, one.timeout_observed) == (7.0, False)


def test_nothing_is_counted_unless_somebody_asked_for_it() -> None:
    world = cell()
    for number in range(ENOUGH):
        took(world, 100.0, f"p{number}")

    assert world.cell.durations == {}
    assert begun(world, "t").timeout_seconds is None


def test_who_takes_it_back_has_everything_forgotten() -> None:
    world = observed(100.0).given(PolicyChanged(timeouts="declared"))

    assert world.cell.durations == {}
    assert begun(world, "t").timeout_seconds is None
    world.given(PolicyChanged(ranking="pack"))
    assert world.cell.timeouts == "declared"


def test_another_choice_leaves_it() -> None:
    world = observed(100.0).given(PolicyChanged(ranking="pack"))

    assert world.cell.timeouts == "observed"
    assert begun(world, "t").timeout_observed


def test_what_a_simulated_worker_took_says_nothing_about_real_ones() -> None:
    world = World().led().given(OBSERVED)
    world.given(WorkerRegistered(WorkerId("sim"), "i1", "h", machine(1), simulated=True))
    config = {"command": ["true"], "simulate": {"seconds": 1}}
    for number in range(ENOUGH):
        took(world, 100.0, f"p{number}", config=config)
    assert begun(world, "s", config=config).timeout_observed

    world.given(registered("w", machine(1)))
    one = begun(world, "t", config=config)
    assert (one.worker_id, one.timeout_observed) == ("w", False)


def test_who_runs_into_it_first_gets_ten_times_the_time_and_then_is_errored() -> None:
    world = observed(100.0)
    one = begun(world, "t")
    world.given(facts.finished(one, "faulted", Reason.RUN_TIMEOUT, world.now)).settle()
    assert world.task("t").faults_used == 1
    again = only(world.tick(2.0).assign())

    assert one.timeout_seconds is not None
    assert again.timeout_seconds == pytest.approx(10 * one.timeout_seconds)
    world.given(facts.finished(again, "faulted", Reason.RUN_TIMEOUT, world.now)).settle()
    assert world.status("t") is Status.ERRORED


def test_a_run_that_went_on_from_a_checkpoint_is_not_a_whole_one() -> None:
    world = cell(OBSERVED)
    one = begun(world, "t")
    world.given(facts.checkpointed(one), facts.released(one))
    again = only(world.tick(1.0).assign())
    world.given(facts.finished(again, "passed", None, world.now))

    assert world.status("t") is Status.PASSED
    assert world.cell.durations == {}


def test_signatures_are_bounded_and_the_one_not_seen_for_longest_goes() -> None:
    world = cell(OBSERVED)
    for number in range(DURATIONS_MAX):
        took(world, 1.0, f"p{number}", name=f"n{number}")
    took(world, 1.0, "again", name="n0")
    took(world, 1.0, "more", name="more")

    assert len(world.cell.durations) == DURATIONS_MAX
    assert "cpu/signature:command/n1" not in world.cell.durations
    assert "cpu/signature:command/n0" in world.cell.durations


def test_a_replay_and_a_snapshot_know_the_same_durations() -> None:
    world = observed(100.0)
    loaded = load(dump(world.cell))

    assert loaded.durations == world.cell.durations == world.replayed().durations
    assert loaded.timeouts == "observed"
    assert loaded.tasks[TaskId("p0")].status is Status.PASSED
