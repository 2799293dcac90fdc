"""A kind of task on which many workers trip is blamed, and they are not."""

from random import Random

import pytest

from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.events.task import TaskCancelRequested, TaskQueued
from dtest.events.worker import WorkerReinstated
from dtest.leadership.audit import verify
from dtest.leadership.rules import CURRENT
from dtest.scheduling.why import explain
from dtest.state.health import KIND_KEY_CHARS_MAX, Guard, kinds_of, signature_of
from dtest.state.task import TERMINAL, Status
from tests.kit import facts, invariants
from tests.kit.facts import task
from tests.kit.faulting import (
    all_live,
    barred,
    end,
    faults_on,
    fleet,
    health,
    live,
    only_on,
    run,
)
from tests.kit.recording import Recording
from tests.kit.search import CASES
from tests.kit.world import World, assignments

POLICY = CURRENT.parameters
TEN = [f"w{number}" for number in range(10)]
BAD = {"revision": "bad"}


# -- what belongs together ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "signature"),
    [
        (task("t", labels={"signature": "gpu smoke"}), "signature:gpu smoke"),
        (task("t", name="unit", labels={"signature": "x"}), "signature:x"),
        (task("t", name="unit"), "signature:command/unit"),
        (task("t", name="unit", labels={"signature": ""}), "signature:command/unit"),
    ],
)
def test_a_signature_is_the_label_or_the_type_and_the_name(
    spec: TaskQueued, signature: str
) -> None:
    assert signature_of(spec) == signature
    assert kinds_of(spec) == (signature,)


def test_without_a_name_the_config_makes_tasks_alike() -> None:
    same = signature_of(task("a", config={"command": "x", "env": {}}))

    assert signature_of(task("b", config={"env": {}, "command": "x"})) == same
    assert signature_of(task("c", config={"command": "y", "env": {}})) != same


def test_a_key_is_bounded() -> None:
    long = task("t", name="n" * 500, labels={"revision": "r" * 200})

    assert all(len(key) <= KIND_KEY_CHARS_MAX + len("signature:") for key in kinds_of(long))
    assert kinds_of(long)[1].startswith("revision:")


# -- breakers of kinds --------------------------------------------------------------------------


def kinds(world: World) -> dict[str, Guard]:
    return {key: kind.guard for key, kind in world.cell.kinds.items()}


def poisoned(*names: str, count: int = 4, **more: object) -> World:
    """Tasks of one revision that faulted at the same time, one on each of these workers."""
    world = fleet(*names)
    more.setdefault("labels", BAD)
    world.record(*(task(f"t{n}", name=f"n{n}", **more) for n in range(count)))  # type: ignore[arg-type]
    world.settle()
    for one in all_live(world):
        end(world, one)
    return world


def test_a_revision_on_which_many_workers_trip_is_held_and_they_are_released() -> None:
    world = poisoned("a", "b", "c", count=5)
    decided = world.settle()

    (ruling,) = [data for data in decided if isinstance(data, BreakerOpened)]
    assert (ruling.breaker_id, ruling.cause, ruling.workers) == (
        "revision:bad",
        "fleet_guard",
        ("a", "b", "c"),
    )
    assert all(health(world, name).strikes == [] for name in "abc")
    assert set(world.cell.held) == {"t3", "t4"}
    (reason,) = explain(world.cell, world.task("t4"), world.now)
    assert reason.code == "breaker_open"
    assert "revision:bad faulted on a, b, c" in reason.text
    invariants.check(world.cell)


def test_tasks_of_another_revision_run_on() -> None:
    world = poisoned("a", "b", "c")
    world.given(task("good", labels={"revision": "good"})).settle()

    assert world.status("good") is Status.ASSIGNED


def test_a_worker_is_not_barred_by_the_very_decision_that_blames_a_revision() -> None:
    world = fleet("a", "b", "c", slots=4)
    world.record(*(task(f"t{n}", name=f"n{n}", labels=BAD) for n in range(12)))
    world.settle()
    for one in all_live(world):
        end(world, one)
    assert all(len(health(world, name).strikes) == 4 for name in "abc")
    decided = world.settle()

    (ruling,) = [data for data in decided if isinstance(data, BreakerOpened)]
    assert ruling.breaker_id == "revision:bad"
    assert barred(world) == set()


