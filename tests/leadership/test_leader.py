"""A leader: elected by the journal, one decision at a time, deposed by the next one's election."""

import asyncio
from collections.abc import Sequence

import pytest

from dtest.errors import JournalFull
from dtest.events import codec, subject
from dtest.events.attempt import AttemptAssigned, AttemptReturned
from dtest.events.envelope import Correlation, Event
from dtest.events.fields import EventId, RunId, WorkerId
from dtest.events.leader import EventRefused, LeaderElected
from dtest.events.run import RunOpened
from dtest.events.worker import WorkerLost
from dtest.journal import patient
from dtest.journal.memory import MemoryJournal
from dtest.journal.patient import PatientJournal
from dtest.journal.port import BATCH_MESSAGES_MAX, Appended, Guard, GuardRefused, Outgoing
from dtest.leadership.audit import verify
from dtest.leadership.leader import CYCLE_S_MAX, SINGLES_MAX, Deposed
from dtest.leadership.rules import CURRENT, elected
from tests.kit import facts
from tests.kit.facts import finished, machine, registered, started, suspected, task
from tests.kit.nats import eventually
from tests.kit.stage import Stage, lead

ACCEPT_S_MAX = CURRENT.parameters.accept_s_max

TICK = RunOpened(RunId("tick"))
"""Says nothing that matters, and makes the leader look."""


async def sound(stage: Stage) -> None:
    report = await verify(stage.journal, facts.CELL)
    assert report.violations == []


async def test_a_leader_is_who_wrote_the_last_election_and_its_epoch_is_that_messages_number() -> (
    None
):
    stage = Stage()
    await stage.say(task("t"))
    async with stage.led() as leader:
        assert leader.leading.is_set()
        assert leader.cell.epoch == 2

    (written,) = await stage.written(LeaderElected)
    assert written == elected(facts.LEADER, 0, "here", "0")


async def test_a_leader_folds_what_was_there_before_it_decides() -> None:
    stage = Stage()
    await stage.say(registered("w"))
    await stage.say(task("a"), task("b"))
    async with stage.led():
        (one,) = await stage.assigned()

    assert (one.task_id, one.worker_id) == ("a", "w")
    await sound(stage)


async def test_a_task_goes_its_way_through_a_real_leader() -> None:
    stage = Stage()
    async with stage.led() as leader:
        await stage.say(registered("w"))
        await stage.say(task("t"))
        await stage.quiet()
        (one,) = await stage.assigned()
        await stage.say(started(one))
        await stage.say(finished(one))
        await stage.quiet()
        assert leader.cell.tasks[one.task_id].status == "passed"
        assert leader.decisions == 1

    await sound(stage)


async def test_a_leader_with_nothing_to_decide_writes_nothing() -> None:
    stage = Stage()
    async with stage.led() as leader:
        await stage.say(registered("w"))
        await stage.say(TICK)
        await stage.quiet()
        assert leader.decisions == 0

    assert (await stage.journal.bounds()).last == 3


async def test_time_that_passes_is_decided_upon() -> None:
    stage = Stage()
    async with stage.led():
        await stage.say(registered("w"))
        await stage.say(task("t"))
        await stage.quiet()
        for _ in range(int(ACCEPT_S_MAX) + 1):
            stage.clock.at += 1.0
            await stage.say(TICK)
            await stage.quiet()

    assert len(await stage.written(AttemptReturned)) == 1
    await sound(stage)


async def test_a_timer_that_is_due_needs_no_message_to_be_looked_at() -> None:
    stage = Stage()
    async with stage.led():
        await stage.say(task("t", wait_limit_seconds=0.02))
        await stage.quiet()
        stage.clock.at += 0.02
        async with stage.journal.follow(2) as feed:
            await anext(aiter(feed))

    assert (await stage.journal.bounds()).last == 3
    await sound(stage)


async def test_a_message_that_is_not_understood_is_refused_once() -> None:
    stage = Stage()
    await stage.journal.append(Outgoing("dtest.main.client.c.task.queued", b"{", "x"))
    async with stage.led():
        await stage.say(TICK)

    assert len(await stage.written(EventRefused)) == 1
    await sound(stage)


