"""The agent over a journal in memory: registers, reads its work, beats, drains."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dtest.agents import agent as module
from dtest.agents import reporter as reporter_module
from dtest.agents.agent import Agent, AgentIdentity
from dtest.agents.reporter import Reporter
from dtest.errors import Unavailable
from dtest.events import codec, subject
from dtest.events.attempt import (
    AttemptAssigned,
    AttemptFinished,
    AttemptReleased,
    AttemptStopRequested,
)
from dtest.events.catalogue import Payload
from dtest.events.envelope import Event
from dtest.events.fields import EventId, TaskId
from dtest.events.reasons import Reason
from dtest.events.worker import HeldAttempt, WorkerDraining, WorkerLeft, WorkerRegistered
from dtest.journal.port import Outgoing
from dtest.runtime.ids import IdSource
from dtest.suites.session import SPEAKS
from tests.kit import facts
from tests.kit.agent import WORKER, FickleJournal
from tests.kit.nats import eventually

NEW_ID = IdSource()


class FakeLine:
    """Core NATS of one agent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.up = True
        self.answers: dict[str, Callable[[bytes], bytes]] = {}
        self.listeners: list[Callable[[], None]] = []

    async def send(self, subject: str, payload: bytes) -> None:
        if not self.up:
            raise TimeoutError("not connected")
        self.sent.append((subject, json.loads(payload)))

    async def serve(self, where: str, answer: Callable[[bytes], bytes]) -> None:
        self.answers[where] = answer

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(call)
        return lambda: self.listeners.remove(call)

    def ask(self, payload: bytes = b"") -> bytes:
        return self.answers[subject.ping(facts.CELL, WORKER)](payload)

    def reconnect(self) -> None:
        for call in self.listeners:
            call()


