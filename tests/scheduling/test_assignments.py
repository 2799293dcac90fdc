"""Who runs what: urgent first and nobody for ever last, each where it may and where it fits."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import get_args

import pytest

from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import TaskId, WorkerId
from dtest.events.policy import PolicyChanged, Ranking
from dtest.events.reasons import Reason
from dtest.events.task import (
    Requirements,
    Resources,
    TaskCancelRequested,
    TaskRetryRequested,
)
from dtest.events.worker import Device, WorkerDrainRequested, WorkerLost
from dtest.leadership.rules import CURRENT
from dtest.scheduling.decider import decide_assignments
from dtest.scheduling.ranking import RANKINGS
from dtest.scheduling.why import explain
from dtest.state.matching import Refusal, match
from dtest.state.task import Status
from dtest.state.worker import Capacity
from tests.kit import facts, histories
from tests.kit.facts import cuda, finished, machine, refused, registered, started, task
from tests.kit.histories import Move, ordinary, play
from tests.kit.search import CASES, explore
from tests.kit.world import World, only, places, rules

AGEING_S_PER_LEVEL = CURRENT.parameters.ageing_s_per_level

CUDA = Requirements(("cuda",))
ROCM = Device("rocm", 0, "MI300X", 192.0)


def here(*workers: tuple[str, int]) -> World:
    world = World().led()
    for name, slots in workers:
        world.given(registered(name, machine(slots)))
    return world


def test_nothing_is_assigned_where_nothing_is_free_or_nothing_waits() -> None:
    assert not here(("w", 1)).assign()
    assert not here().given(task("t")).assign()


def test_an_assignment_holds_all_that_the_worker_needs() -> None:
    world = here(("w", 1)).given(
        task(
            "t",
            run_id="r",
            config={"command": ["make"]},
            timeout_seconds=9.0,
            idle_timeout_seconds=8.0,
            grace_seconds=7.0,
            memory_limit_gb=6.0,
        )
    )

    assert only(world.assign()) == AttemptAssigned(
        world.task("t").id,
        1,
        world.worker("w").id,
        "i1",
        "cpu",
        "command",
        world.task("t").run_id,
        {"command": ["make"]},
        (),
        9.0,
        8.0,
        7.0,
        6.0,
    )


# -- what every decision keeps --------------------------------------------------------------


def test_every_assignment_meets_the_requirements_and_stays_within_what_is_free() -> None:
    def check(history: Sequence[Move]) -> None:
        world = World().led()
        for move in history:
            if move != "decide":
                play(world, [move])
                continue
            world.cell.wake(world.now)
            free = {name: worker.free.copy() for name, worker in world.cell.workers.items()}
            for data in decide_assignments(world.cell):
                _within(world, data, free[data.worker_id])
            world.step()

    explore(ordinary, check)


def _within(world: World, data: AttemptAssigned, free: Capacity) -> None:
    task_, worker = world.task(data.task_id), world.worker(data.worker_id)
    assert worker.takes_work
    assert data.incarnation == worker.incarnation
    assert data.attempt == task_.attempt + 1
    offer = match(task_.demand, worker)
    assert not isinstance(offer, Refusal)
    assert set(data.devices) <= set(offer[data.hardware])
    assert len(data.devices) == task_.demand.devices_for(data.hardware)
    assert set(data.devices) <= set(free.devices.get(data.hardware, ()))
    free.take_named(task_.demand, data.hardware, data.devices)
    takes = task_.demand.resources
    assert free.slots >= 0
    assert free.cpus >= 0 or not takes.cpus
    assert free.memory_gb >= 0 or not takes.memory_gb


def test_no_task_waits_while_a_worker_that_it_need_not_avoid_has_room_for_it() -> None:
    for seed in range(CASES):
        rng = Random(seed)
        world = World().led()
        for _ in range(3):
            world.given(histories.registered(rng))
        world.record(
            *(
                task(
                    f"t{n}",
                    requirements=histories.requirements(rng),
                    resources=histories.resources(rng),
                )
                for n in range(8)
            )
        )
        world.assign()
        for demand in world.cell.ready.values():
            for name, offer in demand.servers.items():
                worker = world.cell.workers[name]
                assert not any(
                    worker.free.fits(demand, kind, those) for kind, those in offer.items()
                )


def test_a_decision_is_bounded_and_the_next_goes_on() -> None:
    world = World(rules(assignments_max=3)).led()
    world.given(registered("w", machine(10)))
    world.record(*(task(f"t{n}") for n in range(8)))

    assert [len(world.step()) for _ in range(4)] == [3, 3, 2, 0]


# -- order ----------------------------------------------------------------------------------


def order_of_start(world: World) -> list[str]:
    """Run everything, one after the other."""
    started_: list[str] = []
    while assigned := world.assign():
        for one in assigned:
            started_.append(one.task_id)
            world.given(finished(one))
    return started_


def test_the_more_urgent_goes_first_and_equals_by_arrival() -> None:
    world = here(("w", 1))
    for name, priority in [("a", 5), ("b", 5), ("c", 1), ("d", 9), ("e", 1)]:
        world.given(task(name, priority=priority))

    assert order_of_start(world) == ["c", "e", "a", "b", "d"]


def test_the_place_in_a_message_counts_where_the_instant_is_the_same() -> None:
    world = here(("w", 1))
    world.record(task("z"), task("a"), task("m"))

    assert order_of_start(world) == ["z", "a", "m"]


def test_order_holds_across_different_demands() -> None:
    world = here(("w", 1))
    world.given(
        task("a", priority=9),
        task("b", resources=Resources(memory_gb=1.0), priority=1),
        task("c", requirements=Requirements(min_memory_gb=1.0), priority=5),
    )

    assert order_of_start(world) == ["b", "c", "a"]


@pytest.mark.parametrize("levels", [1, 3, 9])
def test_waiting_makes_up_for_priority_level_by_level(levels: int) -> None:
    for margin, first in ((1.0, "old"), (-1.0, "young")):
        world = here().given(task("old", priority=levels))
        world.tick(levels * AGEING_S_PER_LEVEL + margin).given(task("young", priority=0))
        world.given(registered("w"))

        assert only(world.assign()).task_id == first


def test_nothing_starves_behind_an_endless_stream_of_more_urgent_tasks() -> None:
    """However fast they come, a task is overtaken only by those that came before its order."""
    for seed in range(20):
        rng = Random(seed)
        levels = rng.randint(1, 5)
        world = here(("w", 1)).given(task("patient", priority=levels))
        bound = facts.START + levels * AGEING_S_PER_LEVEL
        overtakers: list[str] = []
        number = 0
        while world.status("patient") is Status.QUEUED:
            for _ in range(2):  # twice as many come as can be run
                number += 1
                world.given(task(f"t{number}", priority=0))
            one = only(world.assign())
            overtakers.append(one.task_id)
            world.given(finished(one))
            world.tick(rng.choice([5.0, 20.0]))

        assert overtakers.pop() == "patient"
        assert all(world.task(name).queued_at <= bound for name in overtakers)
        assert len(overtakers) <= 1 + 2 * levels * AGEING_S_PER_LEVEL / 5.0


def test_a_retried_task_keeps_its_place() -> None:
    world = here(("w", 1), ("v", 1)).given(task("t"))
    one = only(world.assign())
    world.given(task("u"), task("v"), task("w"))
    world.given(refused(one))
    world.settle()
    world.tick(1)
    for running in list(world.cell.tasks.values()):
        if running.status == "assigned":
            world.given(
                finished(
                    AttemptAssigned(
                        running.id, 1, running.worker_id or one.worker_id, "i1", "cpu", "command"
                    )
                )
            )

    assert "t" in places(world.assign())


# -- where ----------------------------------------------------------------------------------


def test_attempts_are_spread_over_the_least_loaded_workers() -> None:
    world = here(("v", 4), ("w", 4))
    world.record(*(task(f"t{n}") for n in range(6)))

    assert Counter(places(world.assign()).values()) == {"v": 3, "w": 3}


def test_attempts_are_packed_when_a_client_chose_so() -> None:
    world = here(("v", 4), ("w", 4)).given(PolicyChanged("pack"))
    world.record(*(task(f"t{n}") for n in range(5)))

    assert Counter(places(world.assign()).values()) == {"v": 4, "w": 1}


def test_a_plain_task_prefers_a_plain_worker() -> None:
    world = World().led().given(registered("gpu", machine(9, cuda())), registered("plain"))
    world.record(task("a"), task("b"))

    assert places(world.assign()) == {"a": "plain", "b": "gpu"}


def test_a_plain_task_prefers_fewer_kinds_of_accelerators() -> None:
    world = World().led()
    world.given(registered("both", machine(1, cuda(), ROCM)), registered("one", machine(1, cuda())))

    assert places(world.given(task("t")).assign()) == {"t": "one"}


@pytest.mark.parametrize("hardware", [("cuda", "cpu"), ("cpu", "cuda")])
@pytest.mark.parametrize("names", [("a", "z"), ("z", "a")])
@pytest.mark.parametrize("ranking", RANKINGS)
def test_of_several_kinds_that_will_do_the_preferred_one_is_taken_where_it_is_free(
    hardware: tuple[str, ...], names: tuple[str, str], ranking: str
) -> None:
    gpu, plain = names
    world = World().led().given(PolicyChanged(ranking))  # type: ignore[arg-type]
    world.given(registered(gpu, machine(1, cuda())), registered(plain))
    world.given(task("t", requirements=Requirements(hardware)))

    one = only(world.assign())

    assert one.hardware == hardware[0]
    if hardware[0] == "cuda":
        assert (one.worker_id, one.devices) == (gpu, ("cuda:0",))


def test_another_kind_is_taken_rather_than_waiting_for_the_preferred_one() -> None:
    world = World().led().given(registered("gpu", machine(1, cuda())), registered("plain"))
    world.record(*(task(f"t{n}", requirements=Requirements(("cuda", "cpu"))) for n in range(2)))

    assert {(one.worker_id, one.hardware) for one in world.assign()} == {
        ("gpu", "cuda"),
        ("plain", "cpu"),
    }


def test_the_kinds_of_one_worker_are_used_in_the_order_of_preference() -> None:
    world = World().led().given(registered("w", machine(3, cuda(), ROCM)))
    world.record(*(task(f"t{n}", requirements=Requirements(("rocm", "cuda"))) for n in range(3)))

    assert [(one.hardware, one.devices) for one in world.assign()] == [
        ("rocm", ("rocm:0",)),
        ("cuda", ("cuda:0",)),
    ]


def test_only_devices_that_are_large_enough_are_reserved() -> None:
    world = World().led()
    world.given(registered("w", machine(8, cuda(0, 16.0), cuda(1, 80.0), cuda(2, 40.0))))
    big = Requirements(("cuda",), min_device_memory_gb=40.0)
    world.record(*(task(f"t{n}", requirements=big) for n in range(3)))

    assert [one.devices for one in world.assign()] == [("cuda:1",), ("cuda:2",)]


def test_all_devices_of_an_attempt_are_reserved_or_none() -> None:
    world = World().led().given(registered("w", machine(8, cuda(0), cuda(1), cuda(2))))
    pair = Resources(devices=2)
    world.record(*(task(f"t{n}", requirements=CUDA, resources=pair) for n in range(2)))
    world.given(task("single", requirements=CUDA))

    assert {one.task_id: one.devices for one in world.assign()} == {
        "t0": ("cuda:0", "cuda:1"),
        "single": ("cuda:2",),
    }


# -- again ----------------------------------------------------------------------------------


def faulted_on(world: World, name: str) -> None:
    """Have the task fault on that worker, the only one there is."""
    one = only(world.given(task("t")).assign())
    assert one.worker_id == name
    world.given(started(one), finished(one, "faulted", Reason.DISK_FULL))
    world.settle()
    world.tick(10)


def test_a_task_avoids_the_workers_where_it_faulted() -> None:
    world = here(("a", 9))
    faulted_on(world, "a")
    world.given(registered("b", machine(1)))

    assert places(world.assign()) == {"t": "b"}


def test_a_task_waits_for_a_worker_that_it_need_not_avoid() -> None:
    world = here(("a", 1))
    faulted_on(world, "a")
    world.given(task("u"), registered("b"))
    world.settle()

    assert (world.task("t").worker_id, world.task("u").worker_id) == ("b", "a")


def test_a_task_goes_back_to_a_worker_that_it_avoids_if_there_is_no_other() -> None:
    world = here(("a", 1))
    faulted_on(world, "a")

    assert places(world.assign()) == {"t": "a"}


@pytest.mark.parametrize("slots", [1, 2])
def test_a_task_goes_back_to_a_worker_that_was_lost_rather_than_wait_for_another(
    slots: int,
) -> None:
    world = here(("a", 1))
    one = only(world.given(task("t")).assign())
    world.given(registered("b", machine(slots)), task("u"))
    world.settle()
    assert world.task("u").worker_id == "b"
    world.given(WorkerLost(WorkerId("a"), one.incarnation, "no_responders"))
    world.settle()
    world.given(registered("a", machine(1), incarnation="again"))
    world.tick(10)

    world.settle()

    assert world.task("t").worker_id == ("a" if slots == 1 else "b")


def test_a_task_goes_elsewhere_if_its_document_asks_for_it() -> None:
    world = here(("a", 9), ("b", 1))

    assert places(world.given(task("t", avoid_workers=("a",))).assign()) == {"t": "b"}


def test_what_is_to_be_avoided_is_taken_where_nothing_else_is() -> None:
    world = here(("a", 1))
    wish = ("a", "never-heard-of")

    assert places(world.given(task("t", avoid_workers=wish)).assign()) == {"t": "a"}


def test_a_worker_that_takes_no_work_is_not_waited_for() -> None:
    world = here(("a", 1), ("b", 1))
    world.given(WorkerDrainRequested(WorkerId("b")))

    assert places(world.given(task("t", avoid_workers=("a",))).assign()) == {"t": "a"}


def test_a_task_that_is_to_avoid_a_worker_waits_for_another_that_is_busy() -> None:
    world = here(("a", 1))
    world.given(registered("b"), task("u", avoid_workers=("a",)))
    one = only(world.assign())
    world.given(started(one), task("t", avoid_workers=("a",)))

    assert places(world.assign()) == {}
    told = {reason.code: reason.text for reason in explain(world.cell, world.task("t"), world.now)}
    assert told["avoided"] == "it is to avoid a; it waits for another worker"
    world.given(finished(one))
    world.settle()
    assert world.task("t").worker_id == "b"


def test_a_task_that_is_asked_for_again_avoids_what_its_document_says() -> None:
    world = here(("a", 1), ("b", 1))
    one = only(world.given(task("t", avoid_workers=("a",))).assign())
    world.given(started(one), finished(one, "faulted", Reason.DISK_FULL))
    assert world.task("t").avoid == ("a", "b")
    world.given(TaskCancelRequested(TaskId("t"))).settle()

    world.given(TaskRetryRequested(TaskId("t")))

    assert world.task("t").avoid == ("a",)


def test_a_task_that_avoids_the_only_free_worker_lets_others_pass() -> None:
    world = here(("a", 1))
    faulted_on(world, "a")
    world.given(registered("b"), task("u", priority=0))
    world.cell.wake(world.now)
    world.given(task("late", priority=9))

    taken = places(world.assign())

    assert set(taken) >= {"u"}
    assert taken.get("t") != "a"


def test_the_event_names_just_the_rankings_that_there_are() -> None:
    assert set(get_args(Ranking)) == set(RANKINGS)


# -- tasks that need much room ----------------------------------------------------------------


def test_a_task_that_needs_a_whole_worker_does_not_starve_behind_small_ones() -> None:
    world = here(("w", 2)).given(task("t0"))
    running = world.assign()
    world.given(started(running[0]))
    world.given(task("large", resources=Resources(slots=2)))
    for n in range(1, 100):  # one ends, another has come: never is the whole worker free
        world.given(task(f"t{n}"))
        for one in world.assign():
            world.given(started(one))
            running.append(one)
        world.tick(30).given(finished(running.pop(0)))

    assert world.status("large") is not Status.QUEUED


LARGE = [
    Resources(slots=4),
    Resources(cpus=4.0),
    Resources(memory_gb=8.0),
    Resources(devices=2),
    Resources(slots=3, cpus=2.0, memory_gb=4.0, devices=2),
]
ENDS_WITHIN = 5


@pytest.mark.parametrize("resources", LARGE)
@pytest.mark.parametrize("seed", range(20))
def test_room_is_found_as_soon_as_all_that_ran_has_ended(resources: Resources, seed: int) -> None:
    """Small tasks always wait, and each of them ends within five rounds."""
    random = Random(seed)
    world = World().led()
    for number in range(random.randint(1, 3)):
        devices = tuple(cuda(index) for index in range(2))
        world.given(registered(f"w{number}", machine(4, *devices, cpus=4.0, memory_gb=8.0)))
    small = Resources(cpus=1.0, memory_gb=2.0, devices=1 if resources.devices else None)
    kinds = CUDA if resources.devices else Requirements()
    ends: dict[int, list[AttemptAssigned]] = {}
    names = iter(range(10_000))

    def rounds(count: int, first: int) -> None:
        for now in range(first, first + count):
            for one in ends.pop(now, []):
                world.given(finished(one))
            while sum(len(demand.queue) for demand in world.cell.ready.values()) < 4:
                world.given(task(f"s{next(names)}", requirements=kinds, resources=small))
            for one in world.tick(1).assign():
                world.given(started(one))
                ends.setdefault(now + random.randint(1, ENDS_WITHIN), []).append(one)

    rounds(10, 0)
    world.given(task("large", requirements=kinds, resources=resources))
    patience = int(CURRENT.parameters.keep_room_after_s)
    rounds(patience + 1, 10)
    rounds(ENDS_WITHIN + 1, 11 + patience)

    assert world.status("large") is not Status.QUEUED


def test_no_room_is_kept_before_it_was_waited_for() -> None:
    world = here(("w", 2)).given(task("t0"))
    world.given(started(only(world.assign())))
    world.given(task("large", resources=Resources(slots=2)), task("small"))

    assert only(world.assign()).task_id == "small"


def test_a_more_urgent_task_takes_the_room_that_is_kept() -> None:
    world = here(("w", 2)).given(task("t0"))
    world.given(started(only(world.assign())))
    world.given(task("large", resources=Resources(slots=2))).tick(30)
    world.given(task("urgent", priority=0), task("later"))

    assert only(world.assign()).task_id == "urgent"


def test_room_is_kept_on_one_worker_only() -> None:
    world = here(("v", 2), ("w", 2)).given(task("t0"), task("t1"))
    for one in world.assign():
        world.given(started(one))
    world.given(task("large", resources=Resources(slots=2))).tick(30)
    world.given(task("small"))

    assert only(world.assign()).worker_id == "w"
