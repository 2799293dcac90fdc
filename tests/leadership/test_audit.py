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
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason, RefusalCode
from dtest.events.task import Requirements, TaskEnded
from dtest.events.worker import Capability
from dtest.journal.port import Stored
from dtest.leadership.audit import TEXTS_MAX, Report, verify
from dtest.leadership.decision import Parts, decide
from dtest.leadership.rules import CURRENT, RULES, Rules
from dtest.state.cell import Cell
from dtest.state.term import UNRECORDED_RULES
from tests.kit import facts
from tests.kit.facts import cuda, finished, left, machine, refused, registered, started, task
from tests.kit.recording import Recording
from tests.kit.stage import Stage
from tests.kit.world import World, assignments, only, rules, running


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


# -- versions of the rules ------------------------------------------------------------------


def patient(cell: Cell, now: float) -> Parts:
    """Rules of another version: each attempt has more grace than its task states."""
    return {
        place: [
            replace(fact, grace_seconds=99.0) if isinstance(fact, AttemptAssigned) else fact
            for fact in content
        ]
        for place, content in decide(cell, now).items()
    }


OTHER = replace(CURRENT, version=CURRENT.version + 1, decide=patient)


def led_by(version: Rules, *, then: tuple[Payload, ...] = ()) -> World:
    """A journal of some decisions by these rules."""
    world = World(version).led().given(registered("w", machine(3)), *then)
    for names in ("abc", "d", "e"):
        world.record(*(task(name) for name in names))
        for one in assignments(world.settle()):
            world.given(started(one), finished(one))
        world.tick(1.0)
    return world


async def test_a_decision_is_made_again_by_the_rules_of_its_term() -> None:
    world = led_by(OTHER)

    report = await verify(
        Recording(world.journal), facts.CELL, rules={**RULES, OTHER.version: OTHER}
    )
    assert (report.verdict, report.decisions_again) == ("all holds", report.decisions)
    assert report.terms == {f"rules {OTHER.version}": 1}

    same = replace(OTHER, decide=decide)
    mistaken = {**RULES, OTHER.version: same}
    report = await verify(Recording(world.journal), facts.CELL, rules=mistaken)
    assert report.violations != []


async def test_a_journal_of_newer_rules_is_no_violation_and_says_what_was_not_decided_again() -> (
    None
):
    report = await audited(led_by(OTHER))

    assert (report.violations, report.doubts) == ([], [])
    assert report.decisions_again == 0
    assert sum(report.decisions_not_again.values()) == report.decisions > 1
    (why,) = report.decisions_not_again
    assert why == f"rules {OTHER.version}, newer than this version knows"
    assert report.verdict.endswith(f"{report.decisions} decisions were not decided again")
    assert any("only their facts were checked" in text for text in report.trusted)


async def test_a_journal_of_rules_that_are_not_kept_any_more_is_checked_in_its_facts() -> None:
    kept = {OTHER.version: OTHER}
    world = led_by(CURRENT)
    report = await verify(Recording(world.journal), facts.CELL, rules=kept)
    assert (report.violations, report.doubts, report.decisions_again) == ([], [], 0)
    assert list(report.decisions_not_again) == [
        f"rules {CURRENT.version}, older than this version keeps"
    ]

    twice = replace(only_assigned(world), attempt=2)
    plant(world, twice, correlation=str(Correlation(world.cell.epoch, world.cell.seq)))
    report = await verify(Recording(world.journal), facts.CELL, rules=kept)
    assert any("the task is passed" in text for text in report.violations)


def only_assigned(world: World) -> AttemptAssigned:
    found = [
        event.data
        for record in world.history
        for event in record.events
        if isinstance(event, Event) and isinstance(event.data, AttemptAssigned)
    ]
    return found[0]


async def test_what_newer_rules_wrote_and_this_version_may_misread_is_a_doubt() -> None:
    world = led_by(OTHER)
    twice = replace(only_assigned(world), attempt=2)
    plant(world, twice, correlation=str(Correlation(world.cell.epoch, world.cell.seq)))
    report = await audited(world)

    assert report.violations == []
    assert any("the task is passed" in text for text in report.doubts)
    assert report.verdict == "it cannot be told whether the journal holds"