class FakeExecutor:
    """Holds what it is given until a test says that it ended."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.running: dict[tuple[str, int], AttemptAssigned] = {}
        self.started: list[AttemptAssigned] = []
        self.stopped: list[tuple[str, int, Reason]] = []
        self.may_leave = asyncio.Event()
        self.may_leave.set()

    def held(self) -> tuple[HeldAttempt, ...]:
        return tuple(HeldAttempt(TaskId(name), number) for name, number in sorted(self.running))

    def output_bytes_dropped(self) -> int:
        return 7

    def start(self, assigned: AttemptAssigned) -> None:
        self.started.append(assigned)
        self.running[assigned.task_id, assigned.attempt] = assigned

    def end(self, task: str, attempt: int = 1) -> None:
        assigned = self.running[task, attempt]
        self.reporter.tell(
            facts.finished(assigned), stored=lambda: self.running.__delitem__((task, attempt))
        )

    def stop(self, task_id: TaskId, attempt: int, reason: Reason) -> None:
        self.stopped.append((task_id, attempt, reason))

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def drain(self, grace_s: float) -> None:
        await self.may_leave.wait()


@dataclass
class FakePosition:
    """A position on a disk that a test can see."""

    seq: int | None = None
    saved: list[int] = field(default_factory=list)

    def load(self) -> int | None:
        return self.seq

    def save(self, seq: int) -> None:
        self.seq = seq
        self.saved.append(seq)


class Site:
    """An agent and all that it touches."""

    def __init__(self, journal: FickleJournal, position: FakePosition) -> None:
        self.journal = journal
        self.position = position
        self.line = FakeLine()
        self.reporter = Reporter(
            journal, cell=facts.CELL, worker_id=WORKER, now=time.time, new_id=NEW_ID
        )
        self.executor = FakeExecutor(self.reporter)
        identity = AgentIdentity(facts.CELL, WORKER, "i1", "host", 1, "0", simulated=False)
        self.agent = Agent(
            identity,
            facts.machine(2),
            journal=journal,
            line=self.line,
            reporter=self.reporter,
            executor=self.executor,
            position=position,
            now=time.time,
        )

    async def decide(self, *data: Payload) -> None:
        """The leader writes."""
        for fact in data:
            event = Event(EventId(NEW_ID()), facts.source(fact), time.time(), fact)
            await self.journal.append(Outgoing(facts.where(fact), codec.encode([event]), event.id))

    async def registrations(self, count: int) -> list[WorkerRegistered]:
        async def enough() -> bool:
            return len(await self.journal.facts(WorkerRegistered)) >= count

        await eventually(enough, what=f"{count} registrations")
        return await self.journal.facts(WorkerRegistered)


@asynccontextmanager
async def working(
    journal: FickleJournal | None = None,
    position: FakePosition | None = None,
    load: Callable[[], dict[str, float]] | None = None,
) -> AsyncIterator[Site]:
    site = Site(journal or FickleJournal(), position or FakePosition())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(site.agent.run(load))
        try:
            await site.agent.registered.wait()
            yield site
        finally:
            running.cancel()


def assigned(task: str = "t", attempt: int = 1, incarnation: str = "i1") -> AttemptAssigned:
    return AttemptAssigned(TaskId(task), attempt, WORKER, incarnation, "cpu", "command")


async def test_it_registers_and_takes_what_is_assigned_afterwards() -> None:
    journal = FickleJournal()
    early = Site(journal, FakePosition())
    await early.decide(assigned("before"))
    async with working(journal) as site:
        await site.decide(assigned("after"))
        await eventually(lambda: site.executor.started != [])

        (registered,) = await site.registrations(1)
        assert (registered.worker_id, registered.capability) == (
            WORKER,
            replace(facts.machine(2), labels=dict(SPEAKS)),
        )
        assert [each.task_id for each in site.executor.started] == ["after"]


async def test_a_restarted_agent_goes_on_reading_where_it_stood() -> None:
    journal, position = FickleJournal(), FakePosition()
    async with working(journal, position) as site:
        await site.decide(assigned("a"))
        await eventually(lambda: len(site.executor.started) == 1)
    await site.decide(assigned("b"))

    async with working(journal, position) as site:
        await eventually(lambda: len(site.executor.started) == 1)
        assert [each.task_id for each in site.executor.started] == ["b"]
        assert site.position.seq == 3


async def test_a_position_in_another_journal_counts_for_nothing() -> None:
    async with working(position=FakePosition(5_000)) as site:
        await site.decide(assigned("a"))
        await eventually(lambda: len(site.executor.started) == 1)

        assert site.position.saved == [1, 2]


async def test_work_for_an_incarnation_that_is_gone_is_not_taken() -> None:
    async with working() as site:
        await site.decide(assigned("old", incarnation="i0"), assigned("new"))
        await eventually(lambda: len(site.executor.started) == 1)

        assert site.executor.started[0].task_id == "new"


async def test_a_stop_is_passed_on_and_nonsense_is_not() -> None:
    async with working() as site:
        where = subject.work(facts.CELL, "cpu", WORKER)
        await site.journal.append(Outgoing(where, b"\xff no json", "x"))
        stop = AttemptStopRequested(TaskId("t"), 1, WORKER, Reason.CANCELLED_USER)
        await site.decide(stop)
        await eventually(lambda: site.executor.stopped == [("t", 1, Reason.CANCELLED_USER)])


async def test_after_a_reconnection_it_registers_again_with_what_it_holds() -> None:
    async with working() as site:
        await site.decide(assigned("a"))
        await eventually(lambda: len(site.executor.started) == 1)
        site.line.reconnect()
        second = (await site.registrations(2))[1]

        assert second.held == (HeldAttempt(TaskId("a"), 1),)
        assert second.incarnation == "i1"


async def test_it_registers_again_when_it_is_asked() -> None:
    async with working() as site:
        assert site.line.ask() == b"here"
        assert site.line.ask(b"register") == b"here"
        await site.registrations(2)


async def test_an_end_that_is_on_its_way_is_still_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the cell would give the attempt away, and refuse its result a moment later."""
    monkeypatch.setattr(reporter_module, "AGAIN_S", 0.01)
    async with working() as site:
        await site.decide(assigned("a"))
        await eventually(lambda: len(site.executor.started) == 1)
        site.journal.refusal = Unavailable("away")
        site.executor.end("a")
        await eventually(lambda: site.journal.attempts >= 4)
        site.line.reconnect()
        await asyncio.sleep(0)
        site.journal.refusal = None
        await site.registrations(2)
        await site.reporter.flush()

        held: set[TaskId] = set()
        for event in await site.journal.events():
            match event.data:
                case WorkerRegistered(held=now):
                    known, held = held, {item.task_id for item in now}
                    assert known <= held
                case AttemptAssigned() as given:
                    held.add(given.task_id)
                case AttemptFinished() as end:
                    held.remove(end.task_id)


async def test_a_journal_that_is_away_at_a_reconnection_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporter_module, "AGAIN_S", 0.01)
    async with working() as site:
        site.journal.refusal = Unavailable("away again")
        site.line.reconnect()
        await eventually(lambda: site.journal.attempts >= 3)
        site.journal.refusal = None

        await site.registrations(2)


async def test_it_beats_while_the_line_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_EVERY_S", 0.01)
    async with working() as site:
        await eventually(lambda: len(site.line.sent) >= 2)
        site.line.up = False
        before = len(site.line.sent)
        await asyncio.sleep(0)
        site.line.up = True
        await eventually(lambda: len(site.line.sent) > before)

        where, beat = site.line.sent[0]
        assert where == subject.beat(facts.CELL, WORKER)
        assert beat["worker_id"] == WORKER


