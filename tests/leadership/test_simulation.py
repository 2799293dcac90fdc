"""A cell in trouble: whatever happens, its state stays true, its record right; then all ends."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dtest.drills.checks import keep_books
from dtest.events.envelope import Recorded
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import Reason
from dtest.leadership.audit import verify
from dtest.state import fold_attempt, fold_worker
from dtest.state.cell import Cell
from dtest.state.demand import Demand
from dtest.state.snapshot import dump, load
from dtest.state.task import LIVE, TERMINAL, Status, Task
from dtest.state.worker import Capacity
from tests.kit import facts, invariants
from tests.kit.recording import Recording
from tests.kit.search import CASES
from tests.kit.simulation import Simulation

SEEDS = CASES // 3
SEEDS_SLOW = int(os.environ.get("SIMULATED_SEEDS", "10000"))
GROUPS, GROUPS_SLOW = 10, 40
STEPS = 300
FOUND_WITHIN = 50
KEPT = Path(__file__).with_name("seeds.txt")


def part(seeds: int, group: int, groups: int) -> range:
    return range(group * seeds // groups, (group + 1) * seeds // groups)


async def course(seed: int) -> None:
    """One seed's troubled time and the calm after it, with everything that must hold."""
    try:
        simulation = Simulation(seed)
        for _ in range(5):
            simulation.trouble(STEPS // 5)
            invariants.check(simulation.world.cell)
        simulation.calm()
        cell = simulation.world.cell
        invariants.check(cell)

        assert {task.status for task in cell.tasks.values()} <= TERMINAL
        assert sum(cell.ended.values()) == len(cell.tasks) == len(simulation.tasks)
        assert all(not worker.running for worker in cell.workers.values())
        report = await verify(Recording(simulation.world.journal), facts.CELL)
        assert (report.violations, report.doubts) == ([], [])
        assert report.tasks_open == 0
        books = keep_books(simulation.world.journal)
        assert (books.violations, books.duplicated) == ([], 0)
        assert books.lost(simulation.tasks) == []
    except Exception as error:
        error.add_note(f"seed {seed}: once it is mended, keep the seed in {KEPT.name}")
        raise


async def courses(count: int) -> None:
    for seed in range(count):
        await course(seed)


@pytest.mark.parametrize("group", range(GROUPS))
async def test_once_faults_stop_every_task_ends_once_and_no_check_finds_anything(
    group: int,
) -> None:
    for seed in part(SEEDS, group, GROUPS):
        await course(seed)


@pytest.mark.parametrize(
    "seed", [int(line) for line in KEPT.read_text().splitlines() if line[:1] != "#"]
)
async def test_a_seed_that_found_a_fault_finds_none_any_more(seed: int) -> None:
    await course(seed)


@pytest.mark.slow
@pytest.mark.parametrize("group", range(GROUPS_SLOW))
async def test_ten_thousand_seeds(group: int) -> None:
    for seed in part(SEEDS_SLOW, group, GROUPS_SLOW):
        await course(seed)


# -- faults that are planted: the simulation is of use only if it finds them -----------------


def stale_results_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of an attempt that was given away is taken for that of the present one."""
    genuine = vars(fold_attempt)["_current"]

    def current(
        cell: Cell, record: Recorded, index: int, attempt: tuple[TaskId, int, WorkerId]
    ) -> Task | None:
        task = cell.tasks.get(attempt[0])
        if task is not None and task.status in LIVE and attempt[1] < task.attempt:
            return task
        found: Task | None = genuine(cell, record, index, attempt)
        return found

    monkeypatch.setattr(fold_attempt, "_current", current)


def losses_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran on a worker that is gone is not given to another."""
    monkeypatch.setattr(fold_worker, "judge", lambda *_: None)


def capacity_is_given_back_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Capacity.give_back

    def twice(self: Capacity, demand: Demand, kind: str, devices: tuple[str, ...]) -> None:
        genuine(self, demand, kind, devices)
        genuine(self, demand, kind, devices)

    monkeypatch.setattr(Capacity, "give_back", twice)


def passed_tasks_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result is counted, and the task judged all the same."""
    genuine = Cell.end

    def end(self: Cell, task: Task, status: Status, reason: Reason | None) -> None:
        genuine(self, task, status, reason)
        if status is Status.PASSED and task.attempt == 2:
            task.status = Status.JUDGED
            self.judged[task.id] = None

    monkeypatch.setattr(Cell, "end", end)


def requirements_are_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Capacity, "fits", lambda self, *_: self.slots > 0)


@pytest.mark.parametrize(
    "plant",
    [
        stale_results_count,
        losses_are_forgotten,
        capacity_is_given_back_twice,
        passed_tasks_are_retried,
        requirements_are_overlooked,
    ],
)
async def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    with pytest.raises(Exception) as caught:  # noqa: PT011 - any check may be the one that sees it
        await courses(FOUND_WITHIN)
    assert any("seed" in note for note in caught.value.__notes__)


def test_a_replay_gives_the_state_that_the_leader_had() -> None:
    for seed in range(SEEDS // 5):
        simulation = Simulation(seed)
        simulation.trouble(STEPS)
        replayed = simulation.world.replayed()
        live = load(dump(simulation.world.cell))
        now = simulation.world.now + 1_000
        for cell in (live, replayed):
            cell.wake(now)

        ours, theirs = (json.loads(dump(cell)) for cell in (live, replayed))
        for part in ("tasks", "passed", "workers", "kinds"):
            assert ours[part] == theirs[part]
        assert set(live.held) == set(replayed.held)
        assert live.judged == replayed.judged
        assert set(live.expiring) == set(replayed.expiring)
