"""Why a task waits: never an empty answer, and no false one."""

import dataclasses
from collections.abc import Sequence

import pytest

from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import Reason
from dtest.events.task import Requirements, Resources, TaskCancelRequested
from dtest.events.worker import WorkerDrainRequested, WorkerRegistered
from dtest.leadership.decision import decide
from dtest.scheduling.why import (
    NEAREST_MAX,
    WaitingReason,
    explain,
    types_offered,
    unserved_types,
)
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.facts import cuda, finished, left, machine, registered, suspected, task
from tests.kit.histories import Move, anything_decided, play
from tests.kit.search import explore
from tests.kit.world import World, running


def why(world: World, name: str = "t") -> dict[str, WaitingReason]:
    return {reason.code: reason for reason in explain(world.cell, world.task(name), world.now)}


def simulated(name: str) -> WorkerRegistered:
    return dataclasses.replace(registered(name), simulated=True)


def test_every_task_at_every_moment_has_an_answer() -> None:
    def check(history: Sequence[Move]) -> None:
        world = World().led()
        for move in history:
            play(world, [move])
            for item in world.cell.tasks.values():
                reasons = explain(world.cell, item, world.now)
                assert reasons
                assert all(reason.code and reason.text for reason in reasons)

    explore(anything_decided, check)


def test_it_starts_next_is_said_only_of_what_starts_next() -> None:
    def check(history: Sequence[Move]) -> None:
        world = play(World().led(), history)
        world.cell.wake(world.now)
        named = {
            name
            for name, item in world.cell.tasks.items()
            if explain(world.cell, item, world.now)[0].code == "next_decision"
        }
        decided = {kind for _, kind in decide(world.cell, world.now)}
        if decided & {"breaker.opened", "worker.quarantined"}:
            return  # what bars a worker is recorded first, and the next decision assigns
        world.step()
        assert {name for name in named if world.status(name) is not Status.ASSIGNED} == set()

    explore(anything_decided, check)


def test_room_that_is_kept_for_another_is_named() -> None:
    world = World().led().given(registered("w", machine(2)), task("t0"))
    world.given(facts.started(world.assign()[0]))
    world.given(task("large", resources=Resources(slots=2))).tick(30).given(task("t"))

    assert why(world)["reserved_for"] == WaitingReason(
        "reserved_for", "w keeps its room for large, which has waited longer", "w", "large"
    )
    assert "all_matching_busy" in why(world, "large")


def test_a_free_worker_that_the_task_avoids_is_no_answer() -> None:
    world = World().led().given(registered("w", machine(labels={"is": "w"})), registered("v"))
    world.given(task("t"))
    (one,) = world.assign()
    assert one.worker_id == "v"
    world.given(finished(one, "faulted", Reason.DISK_FULL))
    world.given(task("urgent", requirements=Requirements(labels={"is": "w"}), priority=0))
    world.settle()
    world.tick(30)
    world.cell.wake(world.now)

    assert "it waits for another worker" in why(world)["avoided"].text


def test_no_worker_is_registered() -> None:
    world = World().given(task("t"))

    assert why(world) == {"no_match": WaitingReason("no_match", "no worker is registered")}


def test_a_worker_that_is_gone_counts_as_none() -> None:
    world = World().given(registered("w"), facts.left("w"), task("t"))

    assert why(world)["no_match"].text == "no worker is registered"


def test_a_miss_is_named_with_its_worker() -> None:
    world = World().given(registered("w", machine(1, cuda())))
    world.given(task("t", requirements=Requirements(("cuda",), min_device_memory_gb=40)))

    assert why(world)["no_match"] == WaitingReason(
        "no_match", "w needs 40 GB on one cuda device, has 24.0", "w"
    )


def test_the_nearest_miss_is_named_first_however_many_others_there_are() -> None:
    world = World()
    for n in range(2 * NEAREST_MAX):
        world.given(registered(f"plain{n}"))
    world.given(registered("near", machine(1, cuda())))
    world.given(registered("other", machine(1, cuda(), task_types=("bake",))))
    world.given(task("t", requirements=Requirements(("cuda",), min_device_memory_gb=40)))

    reasons = explain(world.cell, world.task("t"), world.now)

    assert reasons[0].worker_id == "near"
    assert len(reasons) == NEAREST_MAX


def test_busy_workers_are_counted() -> None:
    world = World().led().given(registered("w", machine(2)), registered("v"))
    for name in "abc":
        running(world, name)
    world.given(task("t"))

    text = why(world)["all_matching_busy"].text
    assert text == "2 matching workers, all busy with 3 attempts"


