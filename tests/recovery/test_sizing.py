"""Too small a place: once where there is more, then the smaller variant, and an end in any case."""

from typing import Any

import pytest

from dtest.events.attempt import AttemptAssigned, AttemptFinished
from dtest.events.fields import TaskId
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason
from dtest.events.task import Remedy, Requirements, Resources, RetryPolicy, TaskRetryRequested
from dtest.events.worker import WorkerDrainRequested
from dtest.leadership.rules import CURRENT
from dtest.scheduling.why import explain
from dtest.state.snapshot import dump, load
from dtest.state.task import Status
from tests.kit import facts, invariants
from tests.kit.facts import cuda, lost, machine, registered, task
from tests.kit.world import World, assignments

CUDA = Requirements(("cuda",))
SMALLER = {"env": {"SIZE": "small"}}
WAIT_S = CURRENT.parameters.larger_wait_s


def labs(**sizes: float | tuple[float, ...] | None) -> World:
    """Machines, each with CUDA devices of these sizes."""
    world = World().led()
    for name, given in sizes.items():
        sizes_gb = given if isinstance(given, tuple) else (given,)
        devices = [cuda(number, size) for number, size in enumerate(sizes_gb)]
        world.given(registered(name, machine(4, *devices)))
    return world


def latest(world: World) -> AttemptAssigned:
    """Let any backoff pass, and take the assignment that is made."""
    made = assignments(world.settle())
    for _ in range(3):
        if made:
            break
        made = assignments(world.tick(2.0).settle())
    (one,) = made
    invariants.check(world.cell)
    return one


def ends(world: World, one: AttemptAssigned, reason: Reason, peak_gb: float | None = None) -> World:
    """An attempt ends for a reason that is no verdict."""
    world.given(facts.started(one, world.now))
    end = facts.finished(one, "faulted", reason, world.now)
    peak_bytes = round(peak_gb * 1e9) if peak_gb is not None else None
    fact = AttemptFinished(
        end.task_id,
        end.attempt,
        end.worker_id,
        end.outcome,
        end.started_at,
        end.finished_at,
        reason,
        memory_bytes_peak=peak_bytes,
    )
    return world.given(fact)


def on(world: World, name: str, worker: str, **more: Any) -> AttemptAssigned:
    """The first attempt of a task, on that worker: the others come later."""
    world.given(task(name, **more))
    one = latest(world)
    assert one.worker_id == worker
    return one


def codes(world: World, name: str = "t") -> list[str]:
    return [reason.code for reason in explain(world.cell, world.task(name), world.now)]


# -- memory of a device -------------------------------------------------------------------------


def test_what_ran_out_of_device_memory_goes_to_the_smallest_larger_device() -> None:
    world = labs(w=8.0)
    one = on(world, "t", "w", requirements=CUDA)
    world.given(
        registered("same", machine(4, cuda(0, 8.0))),
        registered("large", machine(4, cuda(0, 80.0))),
        registered("larger", machine(4, cuda(0, 16.0), cuda(1, 12.0))),
    )
    ends(world, one, Reason.OOM_DEVICE)

    again = latest(world)

    assert world.task("t").remedy is not None
    assert world.task("t").demand.requirements.min_device_memory_gb == 12.0
    assert again.worker_id in ("large", "larger")
    assert (again.config, again.fallback) == ({"command": ["true"]}, False)
    assert world.task("t").faults_used == 1


def test_a_larger_device_of_the_same_machine_will_do() -> None:
    world = labs(w=(8.0, 24.0))
    one = on(world, "t", "w", requirements=CUDA)
    assert one.devices == ("cuda:0",)
    ends(world, one, Reason.OOM_DEVICE)

    again = latest(world)

    assert (again.worker_id, again.devices) == ("w", ("cuda:1",))


def test_of_several_devices_each_must_be_larger() -> None:
    world = labs(w=(8.0, 8.0))
    two = Resources(devices=2)
    one = on(world, "t", "w", requirements=CUDA, resources=two)
    world.given(
        registered("mixed", machine(4, cuda(0, 8.0), cuda(1, 80.0))),
        registered("large", machine(4, cuda(0, 16.0), cuda(1, 40.0), cuda(2, 80.0))),
    )
    ends(world, one, Reason.OOM_DEVICE)

    again = latest(world)

    assert again.worker_id == "large"
    assert world.task("t").demand.requirements.min_device_memory_gb == 16.0


