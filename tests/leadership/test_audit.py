"""The audit: silent about a sound journal, and not about one in which something was planted."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from dtest.errors import SequenceGap
from dtest.events import codec
from dtest.events.attempt import AttemptAssigned, AttemptReturned
from dtest.events.catalogue import Payload
from dtest.events.envelope import Correlation, Event
from dtest.events.fields import EventId, TaskId, WorkerId
from dtest.events.leader import EventRefused, LeaderElected
from dtest.events.reasons import Reason, RefusalCode
from dtest.events.task import Requirements, TaskEnded
from dtest.journal.port import Stored
from dtest.leadership.audit import TEXTS_MAX, Report, verify
from tests.kit import facts
from tests.kit.facts import cuda, finished, left, machine, refused, registered, started, task
from tests.kit.recording import Recording
from tests.kit.world import World, only, running


async def audited(world: World) -> Report:
    return await verify(Recording(world.journal), facts.CELL)


def plant(world: World, fact: Payload, *, correlation: str | None = None) -> None:
    """Write a fact into the scheduler's name, as nobody but a thief of its rights could."""
    event = Event(EventId(world.new_id()), facts.source(fact), world.now, fact, correlation)
    world.write(facts.where(fact), codec.encode([event]))


def eventful() -> World:
    """A history in which everything happens that may happen."""
    world = World().led()
    world.given(registered("w", machine(2, cuda())), registered("v"))
    world.record(task("a"), task("b", after=("a",)), task("c", after=("b",)), task("d"), task("e"))
    world.given(task("gpu", requirements=Requirements(("cuda",))))
    for one in world.assign():
        match one.task_id:
            case "a":
                world.given(started(one), finished(one, "failed"))
            case "d":
                world.given(refused(one))
            case "e":
                world.given(started(one), facts.checkpointed(one), facts.released(one))
            case _:
                world.given(started(one), finished(one))
    world.settle()
    world.tick(1).settle()
    world.tick(11).settle()
    world.given(left("w"))
    world.settle()
    world.tick(5).settle()
    return world


async def test_a_sound_journal_has_no_violation_and_is_counted() -> None:
    report = await audited(eventful())

    assert report.violations == []
    assert report.tasks_accepted == 6
    assert report.tasks_terminal == report.tasks_accepted - report.tasks_open
    assert report.epochs == 1
    assert report.attempts >= 4
    assert report.messages == report.last_seq


async def test_an_assignment_without_the_checkpoint_that_it_is_due_is_a_violation() -> None:
    world = World().led().given(registered("w"))
    one = running(world)
    world.given(facts.checkpointed(one), facts.released(one))
    two = only(world.assign())
    sound = await audited(world)
    robbed = replace(two, checkpoint=None)
    ours, theirs = (codec.encode([world.event(data, "x")]) for data in (two, robbed))
    assert sound.violations == []
    assert two.checkpoint is not None
    assert ours != theirs

    stored = world.journal[-1]
    events = stored.record().events
    event = events[-1]
    assert isinstance(event, Event)
    assert event.data == two
    world.journal[-1] = replace(stored, payload=codec.encode([replace(event, data=robbed)]))
    report = await audited(world)

    assert report.violations != []


async def test_an_empty_journal_is_sound() -> None:
    report = await verify(Recording([]), facts.CELL)

    assert report.violations == []
    assert report.messages == 0


async def test_late_reports_are_counted_and_no_violation() -> None:
    world = World().led().given(registered("w"))
    one = running(world)
    world.given(finished(one), finished(one))
    report = await audited(world)

    assert (report.late_reports, report.violations) == (1, [])


# -- what may happen between a decision and its record --------------------------------------


async def test_an_assignment_to_a_worker_that_left_meanwhile_is_void_and_no_second_attempt() -> (
    None
):
    world = World().led().given(registered("w"), task("t"))
    draft = world.draft()
    world.given(left("w"))
    world.enact(draft)
    world.given(registered("v"))
    world.given(finished(only(world.assign())))
    report = await audited(world)

    assert (report.violations, report.attempts) == ([], 2)


async def test_a_return_that_comes_after_the_start_leaves_the_attempt_live() -> None:
    world = World().led().given(registered("w"), task("t"))
    one = only(world.assign())
    draft = world.tick(11).draft()
    world.given(started(one))
    world.enact(draft)
    world.given(finished(one))
    report = await audited(world)

    assert (report.violations, report.late_reports) == ([], 0)


async def test_a_worker_that_came_back_keeps_its_attempt_live() -> None:
    world = World().led().given(registered("w"))
    one = running(world)
    world.given(facts.suspected("w"))
    draft = world.draft()
    world.given(registered("w", held=(("t", 1),)))
    world.enact(draft)
    world.given(finished(one))
    report = await audited(world)

    assert (report.violations, report.late_reports) == ([], 0)


async def test_the_end_of_a_decision_may_be_missing_where_its_leader_died() -> None:
    world = World().led().given(registered("w"), registered("v"))
    world.record(task("a"), task("b"))
    world.enact(world.draft()[:1])
    world.given(LeaderElected("next"))
    world.settle()
    report = await audited(world)

    assert (report.violations, report.decisions_partial) == ([], 1)


async def test_an_end_that_is_missing_elsewhere_is_a_violation() -> None:
    world = World().led().given(registered("w"), registered("v"))
    world.record(task("a"), task("b"))
    world.enact(world.draft()[:1])
    world.settle()
    report = await audited(world)

    assert any("1 fewer" in text for text in report.violations)