async def test_telemetry_is_shed_before_facts_and_beats_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BEAT_EVERY_S", 0.005)
    monkeypatch.setattr(reporter_module, "PRESSED_S", 0.02)
    kept, beat = subject.telemetry(facts.CELL, WORKER), subject.beat(facts.CELL, WORKER)
    async with working(load=lambda: {"cpu_ratio": 0.5}) as site:

        def samples() -> list[dict[str, Any]]:
            return [body for where, body in site.line.sent if where == kept]

        await eventually(lambda: len(samples()) >= 2)
        assert samples()[0]["telemetry_shed"] == 0

        site.journal.flowing.clear()  # the broker is slow
        for name in "abc":
            site.executor.reporter.tell(facts.finished(assigned(name)))
        await eventually(lambda: site.reporter.is_pressed)
        sampled = len(samples())
        beats = len(site.line.sent) - sampled
        await eventually(lambda: len(site.line.sent) - len(samples()) >= beats + 5)
        assert len(samples()) == sampled, "none while facts wait"
        assert site.line.sent[-1][0] == beat

        site.journal.flowing.set()
        await eventually(lambda: len(samples()) > sampled)
        sample = samples()[-1]
        assert sample["telemetry_shed"] >= 5
        assert (sample["facts_waiting"], sample["output_dropped_bytes"]) == (0, 7)
        assert len(await site.journal.facts(AttemptFinished)) == 3


async def test_samples_for_a_broker_that_is_away_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BEAT_EVERY_S", 0.005)
    kept = subject.telemetry(facts.CELL, WORKER)
    asked: list[int] = []

    def load() -> dict[str, float]:
        asked.append(1)
        return {"cpu_ratio": 0.5}

    async with working(load=load) as site:
        await eventually(lambda: len(site.line.sent) >= 2)
        site.line.up = False
        before = len(asked)
        await eventually(lambda: len(asked) >= before + 5)
        site.line.up = True
        sent = len(site.line.sent)
        await eventually(lambda: len(site.line.sent) >= sent + 2)

        shed = [body["telemetry_shed"] for where, body in site.line.sent if where == kept]
        assert shed[0] == 0
        assert shed[-1] >= 4


async def test_an_agent_that_cannot_register_still_leaves_when_it_is_told_to() -> None:
    journal = FickleJournal()
    journal.flowing.clear()  # as while the journal is full
    site = Site(journal, FakePosition())

    async with asyncio.timeout(10.0), asyncio.TaskGroup() as group:
        group.create_task(site.agent.run())
        await eventually(lambda: journal.attempts == 1)
        site.agent.drain(60.0)

    assert not site.agent.registered.is_set()
    assert not site.agent.left_in_order


async def test_draining_is_told_first_and_leaving_last() -> None:
    async with working() as site:
        await site.decide(assigned("a"))
        await eventually(lambda: len(site.executor.started) == 1)
        site.executor.may_leave.clear()
        site.agent.drain(60.0)

        async def draining() -> bool:
            return bool(await site.journal.facts(WorkerDraining))

        await eventually(draining)
        site.executor.end("a")
        site.executor.may_leave.set()

        async def left() -> bool:
            return bool(await site.journal.facts(WorkerLeft))

        await eventually(left)
        kinds = [event.data.TYPE for event in await site.journal.events()]
        assert kinds[-2:] == ["attempt.finished", "worker.left"]
        await eventually(lambda: site.agent.left_in_order)


async def test_work_that_arrives_while_it_drains_is_handed_back() -> None:
    async with working() as site:
        site.executor.may_leave.clear()
        site.agent.drain(60.0)
        await site.decide(assigned("late"))

        async def handed_back() -> bool:
            return bool(await site.journal.facts(AttemptReleased))

        await eventually(handed_back)
        assert site.executor.started == []
        assert (await site.journal.facts(AttemptReleased))[0].task_id == "late"


@pytest.mark.parametrize("why", ["unsaid", "in hand"])
async def test_an_agent_that_leaves_something_behind_does_not_leave_in_order(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVE_S_MAX", 0.05)
    monkeypatch.setattr(reporter_module, "AGAIN_S", 0.01)
    site = Site(FickleJournal(), FakePosition())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(site.agent.run())
        await site.agent.registered.wait()
        if why == "unsaid":
            site.journal.refusal = Unavailable("away")
        else:
            site.executor.running["a", 1] = assigned("a")
        site.agent.drain(0.0)
        await running

    assert not site.agent.left_in_order
    assert site.line.listeners == []