def test_two_workers_are_not_many() -> None:
    world = poisoned("a", "b", "c", count=2)
    world.settle()

    assert set(kinds(world).values()) == {Guard.CLOSED}


def test_a_few_bad_workers_of_many_that_ran_it_are_to_blame_themselves() -> None:
    world = fleet(*TEN)
    world.record(*(task(f"t{n}", name=f"n{n}", labels=BAD) for n in range(10)))
    world.settle()
    attempts = all_live(world)
    end(world, attempts[0])
    for one in attempts[3:]:
        end(world, one, "passed")
    for one in attempts[1:3]:
        end(world, one)
    world.settle()

    assert kinds(world)["revision:bad"] is Guard.CLOSED


def test_faults_long_ago_do_not_count() -> None:
    world = poisoned("a", "b", "c", count=2)
    world.settle()
    for name in ("t0", "t1"):
        world.given(TaskCancelRequested(TaskId(name)))
    world.tick(POLICY.fleet_window_s + 1).given(only_on("c", "late", labels=BAD))
    run(world, "late")
    world.settle()

    assert kinds(world)["revision:bad"] is Guard.CLOSED


def test_a_single_task_is_no_revision() -> None:
    world = fleet("a", "b", "c", "d").given(task("t", labels=BAD))
    for _ in range(4):
        run(world, "t")
        world.settle()
        world.tick(10)

    assert world.status("t") is Status.ERRORED
    assert set(kinds(world).values()) == {Guard.CLOSED}


def test_a_lost_machine_says_nothing_about_what_ran_there() -> None:
    world = fleet("a", "b", "c")
    world.record(*(task(f"t{n}", labels=BAD) for n in range(3)))
    world.settle()
    for name in "abc":
        world.given(facts.lost(name))

    assert world.cell.kinds == {}


def test_three_faults_in_a_row_on_two_workers_open_the_breaker_of_a_signature() -> None:
    world = fleet("a", "b")
    for number, worker in enumerate("aab"):
        world.given(only_on(worker, f"t{number}", labels={"signature": "s"}))
        run(world, f"t{number}")
    decided = world.settle()

    assert "signature:s" in {d.breaker_id for d in decided if isinstance(d, BreakerOpened)}
    assert barred(world) == set()


def test_three_faults_on_one_worker_are_the_workers() -> None:
    world = fleet("a", "b")
    for number in range(3):
        world.given(only_on("a", f"t{number}", labels={"signature": "s"}))
        run(world, f"t{number}")
    world.settle()

    assert kinds(world) == {"signature:s": Guard.CLOSED}
    assert health(world, "a").guard is Guard.OPEN


def half_open() -> World:
    """A held revision of which one task is being tried."""
    world = poisoned("a", "b", "c", count=7)
    world.settle()
    for name in ("t0", "t1", "t2"):
        world.given(TaskCancelRequested(TaskId(name)))
    world.tick(POLICY.breaker_open_s)
    decided = world.settle()
    probe = BreakerHalfOpened("revision:bad", TaskId("t3"), facts.instant(world.now + 300))
    assert probe in decided
    assert [data.task_id for data in assignments(decided)] == ["t3"]
    return world


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_a_probe_that_comes_to_a_verdict_lets_all_go(outcome: facts.Outcome) -> None:
    world = half_open()
    end(world, live(world, "t3"), outcome)
    decided = world.settle()

    assert BreakerClosed("revision:bad", "probe_passed") in decided
    assert {data.task_id for data in assignments(decided)} == {"t4", "t5", "t6"}
    assert world.cell.held == {}


def test_a_probe_that_faults_holds_them_again_and_is_no_strike() -> None:
    world = half_open()
    one = end(world, live(world, "t3"))
    decided = world.settle()

    (ruling,) = [data for data in decided if isinstance(data, BreakerOpened)]
    assert (ruling.cause, ruling.count) == ("probe_faulted", 2)
    assert health(world, one.worker_id).strikes == []
    assert set(world.cell.held) == {"t4", "t5", "t6"}


