"""What a task goes on from: the latest checkpoint of its live attempt, and no other."""

import json
from dataclasses import replace

import pytest

from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.events.task import RetryPolicy, TaskCancelRequested, TaskRetryRequested
from dtest.state.snapshot import dump, load
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.histories import Move, ordinary, play
from tests.kit.search import CASES, explore
from tests.kit.world import World, assignments, only, running


def here() -> World:
    return World().led().given(facts.registered("w"))


taken = facts.checkpointed


def held(world: World, name: str = "t") -> str | None:
    checkpoint = world.task(name).checkpoint
    return checkpoint.object_name if checkpoint is not None else None


def next_attempt(world: World) -> AttemptAssigned:
    world.settle()
    world.tick(400)
    return only(world.assign()) if world.status("t") is not Status.ASSIGNED else _current(world)


def _current(world: World) -> AttemptAssigned:
    every = (event.data for record in world.history for event in record.events)  # type: ignore[union-attr]
    return assignments(every)[-1]


def test_the_first_attempt_goes_on_from_nothing() -> None:
    assert running(here()).checkpoint is None


def test_the_latest_checkpoint_counts() -> None:
    world = here()
    one = running(world)
    world.given(taken(one, 1), taken(one, 3), taken(one, 2))

    assert held(world) == "t/1/3"
    assert world.ignored() == {"checkpoint_out_of_date": 1}


def test_the_same_checkpoint_again_changes_nothing() -> None:
    world = here()
    one = running(world)
    world.given(taken(one), replace(taken(one), sha256="cd"))

    checkpoint = world.task("t").checkpoint
    assert checkpoint is not None
    assert checkpoint.sha256 == "ab"


@pytest.mark.parametrize(
    "end",
    [
        facts.released,
        lambda one: facts.finished(one, "faulted", Reason.DISK_FULL),
        lambda one: facts.finished(one, "faulted", Reason.RUN_TIMEOUT),
        lambda one: facts.finished(one, "faulted", Reason.ARTIFACT_DOWNLOAD),
        lambda one: facts.finished(one, "failed"),
        lambda one: facts.lost(one.worker_id),
    ],
    ids=["drain", "fault", "timeout", "download", "failure", "loss"],
)
def test_the_next_attempt_is_given_it_whyever_there_is_one(end: object) -> None:
    world = here().given(facts.registered("v"))
    one = running(world, retry_policy=RetryPolicy(1))
    world.given(taken(one), end(one))  # type: ignore[operator]

    two = next_attempt(world)

    assert two.attempt == 2
    assert two.checkpoint is not None
    assert (two.checkpoint.object_name, two.checkpoint.attempt) == ("t/1/1", 1)


def test_an_attempt_that_took_none_hands_on_what_it_was_given() -> None:
    world = here()
    one = running(world)
    world.given(taken(one), facts.released(one))
    two = next_attempt(world)
    world.given(facts.started(two), facts.released(two))

    assert next_attempt(world).checkpoint == two.checkpoint


def test_the_first_checkpoint_of_a_later_attempt_replaces_all_of_an_earlier_one() -> None:
    world = here()
    one = running(world)
    world.given(taken(one, 9), facts.released(one))
    two = next_attempt(world)
    world.given(taken(two, 1))

    assert held(world) == "t/2/1"


def test_a_checkpoint_of_an_attempt_that_was_given_away_changes_nothing() -> None:
    world = here()
    one = running(world)
    world.given(taken(one, 1), facts.registered("v"), facts.lost("w"))
    two = next_attempt(world)
    world.given(facts.started(two), taken(one, 2))

    assert (two.worker_id, held(world)) == ("v", "t/1/1")
    assert world.ignored() == {"stale_attempt": 1}


def test_a_checkpoint_of_an_attempt_that_ended_changes_nothing() -> None:
    world = here()
    one = running(world)
    world.given(facts.released(one), taken(one))

    assert held(world) is None


def test_a_damaged_checkpoint_is_forgotten_and_the_next_attempt_starts_anew() -> None:
    world = here()
    one = running(world)
    world.given(taken(one), facts.released(one))
    two = next_attempt(world)
    world.given(facts.finished(two, "faulted", Reason.CHECKPOINT_DAMAGED))
    three = next_attempt(world)

    assert (three.attempt, three.checkpoint) == (3, None)
    assert world.task("t").faults_used == 0


@pytest.mark.parametrize("way", ["passed", "cancelled"])
def test_whoever_is_done_goes_on_from_nothing(way: str) -> None:
    world = here()
    one = running(world)
    world.given(taken(one))
    if way == "cancelled":
        world.given(TaskCancelRequested(TaskId("t")))
        world.settle()
        world.given(facts.finished(one, "cancelled", Reason.CANCELLED_USER))
    else:
        world.given(facts.finished(one))

    assert (world.status("t"), held(world)) == (Status(way), None)


def test_an_operator_who_asks_for_a_failed_task_again_has_it_go_on() -> None:
    world = here()
    one = running(world)
    world.given(taken(one), facts.finished(one, "failed"))
    assert world.status("t") is Status.FAILED
    world.given(TaskRetryRequested(TaskId("t")))

    given = only(world.assign()).checkpoint
    assert given is not None
    assert given.object_name == "t/1/1"


def test_a_checkpoint_that_could_not_be_stored_changes_nothing() -> None:
    world = here()
    one = running(world)
    world.given(taken(one))
    before = json.loads(dump(world.cell))["tasks"]
    world.given(facts.not_checkpointed(one))

    assert json.loads(dump(world.cell))["tasks"] == before
    assert world.to_refuse() == []


def test_a_checkpoint_survives_a_snapshot() -> None:
    world = here()
    one = running(world)
    world.given(taken(one, 4), facts.released(one))
    world.cell = load(dump(world.cell))

    given = next_attempt(world).checkpoint
    assert given is not None
    assert given.object_name == "t/1/4"


def test_what_is_given_was_taken_by_an_earlier_attempt_of_the_same_task() -> None:
    """Over anything that clients and agents may say."""

    def check(history: list[Move] | object) -> None:
        world = play(World().led(), history)  # type: ignore[arg-type]
        for assigned in assignments(
            event.data
            for record in world.history
            for event in record.events
            if hasattr(event, "data")
        ):
            given = assigned.checkpoint
            assert given is None or given.attempt < assigned.attempt
        for task in world.cell.tasks.values():
            assert task.checkpoint is None or task.checkpoint.attempt <= task.attempt
            assert task.checkpoint is None or task.status not in {Status.PASSED, Status.CANCELLED}

    explore(ordinary, check, cases=CASES // 5)
