"""What holds whatever happens: guards are never passed by, budgets never exceeded."""

from collections import Counter
from collections.abc import Sequence
from random import Random

from dtest.events.attempt import AttemptAssigned
from dtest.events.breaker import BreakerOpened
from dtest.events.envelope import Event
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.events.task import TaskRetryRequested, TaskRetryScheduled
from dtest.events.worker import WorkerQuarantined
from dtest.state.health import STRIKING, kinds_of
from tests.kit import invariants
from tests.kit.facts import task
from tests.kit.faulting import all_live, end, fleet
from tests.kit.histories import Move, ordinary, play
from tests.kit.search import CASES, explore
from tests.kit.world import World, rules

HASTY = rules(faults_max=2, refusals_max=2, preemptions_max=2)


def test_budgets_are_never_exceeded() -> None:
    def check(history: Sequence[Move]) -> None:
        world = play(World(HASTY).led(), history)
        used: Counter[tuple[TaskId, str]] = Counter()
        for record in world.history:
            for event in record.events:
                match event:
                    case Event(data=TaskRetryRequested() as data):
                        for budget in ("user", "infrastructure", "refusal", "preemption"):
                            used.pop((data.task_id, budget), None)
                    case Event(data=TaskRetryScheduled() as data):
                        used[data.task_id, data.budget] += 1
                        item = world.task(data.task_id)
                        policy = item.spec.retry_policy.max_retries if item.spec else 2
                        most = {"infrastructure": 2, "refusal": 2, "preemption": 2, "user": policy}
                        assert used[data.task_id, data.budget] <= most[data.budget]
                    case _:
                        pass

    explore(ordinary, check)


def checked_step(world: World) -> None:
    """Decide, and check what goes where before it is recorded."""
    assigned = [
        data
        for part in world.plan().values()
        for data in part
        if isinstance(data, AttemptAssigned | BreakerOpened | WorkerQuarantined)
    ]
    attempts = [data for data in assigned if isinstance(data, AttemptAssigned)]
    assert not attempts or len(attempts) == len(assigned), "something opens while work passes"
    to = Counter(data.worker_id for data in attempts)
    for data in attempts:
        worker, item = world.worker(data.worker_id), world.task(data.task_id)
        assert worker.takes_work
        assert not worker.is_tried or to[worker.id] == 1
        assert item.id not in world.cell.held
        shut = [key for key in kinds_of(item.spec) if key in world.cell.shut] if item.spec else []
        assert not shut or item.id in world.cell.probes
    world.step()
    invariants.check(world.cell, devices=False)


def trouble(seed: int) -> World:
    """A fleet in which a good part of all attempts faults, checked at every decision."""
    rng = Random(seed)
    world = fleet("a", "b", "c", "d", slots=rng.choice([1, 3]))
    sick = set(rng.sample("abcd", rng.randint(0, 2)))
    rotten = {"revision": "r1"}
    reasons = sorted(STRIKING)
    count = 0
    for _ in range(rng.randint(20, 60)):
        for _ in range(rng.choice([0, 1, 3])):
            count += 1
            labels = rotten if rng.random() < 0.4 else {}
            world.given(task(f"t{count}", name=rng.choice(["", "x", "y"]), labels=labels))
        checked_step(world)
        for one in all_live(world):
            if rng.random() < 0.6:
                spec = world.task(one.task_id).spec
                bad = one.worker_id in sick or (spec is not None and spec.labels == rotten)
                faulted = rng.random() < (0.8 if bad else 0.05)
                reason: Reason = rng.choice(reasons)
                end(world, one, "faulted" if faulted else rng.choice(["passed", "failed"]), reason)
        world.tick(rng.choice([0.01, 0.5, 5.0, 100.0]))
    return world


def test_nothing_passes_a_guard_and_every_guard_comes_to_an_end() -> None:
    seen: Counter[str] = Counter()
    for seed in range(CASES // 4):
        world = trouble(seed)
        for _ in range(400):
            checked_step(world)
            for one in all_live(world):
                end(world, one, "passed")
            nothing_left = not world.cell.ended.total() < len(world.cell.tasks)
            if nothing_left and not world.cell.next_timer_at():
                break
            at = world.cell.next_timer_at()
            world.tick(max(0.01, (at or world.now) - world.now))
        assert world.cell.ended.total() == len(world.cell.tasks), seed
        assert all(w.health is None or w.takes_work for w in world.cell.workers.values()), seed
        assert world.cell.shut == set(), seed
        seen.update(
            event.data.TYPE
            for record in world.history
            for event in record.events
            if isinstance(event, Event)
        )
    assert {"breaker.opened", "breaker.half_opened", "breaker.closed"} <= set(seen)
    assert {"worker.quarantined", "worker.reinstated"} <= set(seen)


def test_a_replay_knows_the_same_guards_as_the_leader() -> None:
    for seed in range(CASES // 20):
        world = trouble(seed)
        again = world.replayed()
        for cell in (world.cell, again):
            cell.wake(world.now + 10_000)

        assert again.kinds == world.cell.kinds
        assert set(again.held) == set(world.cell.held)
        assert {w.id: w.health for w in again.workers.values()} == {
            w.id: w.health for w in world.cell.workers.values()
        }


def test_the_state_of_a_quiet_cell_holds_nothing_of_all_this() -> None:
    world = fleet("a").given(task("t"))
    world.settle()
    for one in all_live(world):
        end(world, one, "passed")
    world.settle()

    assert world.cell.kinds == {}
    assert world.cell.ailing == {}
    assert world.worker("a").health is None