def test_without_a_larger_device_the_smaller_variant_runs() -> None:
    world = labs(w=8.0, v=8.0)
    config = {"command": ["true"], "env": {"SIZE": "large", "SEED": "1"}}
    world.given(task("t", requirements=CUDA, config=config, fallback_config=SMALLER))
    one = latest(world)
    assert not one.fallback
    ends(world, one, Reason.OOM_DEVICE)

    again = latest(world)

    assert again.fallback
    assert again.config == {"command": ["true"], "env": {"SIZE": "small", "SEED": "1"}}
    assert again.worker_id != one.worker_id


def test_each_remedy_is_given_once_and_then_the_task_is_errored() -> None:
    world = labs(w=8.0)
    one = on(world, "t", "w", requirements=CUDA, fallback_config=SMALLER)
    world.given(registered("large", machine(4, cuda(0, 24.0))))
    ran = []
    for _ in range(3):
        ran.append((one.worker_id, one.fallback))
        ends(world, one, Reason.OOM_DEVICE)
        world.settle()
        if world.status("t") is Status.ERRORED:
            break
        one = latest(world)

    assert ran == [("w", False), ("large", False), ("large", True)]
    assert world.status("t") is Status.ERRORED
    assert world.task("t").reason is Reason.OOM_DEVICE


def test_without_a_remedy_the_end_says_what_was_missing() -> None:
    world = labs(w=8.0)
    ends(world, on(world, "t", "w", requirements=CUDA), Reason.OOM_DEVICE)

    (ended,) = world.settle()

    assert (ended.TYPE, world.status("t")) == ("task.ended", Status.ERRORED)
    assert "cuda:0 on w; no larger one takes work; it has no fallback_config" in str(ended)


def test_the_tasks_own_retries_come_after_the_remedies() -> None:
    world = labs(w=8.0)
    one = on(world, "t", "w", requirements=CUDA, retry_policy=RetryPolicy(1))
    ends(world, one, Reason.OOM_DEVICE)

    again = latest(world)

    assert (again.attempt, world.task("t").retries_used, world.task("t").faults_used) == (2, 1, 0)


def test_a_device_of_unknown_size_has_no_larger_one() -> None:
    world = labs(w=None)
    one = on(world, "t", "w", requirements=CUDA)
    world.given(registered("large", machine(4, cuda(0, 80.0))))
    ends(world, one, Reason.OOM_DEVICE)
    world.settle()

    assert world.status("t") is Status.ERRORED


@pytest.mark.parametrize("away", ["drained", "lost", "suspect"])
def test_a_larger_device_that_takes_no_work_is_none(away: str) -> None:
    world = labs(w=8.0)
    one = on(world, "t", "w", requirements=CUDA)
    world.given(registered("large", machine(4, cuda(0, 24.0))))
    if away == "drained":
        world.given(WorkerDrainRequested(world.worker("large").id))
    elif away == "lost":
        world.given(lost("large"))
    else:
        other = on(world, "other", "large", requirements=CUDA)
        ends(world, other, Reason.GPU_HANG)
        world.settle()
    ends(world, one, Reason.OOM_DEVICE)
    world.settle()

    assert world.status("t") is Status.ERRORED


def waiting() -> World:
    """A task waits for the larger device, which is busy."""
    world = labs(w=8.0)
    one = on(world, "t", "w", requirements=CUDA, fallback_config=SMALLER)
    world.given(registered("large", machine(4, cuda(0, 24.0))))
    busy = on(world, "busy", "large", requirements=Requirements(("cuda",), 0.0, 24.0))
    world.given(facts.started(busy, world.now))
    ends(world, one, Reason.OOM_DEVICE)
    world.settle()
    world.tick(2.0).settle()
    return world


def test_a_busy_larger_device_is_waited_for_and_why_says_so() -> None:
    world = waiting()
    world.tick(10 * WAIT_S).settle()

    assert world.status("t") in (Status.QUEUED, Status.DELAYED)
    assert {"larger_place", "all_matching_busy"} <= set(codes(world))
    (text,) = [
        r.text for r in explain(world.cell, world.task("t"), world.now) if r.code == "larger_place"
    ]
    assert "cuda:0 of w was too small" in text
    assert "at least 24 GB" in text


def test_others_of_the_same_kind_do_not_wait_behind_it() -> None:
    world = waiting()
    world.given(task("other", requirements=CUDA))

    assert latest(world).worker_id == "w"