async def test_an_older_leader_after_newer_rules_is_checked_in_its_facts() -> None:
    world = led_by(CURRENT, then=(PolicyChanged(parameters={"ageing_s_per_level": 5.0}),))
    world.given(LeaderElected("older"))
    world.rules = RULES[UNRECORDED_RULES]
    world.given(task("late"))
    world.settle()
    report = await audited(world)

    assert (report.violations, report.doubts) == ([], [])
    assert report.decisions_again == report.decisions - 1
    (why,) = report.decisions_not_again
    assert why == f"unrecorded rules, after rules {CURRENT.version} that its leader may not know"


async def test_terms_that_recorded_no_rules_are_decided_again_and_differences_are_doubts() -> None:
    world = led_by(replace(OTHER, version=UNRECORDED_RULES))
    report = await audited(world)
    assert report.violations == []
    assert len(report.doubts) > 0
    assert all("by the last rules that were not recorded" in text for text in report.doubts)

    trusting = await verify(Recording(world.journal), facts.CELL, unrecorded="trust")
    assert (trusting.violations, trusting.doubts, trusting.decisions_again) == ([], [], 0)
    assert sum(trusting.decisions_not_again.values()) == trusting.decisions

    report = await audited(led_by(RULES[UNRECORDED_RULES]))
    assert (report.verdict, report.decisions_again) == ("all holds", report.decisions)
    assert any("without recorded rules" in text for text in report.trusted)


async def test_the_parameters_that_a_term_recorded_are_those_it_is_held_to() -> None:
    honest = led_by(rules(assignments_max=1))
    assert (await audited(honest)).verdict == "all holds"

    liar = led_by(replace(CURRENT, decide=sparing))
    assert liar.cell.parameters == CURRENT.parameters
    assert (await audited(liar)).violations != []


def sparing(cell: Cell, now: float) -> Parts:
    """Decide by another number than the one that is in force."""
    in_force = cell.parameters
    cell.parameters = replace(in_force, assignments_max=1)
    try:
        return decide(cell, now)
    finally:
        cell.parameters = in_force


async def test_a_recorded_parameter_that_was_changed_afterwards_is_found() -> None:
    world = led_by(CURRENT)
    rewritten(world, LeaderElected, {"assignments_max": 2})

    assert (await audited(world)).violations != []


def rewritten(
    world: World, kind: type[LeaderElected | PolicyChanged], change: dict[str, int | float]
) -> None:
    """Write other parameters into a fact of the journal."""
    for place, stored in enumerate(world.journal):
        for event in stored.record().events:
            if not isinstance(event, Event) or not isinstance(event.data, kind):
                continue
            data = replace(event.data, parameters=event.data.parameters | change)
            payload = codec.encode([replace(event, data=data)])
            world.journal[place] = replace(stored, payload=payload)


async def test_a_choice_that_was_changed_afterwards_is_found() -> None:
    limit = PolicyChanged(parameters={"assignments_max": 1})
    world = led_by(CURRENT, then=(limit,))
    report = await audited(world)
    assert report.verdict == "all holds"
    (told,) = report.policy_changes
    assert "assignments_max = 1 by /dtest/main/client/tester" in told

    rewritten(world, PolicyChanged, {"assignments_max": 2})
    assert (await audited(world)).violations != []


# -- what time alone brings up ----------------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [0.0, 0.005, 30.0])
async def test_a_leader_whose_clock_is_behind_the_journals_decides_what_the_audit_decides(
    ahead_s: float,
) -> None:
    stage = Stage(ahead_s=ahead_s)
    clock = stage.clock
    async with stage.led() as leader:
        await stage.say(registered("w"))
        await stage.say(task("t"))
        await stage.quiet()
        (one,) = await stage.assigned()
        await stage.say(finished(one, "faulted", Reason.DNS, clock.now()))
        await stage.quiet()
        clock.at = leader.cell.tasks[TaskId("t")].not_before - ahead_s / 2
        await stage.say(task("other", requirements=Requirements(labels={"x": "y"})))
        await stage.quiet()
    report = await verify(stage.journal, facts.CELL)

    assert report.verdict == "all holds"


