"""Workers come, drain, fall silent, leave and come again; what they held is accounted for."""

import pytest

from dtest.events.attempt import AttemptStopRequested
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import Reason, RefusalCode
from dtest.events.task import Requirements, Resources
from dtest.events.worker import (
    WorkerDraining,
    WorkerDrainRequested,
    WorkerLost,
    WorkerReinstateRequested,
    WorkerSuspected,
)
from dtest.leadership.rules import CURRENT, RULES
from dtest.state.task import Status
from dtest.state.term import DRAIN_ENDS_RULES
from dtest.state.worker import WorkerStatus
from tests.kit import facts
from tests.kit.facts import finished, left, lost, machine, registered, started, suspected, task
from tests.kit.world import World, only, running

REJOIN_S_MAX = CURRENT.parameters.rejoin_s_max

DRAIN = WorkerDrainRequested(WorkerId("w"))


def here(slots: int = 1) -> World:
    return World().led().given(registered("w", machine(slots), pid=1))


def stop(task_id: str, attempt: int, worker: str = "w") -> AttemptStopRequested:
    return AttemptStopRequested(TaskId(task_id), attempt, WorkerId(worker), Reason.WORKER_LOST)


# -- gone -----------------------------------------------------------------------------------


def test_a_lost_worker_gives_back_its_attempts() -> None:
    world = here(2)
    running(world, "a")
    world.given(task("b"))
    only(world.assign())

    world.given(suspected("w"))
    assert world.worker("w").status is WorkerStatus.SUSPECTED
    (verdict,) = [data for data in world.step() if isinstance(data, WorkerLost)]

    assert verdict.worker_id == "w"
    assert world.worker("w").status is WorkerStatus.LOST
    for name in "ab":
        assert world.status(name) is Status.JUDGED
        assert world.task(name).reason is Reason.WORKER_LOST
        assert world.task(name).avoid == ("w",)
    assert not world.worker("w").running
    assert not world.cell.free


def test_a_worker_that_left_gives_back_its_attempts_and_is_not_avoided_for_it() -> None:
    world = here()
    running(world)
    world.given(left("w"))

    assert world.worker("w").status is WorkerStatus.LEFT
    assert world.task("t").reason is Reason.WORKER_SHUTDOWN
    assert world.task("t").avoid == ()


@pytest.mark.parametrize("gone", [lost("w"), left("w")])
def test_a_worker_that_is_gone_serves_no_demand_old_or_new(gone: WorkerLost) -> None:
    world = here().given(task("a"), gone, task("b", resources=Resources(memory_gb=1.0)))
    assert len(world.cell.demands) == 2

    assert all(not demand.servers for demand in world.cell.demands.values())


@pytest.mark.parametrize("fact", [suspected("w", "i0"), lost("w", "i0"), left("w", "i0")])
def test_what_is_said_of_another_incarnation_changes_nothing(fact: WorkerLost) -> None:
    world = here().given(fact)

    assert world.worker("w").status is WorkerStatus.ACTIVE
    assert world.ignored() == {"worker_out_of_date": 1}


def test_a_worker_is_lost_once() -> None:
    world = here().given(lost("w"), lost("w"), suspected("w"), left("w"))

    assert world.worker("w").status is WorkerStatus.LOST
    assert world.ignored() == {"worker_out_of_date": 3}


def test_a_worker_that_came_back_before_the_verdict_is_not_lost() -> None:
    world = here()
    one = running(world)
    world.given(suspected("w"))
    draft = world.draft()
    world.given(registered("w", held=(("t", 1),), pid=1))
    world.enact(draft)

    assert world.worker("w").status is WorkerStatus.ACTIVE
    assert world.ignored() == {"worker_came_back": 1}
    world.given(finished(one))
    assert world.status("t") is Status.PASSED


def test_a_worker_lost_while_its_assignment_was_not_accepted_is_decided_on_once() -> None:
    world = here().given(task("t"))
    only(world.assign())
    world.tick(11).given(suspected("w"))
    world.settle()

    assert world.task("t").reason is Reason.WORKER_LOST
    assert not world.cell.unaccepted
    assert not world.ignored()


# -- again ----------------------------------------------------------------------------------


