"""What a decision costs: it looks at demands and at the heads of their queues, not at the tasks."""

from collections.abc import Iterator
from typing import Any

import pytest

from dtest.events.task import Resources
from dtest.leadership.rules import CURRENT
from dtest.scheduling.decider import decide_assignments
from dtest.state import matching
from dtest.state.cell import Cell
from tests.kit.facts import machine, registered, task
from tests.kit.world import World

PASSED_OVER_MAX = CURRENT.parameters.passed_over_max


class Counted:
    """A queue that counts how many of its entries were looked at."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self.visits = 0

    def __iter__(self) -> Iterator[object]:
        for entry in self.queue:
            self.visits += 1
            yield entry

    def __len__(self) -> int:
        return len(self.queue)


def visits(cell: Cell) -> tuple[int, int]:
    """How many assignments are made, and how many entries are looked at for them."""
    counted = [Counted(demand.queue) for demand in cell.ready.values()]
    for demand, queue in zip(cell.ready.values(), counted, strict=True):
        demand.queue = queue  # type: ignore[assignment]
    assigned = len(decide_assignments(cell))
    for demand, queue in zip(cell.ready.values(), counted, strict=True):
        demand.queue = queue.queue
    return assigned, sum(queue.visits for queue in counted)


def crowded(tasks: int, demands: int = 1) -> World:
    world = World().led()
    for start in range(0, tasks, 500):
        world.record(
            *(
                task(f"t{n}", resources=Resources(memory_gb=float(n % demands)))
                for n in range(start, min(start + 500, tasks))
            )
        )
    return world


@pytest.mark.parametrize("slots", [1, 5])
@pytest.mark.parametrize("tasks", [10, 10_000])
def test_the_visits_of_a_decision_do_not_grow_with_the_queue(tasks: int, slots: int) -> None:
    world = crowded(tasks).given(registered("w", machine(slots)))

    assigned, looked_at = visits(world.cell)

    assert assigned == slots
    assert looked_at <= slots + 1


def test_the_visits_of_a_decision_grow_with_the_demands() -> None:
    world = crowded(2_000, demands=20).given(registered("w", machine(5)))

    assigned, looked_at = visits(world.cell)

    assert assigned == 5
    assert looked_at <= 20 + 5


def test_a_busy_worker_costs_no_visit() -> None:
    world = crowded(100).given(registered("w", machine(3)))
    world.settle()

    assert visits(world.cell) == (0, 0)


def test_a_demand_that_does_not_fit_where_there_is_room_costs_one_visit_at_most() -> None:
    world = World().led().given(registered("w", machine(4)), task("a"))
    world.settle()
    world.record(*(task(f"t{n}", resources=Resources(slots=4)) for n in range(500)))

    assigned, looked_at = visits(world.cell)

    assert assigned == 0
    assert looked_at <= 1


def test_tasks_that_avoid_every_free_worker_are_passed_over_up_to_a_bound() -> None:
    world = crowded(1_000).given(registered("w"), registered("v"))
    for item in world.cell.tasks.values():
        item.avoid = (world.worker("w").id,)
    world.cell.free.pop(world.worker("v").id)

    assigned, looked_at = visits(world.cell)

    assert assigned == 0
    assert looked_at <= PASSED_OVER_MAX


@pytest.mark.parametrize("tasks", [10, 1_000])
def test_a_worker_is_matched_against_demands_and_not_against_tasks(
    tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = crowded(tasks, demands=5)
    calls = 0

    def counting(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return matching.match(*arguments)

    monkeypatch.setattr("dtest.state.cell.match", counting)
    world.given(registered("w"))
    world.assign()

    assert calls == 5
