"""The agent: registers its worker, reads what is assigned to it, beats, drains.

What an attempt is, an executor knows; what is true of the cell, the journal knows.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import orjson
import structlog

from dtest.agents.executor import Executor
from dtest.agents.reporter import Reporter
from dtest.events import codec, subject
from dtest.events.attempt import AttemptAssigned, AttemptReleased, AttemptStopRequested
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import CellId, EventId, WorkerId
from dtest.events.worker import Capability, WorkerDraining, WorkerLeft, WorkerRegistered
from dtest.journal.port import Appended, Journal, Outgoing
from dtest.runtime.ids import IdSource
from dtest.suites.session import SPEAKS

log = structlog.get_logger()

BEAT_EVERY_S = 1.0
LEAVE_S_MAX = 5.0


class Line(Protocol):
    """How to beat and be asked (core NATS)."""

    async def send(self, subject: str, payload: bytes) -> None:
        """Send without waiting; raise TimeoutError when that is impossible."""
        ...

    async def serve(self, where: str, answer: Callable[[bytes], bytes]) -> object:
        """Answer each request on a subject."""
        ...

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have ``call`` called after each reconnection."""
        ...


class Position(Protocol):
    """Where the agent's reading of its work stands; kept on disk where attempts are."""

    def load(self) -> int | None:
        """Return the last message handled by this incarnation, none at its first start."""
        ...

    def save(self, seq: int) -> None:
        """Note that a message was handled."""
        ...