def test_the_same_incarnation_keeps_what_it_holds_and_what_it_has_still_to_read() -> None:
    world = here(4)
    kept, dropped = running(world, "kept"), running(world, "dropped")
    world.given(task("unread"))
    only(world.assign())

    world.given(registered("w", machine(4), held=(("kept", 1),)))

    assert world.status("kept") is Status.RUNNING
    assert world.status("unread") is Status.ASSIGNED
    assert world.status("dropped") is Status.JUDGED
    assert world.task("dropped").reason is Reason.AGENT_CRASH
    assert world.worker("w").free.slots == 2
    world.given(finished(kept), finished(dropped))
    assert world.status("kept") is Status.PASSED
    assert world.ignored() == {"stale_attempt": 1}


def test_another_incarnation_keeps_nothing() -> None:
    world = here(2)
    running(world, "a")
    world.given(task("b"))
    only(world.assign())

    world.given(registered("w", machine(2), incarnation="i2"))

    assert [world.status(name) for name in "ab"] == [Status.JUDGED, Status.JUDGED]
    assert world.worker("w").free.slots == 2


def test_an_attempt_that_an_agent_holds_in_vain_is_stopped_once() -> None:
    world = here()
    running(world)
    world.given(suspected("w"))
    world.step()

    world.given(registered("w", held=(("t", 1), ("other", 7))))

    assert world.settle()[:2] == [stop("other", 7), stop("t", 1)]
    assert not world.cell.strays
    assert not world.ignored()


def test_an_agent_that_claims_the_attempt_of_another_is_told_to_stop_and_nothing_else() -> None:
    world = here()
    running(world)
    world.given(registered("v", held=(("t", 1),)))
    assert world.settle() == [stop("t", 1, "v")]

    assert world.status("t") is Status.RUNNING
    assert world.task("t").worker_id == "w"


def test_a_worker_that_comes_back_with_less_is_matched_anew() -> None:
    world = World().led().given(registered("w", machine(2, facts.cuda())))
    world.given(task("t"), task("g", requirements=Requirements(("cuda",))))
    assert "w" in world.task("g").demand.servers

    world.given(registered("w", machine(2)))

    assert "w" not in world.task("g").demand.servers
    assert "w" in world.task("t").demand.servers


def test_a_suspicion_ends_when_the_worker_registers() -> None:
    world = here().given(suspected("w"), registered("w"))

    assert not world.settle()
    assert world.worker("w").status is WorkerStatus.ACTIVE
    assert set(world.cell.free) == {"w"}


# -- draining -------------------------------------------------------------------------------


@pytest.mark.parametrize("fact", [DRAIN, WorkerDraining(WorkerId("w"), "i1")])
def test_a_draining_worker_finishes_what_it_has_and_gets_nothing_new(
    fact: WorkerDrainRequested,
) -> None:
    world = here(2)
    one = running(world)
    world.given(fact, task("u"))

    assert not world.assign()
    world.given(finished(one))
    assert world.status("t") is Status.PASSED
    assert world.status("u") is Status.QUEUED


def test_a_drain_holds_when_the_same_process_registers_again() -> None:
    world = here().given(DRAIN, registered("w", pid=1))

    assert world.worker("w").status is WorkerStatus.DRAINING
    world.given(suspected("w"))
    world.step()
    world.given(registered("w", pid=1))
    assert world.worker("w").status is WorkerStatus.DRAINING
    assert not world.cell.free


@pytest.mark.parametrize("change", [{"pid": 2}, {"incarnation": "i2"}])
def test_a_drain_ends_with_its_process(change: dict[str, object]) -> None:
    world = here().given(DRAIN, registered("w", **change))  # type: ignore[arg-type]

    assert world.worker("w").status is WorkerStatus.ACTIVE


def test_a_drain_of_an_unknown_worker_is_refused() -> None:
    world = World()
    world.record(DRAIN)

    assert world.to_refuse() == [RefusalCode.UNKNOWN_WORKER]


def test_a_drain_of_a_worker_that_is_gone_is_ignored() -> None:
    world = here().given(left("w"), DRAIN)

    assert world.ignored() == {"drain_of_gone_worker": 1}
    assert world.worker("w").status is WorkerStatus.LEFT


def test_a_draining_worker_that_falls_silent_is_lost() -> None:
    world = here()
    running(world)
    world.given(DRAIN, suspected("w"))
    world.settle()

    assert world.worker("w").status is WorkerStatus.LOST


def test_a_worker_that_drains_while_it_is_suspected_is_still_lost() -> None:
    world = here()
    one = running(world)
    world.given(suspected("w"), DRAIN, started(one))
    world.settle()

    assert world.worker("w").status is WorkerStatus.LOST


