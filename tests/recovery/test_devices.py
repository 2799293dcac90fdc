"""Suspect devices: a device is barred by one fault, tried later, and its worker stays."""

from collections.abc import Iterable
from typing import Any

import pytest

from dtest.events.attempt import AttemptAssigned
from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.reasons import Reason
from dtest.events.task import Requirements, Resources, RetryPolicy, TaskCancelRequested
from dtest.events.worker import WorkerReinstateRequested
from dtest.leadership.rules import CURRENT
from dtest.scheduling.why import explain
from dtest.state.health import DEVICE_FAULTS, Guard
from dtest.state.snapshot import dump, load
from dtest.state.task import Status
from tests.kit import facts, invariants
from tests.kit.facts import cuda, machine, registered, task
from tests.kit.world import World, assignments, only

CUDA = Requirements(("cuda",))
OPEN_S = CURRENT.parameters.breaker_open_s
Breaker = BreakerOpened | BreakerHalfOpened | BreakerClosed


def lab(devices: int = 2, slots: int = 4, **more: Any) -> World:
    """One worker with so many CUDA devices."""
    has = machine(slots, *(cuda(number) for number in range(devices)), **more)
    return World().led().given(registered("w", has))


def attempt(world: World, name: str, **more: Any) -> AttemptAssigned:
    more.setdefault("requirements", CUDA)
    world.given(task(name, name=name, **more))
    one = only(item for item in world.assign() if item.task_id == name)
    world.given(facts.started(one, world.now))
    return one


def ends(
    world: World, one: AttemptAssigned, outcome: facts.Outcome, reason: Reason | None = None
) -> list[Breaker]:
    """End an attempt; return what is decided about devices at once."""
    world.given(facts.finished(one, outcome, reason, world.now))
    return devices_of(world.settle())


def devices_of(decided: Iterable[object]) -> list[Breaker]:
    return [
        data
        for data in decided
        if isinstance(data, Breaker) and data.breaker_id.startswith("device:")
    ]


def guard(world: World, device: str = "cuda:0") -> Guard:
    known = world.worker("w").devices.get(device)
    return known.guard if known is not None else Guard.CLOSED


def suspect(world: World, reason: Reason = Reason.DEVICE_LOST, name: str = "bad") -> list[Breaker]:
    """Have the first device that is free fault."""
    return ends(world, attempt(world, name, retry_policy=RetryPolicy(0)), "faulted", reason)


@pytest.mark.parametrize("reason", sorted(DEVICE_FAULTS))
def test_a_device_that_faulted_gets_nothing_and_its_worker_stays(reason: Reason) -> None:
    world = lab()
    (opened,) = suspect(world, reason)

    assert isinstance(opened, BreakerOpened)
    assert (opened.breaker_id, opened.cause, opened.workers) == (
        "device:w/cuda:0",
        "device_fault",
        ("w",),
    )
    assert world.worker("w").takes_work
    assert world.worker("w").health is None
    world.tick(2.0)
    again = only(world.assign())
    assert (again.task_id, again.devices) == ("bad", ("cuda:1",))
    world.given(task("plain"))
    assert only(world.assign()).worker_id == "w"
    invariants.check(world.cell)


def test_the_worker_is_struck_once_none_of_its_devices_is_left() -> None:
    world = lab(devices=2)
    first, second = attempt(world, "a"), attempt(world, "b")
    ends(world, first, "faulted", Reason.GPU_HANG)
    assert world.worker("w").health is None
    ends(world, second, "faulted", Reason.GPU_HANG)

    health = world.worker("w").health
    assert health is not None
    assert [item.task_id for item in health.strikes] == ["b"]


def test_the_only_device_of_a_worker_counts_for_all_of_them() -> None:
    world = lab(devices=1)
    suspect(world)

    health = world.worker("w").health
    assert health is not None
    assert [item.reason for item in health.strikes] == [Reason.DEVICE_LOST]


def test_a_fault_without_a_reserved_device_strikes_the_worker() -> None:
    world = lab(devices=2)
    one = attempt(world, "t", resources=Resources(devices=0))
    assert ends(world, one, "faulted", Reason.GPU_HANG) == []

    assert world.worker("w").health is not None
    assert world.worker("w").devices == {}


def test_all_devices_of_an_attempt_are_suspect() -> None:
    world = lab(devices=3)
    one = attempt(world, "t", resources=Resources(devices=2))
    opened = ends(world, one, "faulted", Reason.DRIVER_RESET)

    assert [data.breaker_id for data in opened] == ["device:w/cuda:0", "device:w/cuda:1"]


def test_why_names_the_suspect_device() -> None:
    world = lab(devices=1)
    suspect(world)
    world.given(task("t", requirements=CUDA)).settle()

    reasons = {r.code: r.text for r in explain(world.cell, world.task("t"), world.now)}
    assert "cuda:0 of w is suspect (device_lost) until" in reasons["device_suspect"]
    assert "has suspect devices: cuda:0" in reasons["no_match"]


def test_a_task_for_another_device_is_told_nothing_of_it() -> None:
    world = lab(devices=1, slots=1)
    suspect(world)
    world.given(task("t", requirements=Requirements(("rocm",)))).settle()

    assert "device_suspect" not in {
        reason.code for reason in explain(world.cell, world.task("t"), world.now)
    }


