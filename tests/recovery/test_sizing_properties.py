"""Whatever is too small, breaks or comes back: every task ends, and each remedy is given once."""

from collections import Counter
from random import Random

from dtest.events.attempt import AttemptAssigned
from dtest.events.envelope import Event
from dtest.events.fields import TaskId, WorkerId
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason
from dtest.events.task import Requirements, Resources, TaskRetryScheduled
from dtest.leadership.rules import CURRENT
from dtest.state.fold import apply
from dtest.state.snapshot import dump, load
from dtest.state.task import Status
from dtest.state.worker import GONE
from tests.kit import facts, invariants
from tests.kit.facts import cuda, lost, machine, registered, task
from tests.kit.faulting import all_live
from tests.kit.search import CASES
from tests.kit.world import World

TROUBLE = [
    *[Reason.OOM_DEVICE] * 4,
    Reason.OOM_TASK,
    Reason.RUN_TIMEOUT,
    Reason.DEVICE_LOST,
    Reason.GPU_HANG,
]
SIZES_GB = {"a": (8.0, 8.0), "b": (8.0, 16.0), "c": (16.0, 24.0), "d": (80.0,)}


def joins(world: World, name: str, starts: Counter[str]) -> None:
    starts[name] += 1
    devices = [cuda(number, size) for number, size in enumerate(SIZES_GB[name])]
    has = machine(2, *devices, memory_gb=4.0 * sum(SIZES_GB[name]))
    world.given(registered(name, has, incarnation=f"i{starts[name]}"))


def submits(world: World, rng: Random, count: int) -> None:
    world.given(
        task(
            f"t{count}",
            name=rng.choice(["x", "y"]),
            requirements=Requirements(rng.choice([("cuda",), ("cuda", "cpu"), ("cpu",)])),
            resources=Resources(devices=rng.choice([None, None, 2])),
            fallback_config=rng.choice([None, {"env": {"SIZE": "small"}}]),
            memory_limit_gb=rng.choice([None, 2.0]),
            wait_limit_seconds=5_000.0,  # two devices of one worker may be more than there are
        )
    )


def ends(world: World, rng: Random, one: AttemptAssigned, *, trouble: bool) -> None:
    faulted = trouble and rng.random() < 0.6
    end = facts.finished(one, "faulted" if faulted else "passed", None, world.now)
    if faulted:
        peak_bytes = rng.choice([None, 3_000_000_000, 400_000_000_000])
        end = type(end)(
            end.task_id,
            end.attempt,
            end.worker_id,
            "faulted",
            end.started_at,
            end.finished_at,
            rng.choice(TROUBLE),
            memory_bytes_peak=peak_bytes,
        )
    world.given(end)


def course(seed: int) -> World:
    """Trouble for a while, then calm until nothing is left to happen."""
    rng, world, starts = Random(seed), World().led(), Counter[str]()
    world.given(PolicyChanged(timeouts=rng.choice(["observed", "declared"])))
    for name in SIZES_GB:
        joins(world, name, starts)
    for count in range(rng.randint(5, 25)):
        submits(world, rng, count)
        world.step()
        for one in all_live(world):
            if rng.random() < 0.7:
                ends(world, rng, one, trouble=True)
        if rng.random() < 0.15:
            name = rng.choice(list(SIZES_GB))
            if world.worker(name).status in GONE:
                joins(world, name, starts)
            else:
                world.given(lost(name, f"i{starts[name]}"))
        invariants.check(world.cell)
        world.tick(rng.choice([0.01, 1.0, 5.0, 200.0]))
    for _ in range(300):
        world.step()
        for one in all_live(world):
            ends(world, rng, one, trouble=rng.random() < 0.3)
        at = world.cell.next_timer_at()
        if at is None and not world.plan():
            break
        world.tick(max(0.01, (at or world.now) - world.now))
    return world


def test_every_task_ends_within_its_budgets() -> None:
    seen: Counter[str] = Counter()
    for seed in range(CASES // 10):
        world = course(seed)
        waiting = [item for item in world.cell.tasks.values() if item.status is Status.QUEUED]
        assert not waiting, (seed, waiting)
        assert world.cell.ended.total() == len(world.cell.tasks), seed
        used: Counter[TaskId] = Counter()
        enlarged: Counter[tuple[TaskId, float]] = Counter()
        for record in world.history:
            for event in record.events:
                match event:
                    case Event(data=TaskRetryScheduled(budget="infrastructure") as data):
                        used[data.task_id] += 1
                    case Event(data=TaskRetryScheduled(budget="none") as data):
                        enlarged[data.task_id, -1] += 1
                    case Event(data=AttemptAssigned(fallback=True)):
                        seen["fallback"] += 1
                    case _:
                        continue
                if isinstance(event.data, TaskRetryScheduled) and event.data.remedy is not None:
                    seen[event.data.budget] += 1
        assert all(count <= CURRENT.parameters.faults_max for count in used.values()), seed
        assert all(count <= CURRENT.parameters.faults_max for count in enlarged.values()), seed
    assert {"infrastructure", "none", "fallback"} <= set(seen), seen


def test_a_larger_device_is_really_larger() -> None:
    for seed in range(CASES // 20):
        world = course(seed)
        asked: dict[TaskId, float] = {}
        for record in world.history:
            for event in record.events:
                match event:
                    case Event(data=TaskRetryScheduled() as data) if data.remedy is not None:
                        asked[data.task_id] = data.remedy.min_device_memory_gb
                    case Event(data=AttemptAssigned() as data):
                        least_gb = asked.get(data.task_id, 0.0)
                        for name in data.devices:
                            assert size_gb(data.worker_id, name) >= least_gb, (seed, data)
                    case _:
                        pass


def size_gb(worker: WorkerId, device: str) -> float:
    return SIZES_GB[worker][int(device.partition(":")[2])]


def test_a_snapshot_and_what_follows_are_the_replay() -> None:
    for seed in range(CASES // 40):
        world = course(seed)
        whole = dump(world.replayed())
        for part in (3, 2):
            cut = len(world.history) // part
            cell = World().cell
            for record in world.history[:cut]:
                apply(cell, record)
            cell = load(dump(cell))
            for record in world.history[cut:]:
                apply(cell, record)
            assert dump(cell) == whole, seed