async def test_every_decision_names_its_epoch_its_basis_and_its_instant() -> None:
    stage = Stage()
    async with stage.led():
        stage.clock.at += 1.5
        await stage.say(registered("w"))
        await stage.say(task("t"))
        await stage.quiet()
    (event,) = [
        event
        for record in await stage.records()
        for event in record.events
        if isinstance(event, Event) and isinstance(event.data, AttemptAssigned)
    ]

    assert Correlation.parse(event.correlation) == Correlation(1, 3)
    assert event.time == facts.START + 1.5


# -- the form of a decision -----------------------------------------------------------------


class Counting(MemoryJournal):
    """Counts how messages come."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: facts.START)
        self.singles = 0
        self.batches: list[int] = []

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        self.singles += guard is not None
        return await super().append(message, guard=guard)

    async def append_batch(
        self, messages: Sequence[Outgoing], *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        self.batches.append(len(messages))
        return await super().append_batch(messages, guard=guard)


@pytest.mark.parametrize(
    ("workers", "singles", "batches"),
    [
        (1, 1, []),
        (SINGLES_MAX, SINGLES_MAX, []),
        (SINGLES_MAX + 1, 0, [SINGLES_MAX + 1]),
        (BATCH_MESSAGES_MAX, 0, [BATCH_MESSAGES_MAX]),
        (BATCH_MESSAGES_MAX + 1, 1, [BATCH_MESSAGES_MAX]),
        (BATCH_MESSAGES_MAX + 5, 0, [BATCH_MESSAGES_MAX, 5]),
    ],
)
async def test_a_small_decision_goes_out_singly_and_a_large_one_in_atomic_batches(
    workers: int, singles: int, batches: list[int]
) -> None:
    journal = Counting()
    stage = Stage(journal)
    for n in range(workers):
        await stage.say(registered(f"w{n}"))
    for start in range(0, workers, 1_000):
        await stage.say(*(task(f"t{n}") for n in range(start, min(workers, start + 1_000))))
    async with stage.led():
        await stage.quiet()

    assert len(await stage.assigned()) == workers
    assert (journal.singles - 1, journal.batches) == (singles, batches)  # the election is single


async def test_assignments_to_one_worker_are_one_message() -> None:
    journal = Counting()
    stage = Stage(journal)
    await stage.say(registered("w", machine(500)))
    await stage.say(*(task(f"t{n}") for n in range(500)))
    async with stage.led():
        await stage.quiet()

    assert journal.singles - 1 == 1


class Slow(MemoryJournal):
    """Keeps guarded messages waiting until it is told."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: facts.START)
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        if guard is not None and not self.open.is_set():
            self.waiting += 1
            await self.open.wait()
            self.waiting -= 1
        return await super().append(message, guard=guard)


async def test_one_decision_is_in_flight_and_the_next_takes_up_all_that_came_meanwhile() -> None:
    journal = Slow()
    stage = Stage(journal)
    async with stage.led() as leader:
        await stage.say(registered("w", machine(100)))
        journal.open.clear()
        await stage.say(task("first"))
        await stage.quiet()
        for n in range(10):
            await stage.say(task(f"t{n}"))
            await stage.quiet()
        assert journal.waiting == 1
        journal.open.set()
        await stage.quiet()
        assert leader.decisions == 2

    assert len(await stage.assigned()) == 11
    await sound(stage)


# -- more than one --------------------------------------------------------------------------


async def test_a_deposed_leader_stores_nothing_and_steps_down() -> None:
    stage = Stage()
    await stage.say(registered("w"))
    with pytest.RaisesGroup(Deposed, flatten_subgroups=True):
        async with stage.led("old"):
            await stage.say(LeaderElected("new", 2))
            await stage.say(task("t"))
            await stage.quiet()

    assert await stage.assigned() == []


async def test_the_next_leader_takes_over_where_the_last_one_stopped() -> None:
    stage = Stage()
    await stage.say(registered("w", machine(2)))
    with pytest.RaisesGroup(Deposed, flatten_subgroups=True):
        async with stage.led("old") as old:
            await stage.say(task("a"))
            await stage.quiet()
            async with stage.led("new") as new:
                await stage.say(task("b"))
                await stage.quiet()
                (a, b) = await stage.assigned()
                assert (a.task_id, b.task_id) == ("a", "b")
                await stage.say(finished(a))
                await stage.say(finished(b))
                await stage.quiet()
                assert new.cell.epoch > 2
                assert old.cell.seq == new.cell.seq

    (first, second) = await stage.written(LeaderElected)
    assert (first, second) == (
        elected("old", 0, "here", "0"),
        elected("new", 2, "here", "0"),
    )
    await sound(stage)