def test_those_that_go_first_are_counted_over_all_demands_for_the_same_places() -> None:
    world = World().given(registered("w"), registered("far", machine(task_types=("bake",))))
    world.record(task("a"), task("b", resources=Resources(memory_gb=1.0)))
    world.given(task("c", type="bake"), task("t"), task("later"))

    assert why(world)["lower_priority_than"].text.startswith("behind 2 tasks")


@pytest.mark.parametrize(
    ("fact", "code"),
    [
        (WorkerDrainRequested(WorkerId("w")), "worker_draining"),
        (suspected("w"), "worker_suspected"),
    ],
)
def test_a_worker_that_takes_nothing_now_is_named(fact: WorkerDrainRequested, code: str) -> None:
    world = World().given(registered("w"), fact, task("t"))

    assert why(world)[code].worker_id == "w"


def test_a_dependency_is_named_with_its_state() -> None:
    world = World().given(task("a"), task("t", after=("a",)))

    assert why(world)["waiting_dependency"] == WaitingReason(
        "waiting_dependency", "waits for a, which is queued", task_id="a"
    )


def test_a_dependency_that_can_never_pass_is_named() -> None:
    world = World().led().given(registered("w"))
    one = running(world, "a")
    world.given(finished(one, "failed"), task("t", after=("a",)))

    assert why(world)["dependency_never"].task_id == "a"
    assert "next_decision" not in why(world)


def test_a_backoff_is_named_with_its_end_and_its_cause() -> None:
    world = World().led().given(registered("w"))
    world.given(finished(running(world), "faulted", Reason.DISK_FULL))
    world.settle()

    assert "disk_full" in why(world)["backoff_until"].text
    world.tick(10)
    assert "backoff_until" not in why(world)


def test_a_task_that_faulted_on_all_that_match_says_so() -> None:
    world = World().led().given(registered("w"))
    world.given(finished(running(world), "faulted", Reason.DISK_FULL))
    world.settle()

    assert why(world)["avoided"].text == "it faulted on w; nothing else matches"


def test_a_task_that_is_being_cancelled_says_so() -> None:
    world = World().given(task("t"), TaskCancelRequested(TaskId("t")))

    assert "cancelling" in why(world)


def test_a_task_that_expires_says_so() -> None:
    world = World().given(task("t", wait_limit_seconds=1.0), registered("w"))
    world.tick(2).cell.wake(world.now)

    assert "no_capacity" in why(world)["expiring"].text


def test_a_task_whose_attempt_ended_is_being_decided() -> None:
    world = World().led().given(registered("w"))
    world.given(finished(running(world), "faulted", Reason.DISK_FULL))

    assert why(world)["being_decided"].text == "its last attempt ended: disk_full"


def test_a_task_that_runs_or_ended_does_not_wait() -> None:
    world = World().led().given(registered("w"))
    one = running(world)
    assert why(world)["not_waiting"].text == "attempt 1 is running on w"
    world.given(finished(one, "failed", Reason.ASSERTION_FAILED))

    assert why(world)["ended"].text == "it ended: failed, assertion_failed"


def test_a_free_worker_takes_it_next() -> None:
    world = World().given(registered("w"), task("t"))

    assert set(why(world)) == {"next_decision"}


# -- no worker at all matches ---------------------------------------------------------------------


def test_real_workers_come_first_and_simulated_ones_are_counted() -> None:
    world = World().led()
    for number in range(7):
        world.given(simulated(f"sim-{number}"))
    world.given(registered("real"), task("t", requirements=Requirements(hardware=("rocm",))))

    reasons = explain(world.cell, world.task("t"), world.now)
    assert [reason.text for reason in reasons] == [
        "real has no rocm",
        "7 simulated workers: for simulated tasks only",
    ]


def test_many_real_workers_leave_room_for_the_count_of_simulated_ones() -> None:
    world = World().led().given(simulated("sim"))
    for number in range(9):
        world.given(registered(f"real-{number}"))
    world.given(task("t", requirements=Requirements(hardware=("rocm",))))

    reasons = explain(world.cell, world.task("t"), world.now)
    assert len(reasons) == 5
    assert reasons[-1].text == "1 simulated worker: for simulated tasks only"


def test_types_that_no_worker_runs_are_counted() -> None:
    world = World().led().given(registered("w"), registered("gone", machine(task_types=("bake",))))
    world.given(left("gone"), task("a", type="bake"), task("b", type="bake"), task("c"))

    assert types_offered(world.cell) == ["command", "test"]
    assert unserved_types(world.cell) == {"bake": 2}
