"""The sweeper deletes what no attempt can be given, never what one can, also with an old fold."""

import asyncio
from typing import cast

import pytest

from dtest.errors import Unavailable
from dtest.events.envelope import Event
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.events.task import TaskCancelRequested
from dtest.leadership.checkpoints import CheckpointSweeper, is_superfluous
from dtest.leadership.leader import Leader
from dtest.state.cell import Cell
from dtest.state.fold import apply
from tests.kit import facts
from tests.kit.nats import eventually
from tests.kit.world import World, assignments, only, running
from tests.projections.story import Story


def here() -> World:
    return World().led().given(facts.registered("w"))


def superfluous(world: World, *names: str) -> list[str]:
    return [name for name in names if is_superfluous(world.cell, name)]


def test_what_counts_and_what_may_be_told_yet_is_kept() -> None:
    world = here()
    one = running(world)
    world.given(facts.checkpointed(one, 3))

    assert superfluous(world, "t/1/2", "t/1/3", "t/1/4") == ["t/1/2"]


def test_what_an_attempt_stored_and_did_not_tell_before_it_ended_is_deleted() -> None:
    world = here()
    one = running(world)
    world.given(facts.checkpointed(one, 3), facts.released(one))

    assert superfluous(world, "t/1/3", "t/1/4") == ["t/1/4"]


def test_what_an_attempt_goes_on_from_is_kept_until_it_told_one_of_its_own() -> None:
    world = here()
    one = running(world)
    world.given(facts.checkpointed(one, 3), facts.released(one))
    two = only(world.assign())
    world.given(facts.started(two))
    every = ("t/1/2", "t/1/3", "t/1/4", "t/2/1")
    assert superfluous(world, *every) == ["t/1/2", "t/1/4"]
    world.given(facts.checkpointed(two, 1))

    assert superfluous(world, *every) == ["t/1/2", "t/1/3", "t/1/4"]


@pytest.mark.parametrize("way", ["passed", "cancelled", "failed"])
def test_at_the_end_of_a_task_only_what_an_operator_may_ask_for_is_kept(way: str) -> None:
    world = here()
    one = running(world)
    world.given(facts.checkpointed(one, 1))
    match way:
        case "passed":
            world.given(facts.finished(one))
        case "failed":
            world.given(facts.finished(one, "failed"))
        case _:
            world.given(TaskCancelRequested(TaskId("t")))
            world.settle()
            world.given(facts.finished(one, "cancelled", Reason.CANCELLED_USER))

    assert superfluous(world, "t/1/1") == ([] if way == "failed" else ["t/1/1"])


def test_what_the_fold_has_not_heard_of_is_kept() -> None:
    world = here()
    running(world)

    names = ("u/1/1", "t/2/1", "t", "t/1", "t/1/x", "t/1/1/1", "/", "t/1/0", f"t/1/{'9' * 5000}")
    assert superfluous(world, *names) == []


def test_no_fold_of_an_earlier_moment_calls_superfluous_what_is_given_later() -> None:
    given_at_all = 0
    for seed in range(30):
        history = Story(seed).tell(150).history
        for place, record in enumerate(history):
            given = assignments(event.data for event in record.events if isinstance(event, Event))
            needed = [each.checkpoint.object_name for each in given if each.checkpoint]
            given_at_all += len(needed)
            if needed:
                cell = Cell(facts.CELL)
                for earlier in history[:place]:
                    apply(cell, earlier)
                    assert not [name for name in needed if is_superfluous(cell, name)]
    assert given_at_all > 50


# --- the sweeper --------------------------------------------------------------------------------


class Files:
    def __init__(self, *names: str) -> None:
        self.held = set(names)
        self.asked = 0
        self.refusals = 0

    async def names(self) -> list[str]:
        self.asked += 1
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("away")
        return sorted(self.held)

    async def delete(self, name: str) -> None:
        self.held.discard(name)


class Led:
    """As much of a leader as a sweeper looks at."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.leading = asyncio.Event()


async def test_it_sweeps_while_its_leader_leads_and_outlasts_a_store_that_is_away() -> None:
    world = here()
    one = running(world)
    world.given(facts.checkpointed(one, 2))
    led, files = Led(world.cell), Files("t/1/1", "t/1/2")
    files.refusals = 2
    sweeper = CheckpointSweeper(cast("Leader", led), files, every_s=0.01)
    async with asyncio.TaskGroup() as group:
        sweeping = group.create_task(sweeper.run())
        await asyncio.sleep(0)
        assert files.asked == 0
        led.leading.set()
        await eventually(lambda: files.held == {"t/1/2"})
        sweeping.cancel()