async def test_of_many_candidates_the_last_elected_leads_and_each_task_is_assigned_once() -> None:
    stage = Stage()
    await stage.say(registered("w", machine(50)))
    leaders = [stage.leader(f"l{n}") for n in range(5)]
    running = [asyncio.ensure_future(lead(leader)) for leader in leaders]
    await stage.quiet()
    await stage.say(*(task(f"t{n}") for n in range(30)))
    await stage.quiet()

    assigned = await stage.assigned()
    assert len({one.task_id for one in assigned}) == len(assigned) == 30
    await sound(stage)
    for one in running:
        one.cancel()
    ends = await asyncio.gather(*running, return_exceptions=True)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ends) == 1


async def test_what_the_detector_saw_is_recorded_and_fenced() -> None:
    stage = Stage()
    async with stage.led() as leader:
        await stage.say(registered("w"))
        await leader.observe(suspected("w"))
        await stage.quiet()
        assert leader.cell.workers[WorkerId("w")].status == "lost"
    assert len(await stage.written(WorkerLost)) == 1

    await stage.say(LeaderElected("new", 1))
    with pytest.raises(Deposed):
        await leader.observe(suspected("w"))
    await sound(stage)


async def test_a_leader_that_has_nothing_to_say_learns_of_its_successor_all_the_same() -> None:
    stage = Stage()
    with pytest.RaisesGroup(pytest.RaisesExc(Deposed, match="new leads since 2")):
        async with stage.led("old"):
            await stage.say(LeaderElected("new", 1))
            await stage.quiet()


async def test_a_leader_whose_decision_is_not_stored_in_time_does_not_cycle() -> None:
    journal = Slow()
    stage = Stage(journal)
    async with stage.led() as leader:
        await stage.say(registered("w"))
        journal.open.clear()
        await stage.say(task("t"))
        await stage.quiet()
        seen = [leader.is_cycling]
        stage.clock.at += CYCLE_S_MAX + 0.1
        seen.append(leader.is_cycling)
        journal.open.set()
        await stage.quiet()
        seen.append(leader.is_cycling)

    assert seen == [True, False, True]


REFUSALS = 5
"""So many half cycles make more than a leader may take for one decision."""


class Cistern(MemoryJournal):
    """A journal that is full while a test says so."""

    full = False

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        if self.full and guard is not None:
            raise JournalFull("full")
        return await super().append(message, guard=guard)


async def test_a_leader_that_waits_for_room_goes_on_leading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No standby could do better, so none takes over."""
    monkeypatch.setattr(patient, "AGAIN_S_MAX", 0.0)
    journal = Cistern(clock=lambda: facts.START)
    stage = Stage(journal)
    cycling: list[bool] = []

    def refused() -> None:
        leader.waits_for_room()
        cycling.append(leader.is_cycling)
        if len(cycling) < REFUSALS:
            stage.clock.at += CYCLE_S_MAX / 2

    leader = stage.leader()
    leader._journal = PatientJournal(journal, refused=refused)  # noqa: SLF001 - as its role does
    async with asyncio.TaskGroup() as group:
        running = group.create_task(lead(leader))
        await stage.say(registered("w"))
        await leader.leading.wait()
        journal.full = True
        await stage.say(task("t"))
        await eventually(lambda: len(cycling) >= REFUSALS)
        assert await stage.assigned() == []
        journal.full = False
        await eventually(lambda: leader.decisions == 1)
        running.cancel()

    assert all(cycling)
    assert [one.task_id for one in await stage.assigned()] == ["t"]
    await sound(stage)


class Contested(MemoryJournal):
    """Somebody else is quicker."""

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        if guard is not None:
            rival = Event(
                EventId(f"rival {guard.seq}"),
                codec.source(facts.CELL, "scheduler", "rival"),
                facts.START,
                LeaderElected("rival", guard.seq),
            )
            await super().append(
                Outgoing(subject.epoch(facts.CELL), codec.encode([rival]), rival.id)
            )
        return await super().append(message, guard=guard)


async def test_a_candidate_that_loses_its_election_gives_up() -> None:
    stage = Stage(Contested(clock=lambda: facts.START))

    with pytest.raises(Deposed, match="another was elected"):
        await lead(stage.leader())