def test_one_that_is_gone_is_waited_for_until_then_the_smaller_variant_runs() -> None:
    world = waiting()
    world.given(lost("large"))
    world.settle()
    assert world.status("t") in (Status.QUEUED, Status.DELAYED)
    assert world.cell.next_timer_at() is not None
    assert "larger_place" in codes(world)

    made = assignments(world.tick(WAIT_S).settle())

    assert [(a.task_id, a.worker_id, a.fallback) for a in made] == [("t", "w", True)]
    assert world.task("t").remedy == Remedy(fallback=True)
    assert world.task("t").faults_used == 1


def test_one_that_comes_back_in_time_gets_the_task() -> None:
    world = waiting()
    world.given(lost("large"))
    world.settle()
    world.given(registered("large", machine(4, cuda(0, 24.0)), incarnation="i2"))
    made = assignments(world.tick(2.0).settle())

    assert ("t", "large", False) in {(a.task_id, a.worker_id, a.fallback) for a in made}


def test_a_replay_and_a_snapshot_know_who_waits_for_what() -> None:
    world = waiting()
    again, loaded = world.replayed(), load(dump(world.cell))

    assert list(again.enlarged) == list(loaded.enlarged) == list(world.cell.enlarged) == ["t"]
    assert loaded.tasks[TaskId("t")].remedy == again.tasks[TaskId("t")].remedy
    invariants.check(loaded)


def test_who_asks_for_it_again_asks_for_it_as_it_was() -> None:
    world = labs(w=8.0)
    one = on(world, "t", "w", requirements=CUDA, fallback_config=SMALLER)
    for _ in range(2):
        ends(world, one, Reason.OOM_DEVICE)
        if world.settle() and world.status("t") is Status.ERRORED:
            break
        one = latest(world)
    world.given(TaskRetryRequested(TaskId("t")))

    again = latest(world)

    assert (again.fallback, world.task("t").remedy) == (False, None)


# -- memory of a machine ------------------------------------------------------------------------


def machines(**memory_gb: float) -> World:
    world = World().led()
    return world.given(
        *(registered(name, machine(1, memory_gb=size)) for name, size in memory_gb.items())
    )


@pytest.mark.parametrize(
    ("reason", "peak_gb", "limit_gb", "larger"),
    [
        (Reason.OOM_TASK, 2.1, 2.0, True),
        (Reason.OOM_TASK, 1.0, 2.0, False),
        (Reason.OOM_TASK, None, 2.0, False),
        (Reason.OOM_TASK, 7.5, None, True),
        (Reason.RUN_TIMEOUT, 7.5, None, True),
        (Reason.RUN_TIMEOUT, 7.5, 7.8, True),
        (Reason.RUN_TIMEOUT, 6.0, None, False),
        (Reason.RUN_TIMEOUT, None, None, False),
        (Reason.IDLE_OUTPUT_TIMEOUT, 7.5, None, False),
    ],
)
def test_an_attempt_that_filled_its_memory_is_repeated_on_a_larger_machine(
    reason: Reason, peak_gb: float | None, limit_gb: float | None, larger: bool
) -> None:
    world = machines(small=8.0)
    one = on(world, "t", "small", memory_limit_gb=limit_gb, timeout_seconds=60.0)
    world.given(registered("large", machine(1, memory_gb=64.0)))
    ends(world, one, reason, peak_gb)
    world.settle()

    if not larger:
        assert world.status("t") is Status.ERRORED
        return
    again = latest(world)
    assert again.worker_id == "large"
    raised = 1.5 if reason is Reason.OOM_TASK else 1.0
    assert again.memory_limit_gb == (None if limit_gb is None else limit_gb * raised)
    ends(world, again, reason, 60.0)
    world.settle()
    assert world.status("t") is Status.ERRORED


def test_a_machine_that_cannot_hold_the_raised_limit_is_not_large_enough() -> None:
    world = machines(small=8.0)
    one = on(world, "t", "small", memory_limit_gb=8.0)
    world.given(registered("larger", machine(1, memory_gb=10.0)))
    ends(world, one, Reason.OOM_TASK, 8.1)
    world.settle()

    assert world.status("t") is Status.ERRORED


def test_a_strategy_without_retries_has_no_remedies_beyond_its_budget() -> None:
    world = labs(w=8.0).given(PolicyChanged(None, "minimal"))
    one = on(world, "t", "w", requirements=CUDA, fallback_config=SMALLER)
    world.given(registered("large", machine(4, cuda(0, 24.0))))
    ends(world, one, Reason.OOM_DEVICE)
    world.tick(10.0)
    again = latest(world)
    ends(world, again, Reason.OOM_DEVICE)
    world.settle()

    assert world.status("t") is Status.ERRORED