def test_what_faults_every_time_is_given_up_with_its_reason() -> None:
    world = half_open()
    end(world, live(world, "t3"))
    world.settle()
    world.tick(POLICY.breaker_open_s).settle()
    (one,) = all_live(world)
    end(world, one)
    world.settle()

    for name in {"t4", "t5", "t6"} - {one.task_id}:
        assert world.status(name) is Status.ERRORED
        assert world.task(name).reason is Reason.BREAKER_OPEN
    world.given(task("later", labels=BAD)).settle()
    assert world.status("later") is Status.ERRORED
    world.tick(POLICY.breaker_open_s).settle()
    assert kinds(world)["revision:bad"] is Guard.CLOSED


def test_a_probe_that_is_cancelled_makes_room_for_the_next() -> None:
    world = half_open()
    world.given(TaskCancelRequested(TaskId("t3"))).settle()
    end(world, live(world, "t3"), "cancelled")
    decided = world.settle()

    assert [data.task_id for data in assignments(decided)] == ["t4"]


def test_a_probe_for_which_there_is_no_worker_holds_nobody_up() -> None:
    world = poisoned("a", "b", "c", count=5)
    world.settle()
    for name in "abc":
        world.given(facts.left(name))
    world.tick(POLICY.breaker_open_s).settle()
    assert world.cell.kinds["revision:bad"].guard is Guard.HALF_OPEN
    world.tick(POLICY.probation_s)

    assert BreakerClosed("revision:bad", "nothing_ran") in world.settle()
    assert world.cell.held == {}


def test_strikes_that_were_a_revisions_release_the_worker_that_was_barred_for_them() -> None:
    world = fleet("a", "b", "c")
    for number in range(3):
        world.given(only_on("a", f"a{number}", labels=BAD))
        run(world, f"a{number}")
    world.settle()
    assert barred(world) == {"a"}
    for worker in "bc":
        world.given(only_on(worker, worker, labels=BAD))
        run(world, worker)
    decided = world.settle()

    assert BreakerClosed("worker:a", "fleet_guard") in decided
    assert barred(world) == set()
    assert health(world, "a").strikes == []


def test_strikes_of_its_own_keep_a_worker_barred() -> None:
    world = faults_on(fleet("a", "b", "c"), "a", 3)
    world.settle()
    for worker in "bc":
        world.given(only_on(worker, worker, labels=BAD))
    world.given(only_on("b", "b2", labels=BAD))
    for name in ("b", "c", "b2"):
        run(world, name)
    world.settle()

    assert barred(world) == {"a"}


# -- the property -------------------------------------------------------------------------------


async def test_a_poison_revision_bars_few_workers_for_a_short_time_and_all_are_released() -> None:
    most, released = 0, 0
    for seed in range(max(10, CASES // 20)):
        rng = Random(seed)
        world = fleet(*TEN, slots=rng.choice([1, 2, 4]))
        names = [f"t{number}" for number in range(60)]
        bad = set(rng.sample(names, 40))
        alike = rng.random() < 0.5
        world.record(
            *(
                task(
                    name,
                    name="same" if alike and name in bad else name,
                    labels=BAD if name in bad else {"revision": "good"},
                )
                for name in names
            )
        )
        for _ in range(3_000):
            decided = world.step()
            released += sum(isinstance(d, WorkerReinstated | BreakerClosed) for d in decided)
            most = max(most, len(barred(world)))
            attempts = all_live(world)
            for one in rng.sample(attempts, rng.randint(0, len(attempts))):
                end(world, one, "faulted" if one.task_id in bad else "passed")
            world.tick(rng.choice([0.01, 0.5, 3.0]) if attempts else 20.0)
            if all(item.status in TERMINAL for item in world.cell.tasks.values()):
                break
        invariants.check(world.cell)

        assert most <= len(TEN) // 3, seed
        assert {world.status(name) for name in names if name not in bad} == {Status.PASSED}
        assert {world.status(name) for name in bad} == {Status.ERRORED}
        world.settle()
        world.tick(2 * POLICY.quarantine_s_max).settle()
        world.tick(2 * POLICY.quarantine_s_max).settle()
        assert barred(world) == set()
        report = await verify(Recording(world.journal), facts.CELL)
        assert report.violations == []
    assert released
