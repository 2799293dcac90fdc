"""A cell in trouble: whatever happens, its state stays true, its record right; then all ends."""

import pytest

from dtest.leadership.audit import verify
from dtest.state.snapshot import dump, load
from dtest.state.task import TERMINAL
from tests.kit import facts, invariants
from tests.kit.recording import Recording
from tests.kit.search import CASES
from tests.kit.simulation import Simulation

SEEDS = CASES // 3
GROUPS = 10
STEPS = 300


def seeds(group: int) -> range:
    return range(group * SEEDS // GROUPS, (group + 1) * SEEDS // GROUPS)


@pytest.mark.parametrize("group", range(GROUPS))
async def test_once_faults_stop_every_task_ends_once_and_the_audit_finds_nothing(
    group: int,
) -> None:
    for seed in seeds(group):
        simulation = Simulation(seed)
        for _ in range(5):
            simulation.trouble(STEPS // 5)
            invariants.check(simulation.world.cell)
        simulation.calm()
        cell = simulation.world.cell
        invariants.check(cell)

        assert {task.status for task in cell.tasks.values()} <= TERMINAL, seed
        assert sum(cell.ended.values()) == len(cell.tasks) == len(simulation.tasks)
        assert all(not worker.running for worker in cell.workers.values())
        report = await verify(Recording(simulation.world.journal), facts.CELL)
        assert report.violations == [], seed
        assert report.tasks_open == 0


def test_a_replay_gives_the_state_that_the_leader_had() -> None:
    for seed in range(SEEDS // 5):
        simulation = Simulation(seed)
        simulation.trouble(STEPS)
        replayed = simulation.world.replayed()
        live = load(dump(simulation.world.cell))
        now = simulation.world.now + 1_000
        for cell in (live, replayed):
            cell.wake(now)

        assert dump(live)["tasks"] == dump(replayed)["tasks"]
        assert dump(live)["workers"] == dump(replayed)["workers"]
        assert dump(live)["kinds"] == dump(replayed)["kinds"]
        assert set(live.held) == set(replayed.held)
        assert live.judged == replayed.judged
        assert set(live.expiring) == set(replayed.expiring)