# -- the way back -------------------------------------------------------------------------------


def half_open(world: World) -> AttemptAssigned:
    """Wait until the device is tried, with whatever attempt comes."""
    decided = world.tick(OPEN_S).settle()
    assert [data.TYPE for data in devices_of(decided)] == ["breaker.half_opened"]
    (one,) = assignments(decided)
    assert one.devices == ("cuda:0",)
    world.given(facts.started(one, world.now))
    known = world.worker("w").devices["cuda:0"]
    assert known.probe == (one.task_id, one.attempt)
    invariants.check(world.cell)
    return one


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_a_verdict_closes_it(outcome: facts.Outcome) -> None:
    world = lab(devices=1)
    suspect(world)
    closed = ends(world, half_open(world), outcome)

    assert [data.TYPE for data in closed] == ["breaker.closed"]
    assert world.worker("w").devices == {}


def test_a_fault_opens_it_again_for_twice_as_long() -> None:
    world = lab(devices=1)
    suspect(world)
    (opened,) = ends(world, half_open(world), "faulted", Reason.GPU_HANG)

    assert isinstance(opened, BreakerOpened)
    assert (opened.cause, opened.count) == ("probe_faulted", 2)
    assert opened.until.timestamp() == pytest.approx(world.now + 2 * OPEN_S)


def test_what_says_nothing_about_the_device_lets_the_next_one_try() -> None:
    world = lab(devices=1)
    suspect(world)
    assert ends(world, half_open(world), "faulted", Reason.CRASH_SIGNAL) == []

    assert guard(world) is Guard.HALF_OPEN
    world.given(task("next", requirements=CUDA))
    assert only(world.assign()).devices == ("cuda:0",)


def test_one_for_which_nothing_comes_is_let_in() -> None:
    world = lab(devices=1)
    ends(world, attempt(world, "t"), "faulted", Reason.GPU_HANG)
    world.given(TaskCancelRequested(world.task("t").id)).settle()
    world.tick(OPEN_S).settle()
    assert guard(world) is Guard.HALF_OPEN

    (closed,) = devices_of(world.tick(CURRENT.parameters.probation_s).settle())
    assert isinstance(closed, BreakerClosed)
    assert closed.cause == "nothing_ran"


@pytest.mark.parametrize(("incarnation", "released"), [("i2", True), ("i1", False)])
def test_a_new_start_of_the_agent_releases_it_and_a_reconnect_does_not(
    incarnation: str, released: bool
) -> None:
    world = lab(devices=1)
    suspect(world)
    world.given(registered("w", machine(4, cuda(0)), incarnation=incarnation))
    closed = devices_of(world.settle())

    assert [data.cause for data in closed if isinstance(data, BreakerClosed)] == (
        ["registered_again"] if released else []
    )
    assert guard(world) is (Guard.CLOSED if released else Guard.OPEN)


def test_an_operator_releases_it() -> None:
    world = lab(devices=1)
    suspect(world)
    world.given(WorkerReinstateRequested(world.worker("w").id))
    (closed,) = devices_of(world.settle())

    assert isinstance(closed, BreakerClosed)
    assert closed.cause == "operator"


def test_what_a_blamed_revision_did_to_devices_is_taken_back() -> None:
    world = World().led()
    for name in ("a", "b", "c"):
        world.given(registered(name, machine(2, cuda(0), labels={"host": name})))
    for number, name in enumerate(("a", "b", "c")):
        place = Requirements(("cuda",), labels={"host": name})
        labels = {"revision": "bad"}
        one = attempt(world, f"t{number}", requirements=place, labels=labels)
        world.given(facts.finished(one, "faulted", Reason.GPU_HANG, world.now))
        decided = world.settle()

    opened = [data.breaker_id for data in decided if isinstance(data, BreakerOpened)]
    assert opened == ["revision:bad"]
    closed = {d.breaker_id: d.cause for d in decided if isinstance(d, BreakerClosed)}
    assert closed["device:a/cuda:0"] == closed["device:b/cuda:0"] == "fleet_guard"
    assert all(not worker.devices for worker in world.cell.workers.values())


def test_a_replay_and_a_snapshot_know_the_same_devices() -> None:
    world = lab(devices=2)
    suspect(world)
    loaded = load(dump(world.cell))

    known = world.worker("w").devices
    assert known["cuda:0"].guard is Guard.OPEN
    assert loaded.workers[world.worker("w").id].devices == known
    assert world.replayed().workers[world.worker("w").id].devices == known
    invariants.check(loaded)


def test_a_task_is_not_held_for_ever_by_a_device_that_faults_again_and_again() -> None:
    world = lab(devices=1)
    world.given(task("t", requirements=CUDA))
    for _ in range(100):
        world.settle()
        if world.status("t") is Status.ERRORED:
            break
        item = world.task("t")
        if item.status is Status.ASSIGNED and item.worker_id is not None:
            one = AttemptAssigned(item.id, item.attempt, item.worker_id, "i1", "cuda", "command")
            world.given(facts.finished(one, "faulted", Reason.GPU_HANG, world.now))
        else:
            world.tick(max(0.01, (world.cell.next_timer_at() or world.now) - world.now))
    assert world.status("t") is Status.ERRORED
    assert world.task("t").faults_used == CURRENT.parameters.faults_max