class NoPosition:
    """For agents whose attempts do not outlive them."""

    def load(self) -> int | None:
        """Return none."""
        return None

    def save(self, seq: int) -> None:
        """Forget."""


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who the agent is in this incarnation."""

    cell: CellId
    worker_id: WorkerId
    incarnation: str
    host: str
    pid: int
    version: str
    simulated: bool


class Agent:
    """One worker's agent."""

    def __init__(
        self,
        identity: AgentIdentity,
        capability: Capability,
        *,
        journal: Journal,
        line: Line,
        reporter: Reporter,
        executor: Executor,
        position: Position,
        now: Callable[[], float],
    ) -> None:
        self.registered = asyncio.Event()
        self.left_in_order = False
        """Whether the journal has everything and nothing is in hand."""
        self._identity = identity
        self._capability = capability
        self._journal = journal
        self._line = line
        self._reporter = reporter
        self._executor = executor
        self._position = position
        self._now = now
        self._new_id = IdSource()
        self._register_again = asyncio.Event()
        self._drain = asyncio.Event()
        self._drain_grace_s = 0.0
        self._telemetry_shed = 0
        """Samples that were not sent."""

    def drain(self, grace_s: float) -> None:
        """Take no new work; leave when what runs has ended, after ``grace_s`` seconds at most."""
        self._drain_grace_s = grace_s
        self._drain.set()

    async def run(self, load: Callable[[], dict[str, float]] | None = None) -> None:
        """Work until drained or cancelled. ``load`` gives the figures that a beat carries."""
        await self._line.serve(
            subject.ping(self._identity.cell, self._identity.worker_id), self._asked
        )
        forget = self._line.on_reconnect(self._register_again.set)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._reporter.run())]
            seq = await self._registered_or_drained(group)
            if seq is None:
                self._cancel(tasks)
                forget()
                return
            after = self._position.load()
            if after is None or after > seq:  # the first start, or another journal
                after = seq
                self._position.save(seq)
            tasks += [
                group.create_task(self._executor.run()),
                group.create_task(self._read(after)),
                group.create_task(self._beat(load or dict)),
                group.create_task(self._keep_registered()),
            ]
            self.registered.set()
            await self._drain.wait()
            await self._leave(tasks)
        forget()

    def _asked(self, payload: bytes) -> bytes:
        if payload == b"register":
            self._register_again.set()
        return b"here"

    def _registration(self) -> WorkerRegistered:
        me = self._identity
        has = self._capability
        if not me.simulated:
            has = replace(has, labels={**has.labels, **SPEAKS})
        return WorkerRegistered(
            me.worker_id,
            me.incarnation,
            me.host,
            has,
            me.simulated,
            me.version,
            me.pid,
            self._executor.held(),
        )

    async def _register(self) -> int:
        me = self._identity
        fact = self._registration()
        event = Event(
            EventId(self._new_id()),
            codec.source(me.cell, "agent", me.worker_id),
            self._now(),
            fact,
        )
        where = subject.agent(me.cell, me.worker_id, fact.TYPE)
        result = await self._journal.append(Outgoing(where, codec.encode([event]), event.id))
        if not isinstance(result, Appended):
            raise AssertionError(result)
        log.info("worker_registered", worker_id=me.worker_id, seq=result.seq)
        return result.seq

    async def _keep_registered(self) -> None:
        """Register again after a reconnection or when asked: the cell may count us as lost.

        In line with all other facts, so that what is held and what ended are told in order.
        """
        while True:
            await self._register_again.wait()
            self._register_again.clear()
            if not self._drain.is_set():
                self._reporter.tell(self._registration())

    async def _read(self, after: int) -> None:
        where = subject.work_of(self._identity.cell, self._identity.worker_id)
        async with self._journal.follow(after, subject=where) as feed:
            async for batch in feed:
                for stored in batch:
                    self._handle(stored.record())
                self._position.save(batch[-1].seq)

    def _handle(self, record: Recorded) -> None:
        for event in record.events:
            match event:
                case Event(data=AttemptAssigned() as assigned):
                    if assigned.incarnation == self._identity.incarnation:
                        self._accept(assigned)
                case Event(data=AttemptStopRequested() as stop):
                    self._executor.stop(stop.task_id, stop.attempt, stop.reason)
                case _:
                    log.warning("work_not_understood", seq=record.seq)

    def _accept(self, assigned: AttemptAssigned) -> None:
        if self._drain.is_set():  # it was assigned before the cell knew
            task_id, attempt = assigned.task_id, assigned.attempt
            self._reporter.tell(AttemptReleased(task_id, attempt, self._identity.worker_id))
        else:
            self._executor.start(assigned)

    async def _beat(self, load: Callable[[], dict[str, float]]) -> None:
        me = self._identity
        where = subject.beat(me.cell, me.worker_id)
        kept = subject.telemetry(me.cell, me.worker_id)
        while True:
            figures = load()
            if figures:
                figures |= self._backlog()
            body = orjson.dumps(
                {"at": codec.iso(self._now()), "worker_id": me.worker_id, **figures}
            )
            try:
                await self._line.send(where, body)
                if figures and self._reporter.is_pressed:
                    self._telemetry_shed += 1
                elif figures:
                    await self._line.send(kept, body)
            except TimeoutError:
                self._telemetry_shed += bool(figures)
                log.warning("beat_not_sent", worker_id=me.worker_id)
            await asyncio.sleep(BEAT_EVERY_S)

    def _backlog(self) -> dict[str, float]:
        """Return what waits here, and what was given up since the start of this agent."""
        return {
            "facts_waiting": float(self._reporter.waiting),
            "telemetry_shed": float(self._telemetry_shed),
            "output_dropped_bytes": float(self._executor.output_bytes_dropped()),
        }

    async def _leave(self, tasks: list[asyncio.Task[None]]) -> None:
        me = self._identity
        self._reporter.tell(WorkerDraining(me.worker_id, me.incarnation, "stopped"))
        await self._executor.drain(self._drain_grace_s)
        self._reporter.tell(WorkerLeft(me.worker_id, me.incarnation))
        try:
            async with asyncio.timeout(LEAVE_S_MAX):
                await self._reporter.flush()
            self.left_in_order = not self._executor.held()
        except TimeoutError:
            log.warning("left_without_saying_so", worker_id=me.worker_id)
        self._cancel(tasks)

    def _cancel(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()

    async def _registered_or_drained(self, group: asyncio.TaskGroup) -> int | None:
        """Register, unless told to leave while the journal takes nothing: then return none."""
        registering = group.create_task(self._register())
        draining = group.create_task(self._drain.wait())
        await asyncio.wait({registering, draining}, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        if registering.done():
            return registering.result()
        registering.cancel()
        log.warning("left_unregistered", worker_id=self._identity.worker_id)
        return None
