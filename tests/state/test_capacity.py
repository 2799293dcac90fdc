"""What of a worker is free: given back to the last billionth, devices by name."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.events.fields import TaskId
from dtest.events.task import Requirements, Resources, TaskQueued
from dtest.state.demand import Demand, key_of
from dtest.state.worker import Capacity, whole
from tests.kit import facts
from tests.kit.facts import cuda, finished, machine, task
from tests.kit.world import World, only

AMOUNTS = st.floats(0, 100) | st.sampled_from([0.1, 0.2, 0.3, 1 / 3, 0.7])


def demand(resources: Resources, *hardware: str) -> Demand:
    spec = TaskQueued(TaskId("t"), "x", requirements=Requirements(hardware), resources=resources)
    return Demand(key_of(spec), "x", spec.requirements, resources)


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), max_size=20), st.randoms(use_true_random=False))
def test_what_was_taken_comes_back_whole_in_any_order(
    amounts: list[tuple[float, float]], rng: Random
) -> None:
    full = whole(machine(100, cpus=4_000.0, memory_gb=4_000.0))
    free = full.copy()
    taken = [demand(Resources(1, cpus, memory_gb)) for cpus, memory_gb in amounts]
    for one in taken:
        free.take(one, "cpu", ())
    rng.shuffle(taken)
    for one in taken:
        free.give_back(one, "cpu", ())

    assert free == full


@given(st.integers(1, 9_999).map(lambda thousandths: thousandths / 1_000), st.integers(1, 12))
def test_as_many_fit_as_the_sum_allows(amount: float, count: int) -> None:
    free = whole(machine(100, cpus=amount * count, memory_gb=1.0))
    one = demand(Resources(1, amount))
    for _ in range(count):
        assert free.fits(one, "cpu", ())
        free.take(one, "cpu", ())

    assert not free.fits(one, "cpu", ())


def test_a_task_that_needs_the_whole_machine_gets_it_after_any_others() -> None:
    world = World().led().given(facts.registered("w", machine(3, cpus=0.3, memory_gb=16.0)))
    for n, amount in enumerate([0.1, 0.2, 0.1] * 20):
        world.given(task(f"t{n}", resources=Resources(cpus=amount, memory_gb=amount * 7)))
    done = 0
    while assigned := world.assign():
        for one in reversed(assigned):
            world.given(finished(one))
            done += 1
    world.given(task("big", resources=Resources(3, 0.3, 16.0)))

    assert done == 60
    assert only(world.assign()).task_id == "big"


@given(st.lists(st.integers(1, 3), max_size=6))
def test_a_device_is_reserved_for_one_attempt_at_a_time(counts: list[int]) -> None:
    full = whole(machine(10, *(cuda(n) for n in range(4))))
    free = full.copy()
    fitting = full.devices["cuda"]
    held: list[tuple[Demand, tuple[str, ...]]] = []
    for count in counts:
        one = demand(Resources(devices=count), "cuda")
        if not free.fits(one, "cuda", fitting):
            assert len(free.devices["cuda"]) < count
            continue
        held.append((one, free.take(one, "cuda", fitting)))
        names = [name for _, devices in held for name in devices]
        assert len(names) == len(set(names))
        assert len(held[-1][1]) == count
    for one, devices in reversed(held):
        free.give_back(one, "cuda", devices)

    assert free == full


@pytest.mark.parametrize(
    ("resources", "kind", "expected"),
    [
        (Resources(), "cpu", 0),
        (Resources(devices=2), "cpu", 0),
        (Resources(), "cuda", 1),
        (Resources(devices=0), "cuda", 0),
        (Resources(devices=2), "cuda", 2),
        (Resources(), "webgpu", 0),
        (Resources(), "webnn", 0),
        (Resources(devices=1), "webgpu", 1),
        (Resources(), "qnn", 1),
    ],
)
def test_an_accelerator_is_reserved_unless_the_task_says_otherwise(
    resources: Resources, kind: str, expected: int
) -> None:
    assert demand(resources, kind).devices_for(kind) == expected


def test_a_copy_is_planned_with_and_the_original_stays() -> None:
    free = whole(machine(2, cuda()))
    plan = free.copy()
    plan.take(demand(Resources(2, 1.0, 5.0), "cuda"), "cuda", ("cuda:0",))

    assert free == whole(machine(2, cuda()))
    assert plan == Capacity(0, 1.0, 59.0, {"cuda": ()})
