"""Trees that unfinished tasks wait for are kept from growing old."""

import asyncio
from typing import Any, cast

from dtest.errors import Unavailable
from dtest.leadership.leader import Leader
from dtest.leadership.workspaces import WorkspaceRenewer, needed
from dtest.state.cell import Cell
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.nats import eventually
from tests.kit.world import World


class Shelf:
    """A store that notes what is renewed."""

    def __init__(self) -> None:
        self.renewed: list[tuple[str, float]] = []
        self.refusals = 0

    async def renew(self, digest: str, *, now: float) -> int:
        """Note it, or refuse."""
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("no answer")
        self.renewed.append((digest, now))
        return 1


class Leading:
    """A leader, as far as its duties see one."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.leading = asyncio.Event()
        self.leading.set()


def cell_with(**tasks: tuple[dict[str, Any], Status]) -> Cell:
    """A cell with tasks of these configs in these states."""
    world = World().led()
    for name, (config, status) in tasks.items():
        world.given(facts.task(name, config=config))
        world.task(name).status = status
    return world.cell


A, B, C = ({"command": "x", "workspace": digit * 64} for digit in "abc")


async def test_the_trees_of_unfinished_tasks_are_needed() -> None:
    cell = cell_with(
        t1=(A, Status.QUEUED),
        t2=(A, Status.RUNNING),
        t3=(B, Status.DELAYED),
        t4=(C, Status.FAILED),
        t5=({"command": "x"}, Status.QUEUED),
    )

    assert await needed(cell) == {"a" * 64, "b" * 64}


async def test_what_is_needed_is_renewed_again_and_again() -> None:
    shelf = Shelf()
    shelf.refusals = 1
    leader = cast("Leader", Leading(cell_with(t1=(A, Status.BLOCKED))))
    renewer = WorkspaceRenewer(leader, shelf, now=lambda: 7.0, every_s=0.01)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(renewer.run())
        await eventually(lambda: len(shelf.renewed) >= 2)
        running.cancel()

    assert set(shelf.renewed) == {("a" * 64, 7.0)}