async def test_what_a_client_claims_to_belong_to_a_decision_belongs_to_none() -> None:
    world = World().led().given(registered("w"))
    event = replace(world.event(task("t")), correlation="1.2")
    world.write(facts.where(event.data), codec.encode([event]))
    world.settle()

    assert (await audited(world)).violations == []


# -- planted --------------------------------------------------------------------------------


def gpu_task(world: World) -> AttemptAssigned:
    world.given(registered("plain"), task("t", requirements=Requirements(("cuda",))))
    return AttemptAssigned(
        TaskId("t"), 1, WorkerId("plain"), "i1", "cuda", "command", devices=("cuda:0",)
    )


def small_gpu(world: World) -> AttemptAssigned:
    world.given(registered("plain", machine(1, cuda(0, 8.0), cuda(1, 80.0))))
    world.given(task("t", requirements=Requirements(("cuda",), min_device_memory_gb=40)))
    return AttemptAssigned(
        TaskId("t"), 1, WorkerId("plain"), "i1", "cuda", "command", devices=("cuda:0",)
    )


def second_attempt(world: World) -> AttemptAssigned:
    world.given(registered("w"), registered("v"))
    one = running(world)
    return replace(one, attempt=2, worker_id=WorkerId("v"))


def nobody(world: World) -> AttemptAssigned:
    world.given(task("t"))
    return AttemptAssigned(TaskId("t"), 1, WorkerId("nobody"), "i1", "cpu", "command")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (gpu_task, "has no cuda"),
        (small_gpu, "does not meet the requirements"),
        (second_attempt, "attempt 1 is live"),
        (nobody, "unknown task or worker"),
    ],
)
@pytest.mark.parametrize("claimed", ["no decision", "a decision", "one of its own"])
async def test_a_planted_assignment_is_found(
    make: Callable[[World], AttemptAssigned], text: str, claimed: str
) -> None:
    world = World().led()
    fact = make(world)
    correlation = {
        "no decision": None,
        "a decision": str(Correlation(world.cell.epoch, world.cell.seq - 1)),
        "one of its own": str(Correlation(world.cell.epoch, world.cell.seq)),
    }[claimed]
    plant(world, fact, correlation=correlation)
    report = await audited(world)

    assert any(text in found for found in report.violations), report.violations
    assert len(report.violations) > 1


EXTRA: list[Payload] = [
    TaskEnded(TaskId("t"), "cancelled", Reason.CANCELLED_USER),
    AttemptReturned(TaskId("t"), 1, WorkerId("w")),
    facts.lost("w"),
    EventRefused(2, 0, RefusalCode.NOT_JSON, "", "x"),
]


@pytest.mark.parametrize("extra", EXTRA, ids=lambda fact: fact.TYPE)
@pytest.mark.parametrize(
    "correlation",
    [
        pytest.param(None, id="of no decision"),
        pytest.param("nonsense", id="of nonsense"),
        pytest.param("1.3", id="of a real decision"),
        pytest.param("1.4", id="of a decision that was not made"),
        pytest.param("1.999", id="of a decision in the future"),
        pytest.param("7.3", id="of an epoch that never was"),
    ],
)
async def test_a_forged_decision_is_found(extra: Payload, correlation: str | None) -> None:
    world = World().led().given(registered("w"), task("t"))
    world.settle()
    assert (await audited(world)).violations == []

    plant(world, extra, correlation=correlation)

    assert (await audited(world)).violations != []


async def test_what_a_deposed_leader_wrote_is_found() -> None:
    world = World().led().given(registered("w"), task("t"))
    draft = world.draft()
    world.given(LeaderElected("next"))
    world.enact(draft)

    report = await audited(world)

    assert any("which ended" in text for text in report.violations)


@pytest.mark.parametrize("place", ["first", "middle"])
async def test_a_message_that_is_missing_is_found(place: str) -> None:
    world = eventful()
    missing = {"first": 0, "middle": len(world.journal) // 2}[place]
    rest = [item for n, item in enumerate(world.journal) if n != missing]

    report = await verify(Recording(rest), facts.CELL)

    assert f"sequence {missing + 1} is missing" in report.violations
    if place == "middle":
        assert "1 messages are missing" in report.violations


class Torn(Recording):
    """Does what a reader of JetStream does at a gap."""

    async def _feed(self, after: int, subject: str | None) -> AsyncIterator[list[Stored]]:
        yield self._stored[after:2]
        message = "message 3 is missing"
        raise SequenceGap(message)


async def test_a_gap_at_which_the_reader_stops_is_a_violation() -> None:
    report = await verify(Torn(eventful().journal), facts.CELL)

    assert "message 3 is missing" in report.violations


async def test_violations_are_bounded() -> None:
    world = World().led().given(task("t"))
    for _ in range(2 * TEXTS_MAX):
        plant(world, EXTRA[0])

    assert len((await audited(world)).violations) == TEXTS_MAX


async def test_two_results_of_one_task_are_found() -> None:
    world = World().led().given(registered("w"))
    one = running(world)
    world.given(finished(one))
    plant(world, replace(one, attempt=2))
    world.given(finished(replace(one, attempt=2)))

    assert any("passed 2 times" in text for text in (await audited(world)).violations)