async def test_which_rulings_a_decision_holds_does_not_depend_on_when_time_passed() -> None:
    world = World(rules(rulings_max=1)).led()
    world.given(task("x", deadline=facts.instant(world.now + 100)))
    world.settle()
    world.tick(100.5).given(registered("w"))
    world.given(task("a", deadline=facts.instant(world.now - 50)))
    world.settle()

    assert (await audited(world)).verdict == "all holds"


async def test_nothing_is_assigned_beside_a_part_of_the_rulings() -> None:
    world = World(rules(rulings_max=1)).led().given(registered("w", machine(4)))
    world.record(*(task(f"t{n}", deadline=facts.instant(world.now + 1)) for n in range(2)))
    world.tick(2.0).given(task("late"))

    types = [[fact.TYPE for fact in world.step()] for _ in range(3)]
    assert types == [["task.ended"], ["task.ended", "attempt.assigned"], []]


# -- messages of several events ---------------------------------------------------------------


async def test_more_than_a_worker_has_in_one_message_is_found() -> None:
    world = World(OTHER).led().given(registered("w"))
    world.record(task("a"), task("b"), task("c"))
    correlation = str(Correlation(world.cell.epoch, world.cell.seq))
    assigned = [
        AttemptAssigned(TaskId(name), 1, WorkerId("w"), "i1", "cpu", "command") for name in "abc"
    ]
    events = [replace(world.event(fact), correlation=correlation) for fact in assigned]
    world.write(facts.where(assigned[0]), codec.encode(events))
    report = await verify(Recording(world.journal), facts.CELL, rules={OTHER.version + 1: CURRENT})

    assert sum("w has no room for it" in text for text in report.violations) == 2


async def test_a_task_that_one_message_ends_twice_is_found() -> None:
    world = World(OTHER).led().given(task("a"))
    correlation = str(Correlation(world.cell.epoch, world.cell.seq))
    end = TaskEnded(TaskId("a"), "cancelled", Reason.CANCELLED_USER)
    events = [replace(world.event(end), correlation=correlation) for _ in range(2)]
    world.write(facts.where(end), codec.encode(events))
    report = await verify(Recording(world.journal), facts.CELL, rules={OTHER.version + 1: CURRENT})

    assert any("the same message ended it before" in text for text in report.violations)


async def test_a_decision_from_before_its_leader_was_elected_is_found() -> None:
    world = World().led().given(registered("w"), task("t"))
    plant(world, TaskEnded(TaskId("t"), "cancelled", Reason.CANCELLED_USER), correlation="1.0")
    report = await audited(world)

    assert any("before the election of its leader" in text for text in report.violations)


async def test_what_newer_rules_write_of_an_earlier_basis_is_a_doubt() -> None:
    world = World(OTHER).led().given(registered("w"), task("t"))
    plant(world, TaskEnded(TaskId("t"), "cancelled", Reason.CANCELLED_USER), correlation="1.0")
    report = await audited(world)

    assert report.violations == []
    assert any("before the election of its leader" in text for text in report.doubts)


# -- what may be worded otherwise, or be otherwise, by the time it is recorded ----------------


async def test_a_refusal_may_be_worded_otherwise_but_not_be_another() -> None:
    world = World().led()
    world.write(facts.where(task("t")), b"no JSON")
    world.settle()
    place, stored = len(world.journal) - 1, world.journal[-1]
    (event,) = stored.record().events
    assert isinstance(event, Event)
    assert isinstance(event.data, EventRefused)

    for change, holds in (
        ({"detail": "as another library says it"}, True),
        ({"code": RefusalCode.TOO_LARGE}, False),
    ):
        fact = replace(event.data, **change)
        payload = codec.encode([replace(event, data=fact)])
        world.journal[place] = replace(stored, payload=payload)
        assert ((await audited(world)).violations == []) is holds


@pytest.mark.parametrize(
    ("before", "after", "wants"),
    [
        (machine(1, cuda(0)), machine(1), Requirements(("cuda",))),
        (machine(1, memory_gb=64.0), machine(1, memory_gb=63.0), Requirements(min_memory_gb=63.9)),
    ],
)
async def test_a_worker_that_comes_back_with_less_meanwhile_is_no_violation(
    before: Capability, after: Capability, wants: Requirements
) -> None:
    world = World().led().given(registered("w", before), task("t", requirements=wants))
    draft = world.draft()
    world.given(registered("w", after))
    world.enact(draft)

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