def test_a_drain_ends_when_the_worker_is_reinstated() -> None:
    world = here().given(DRAIN, WorkerReinstateRequested(WorkerId("w")), task("t"))

    assert world.worker("w").status is WorkerStatus.ACTIVE
    assert world.assign()
    world.given(registered("w", pid=1))
    assert world.worker("w").status is WorkerStatus.ACTIVE


def test_what_the_agent_itself_wants_no_operator_ends() -> None:
    stopping = WorkerDraining(WorkerId("w"), "i1")
    world = here().given(DRAIN, stopping, WorkerReinstateRequested(WorkerId("w")))

    assert world.worker("w").status is WorkerStatus.DRAINING
    assert not world.cell.free


def test_a_drain_of_one_that_leaves_by_itself_is_no_operators_to_end() -> None:
    stopping = WorkerDraining(WorkerId("w"), "i1")
    world = here().given(stopping, DRAIN, WorkerReinstateRequested(WorkerId("w")))

    assert world.worker("w").status is WorkerStatus.DRAINING


def test_a_worker_that_is_gone_stays_so_when_it_is_reinstated() -> None:
    world = here().given(DRAIN, left("w"), WorkerReinstateRequested(WorkerId("w")))

    assert world.worker("w").status is WorkerStatus.LEFT
    assert not world.cell.free


def test_a_reinstatement_ended_no_drain_by_older_rules() -> None:
    world = World(RULES[DRAIN_ENDS_RULES - 1]).led().given(registered("w", pid=1))
    world.given(DRAIN, WorkerReinstateRequested(WorkerId("w")))

    assert world.worker("w").status is WorkerStatus.DRAINING


# -- an agent that is gone and comes back ----------------------------------------------------


def gone(world: World) -> World:
    """Nobody answers for the worker: its agent has ended, or its machine has."""
    worker = world.worker("w")
    return world.given(WorkerSuspected(worker.id, worker.incarnation, "no_responders", 1.2))


def test_a_worker_whose_agent_is_gone_gets_no_work_and_keeps_its_attempts_for_a_while() -> None:
    world = World().led().given(registered("w", machine(2)))
    running(world)
    gone(world).given(task("other")).tick(REJOIN_S_MAX - 0.1).settle()

    assert world.worker("w").status is WorkerStatus.SUSPECTED
    assert world.status("t") is Status.RUNNING
    assert world.status("other") is Status.QUEUED


def test_an_agent_that_is_started_again_in_time_goes_on() -> None:
    world = World().led().given(registered("w", machine(2)))
    one = running(world)
    gone(world).tick(REJOIN_S_MAX - 0.1)
    world.given(registered("w", machine(2), held=((one.task_id, one.attempt),)))
    world.tick(60).settle()

    assert world.worker("w").status is WorkerStatus.ACTIVE
    assert world.status("t") is Status.RUNNING


def test_one_that_does_not_come_back_is_lost_when_its_time_is_over() -> None:
    world = World().led().given(registered("w", machine(2)))
    running(world)
    gone(world)
    assert world.cell.next_timer_at() == world.now + REJOIN_S_MAX
    world.tick(REJOIN_S_MAX).settle()

    assert world.worker("w").status is WorkerStatus.LOST
    assert world.cell.next_timer_at() != world.now


def test_who_was_suspected_twice_has_no_more_time() -> None:
    world = World().led().given(registered("w"))
    gone(world).tick(REJOIN_S_MAX - 0.1)
    gone(world).tick(0.1).settle()

    assert world.worker("w").status is WorkerStatus.LOST


def test_a_gone_worker_that_is_then_silent_is_lost_at_once() -> None:
    world = World().led().given(registered("w"))
    gone(world).given(facts.suspected("w")).settle()

    assert world.worker("w").status is WorkerStatus.LOST


def test_a_device_that_is_gone_when_its_attempt_ends_is_not_given_back() -> None:
    large = machine(2, facts.cuda(0), facts.cuda(1))
    world = World().led().given(registered("w", large))
    running(world, requirements=Requirements(("cuda",)), resources=Resources(devices=2))
    small = machine(2, facts.cuda(0))
    world.given(registered("w", small, held=(("t", 1),)), left("w"))

    assert world.worker("w").free.devices == {"cuda": ("cuda:0",)}
