"""Who conducts: elected by the journal, fenced by the place of the election, as leaders are."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict

import orjson
import structlog

from dtest.conductor.following import View
from dtest.events import codec, subject
from dtest.events.catalogue import ClientPayload, ConductorPayload, Payload
from dtest.events.conductor import ConductorElected
from dtest.events.envelope import Event
from dtest.events.fields import ClientId, EventId
from dtest.events.suite_list import SuiteListed
from dtest.journal.port import Guard, GuardRefused, Journal, Outgoing
from dtest.leadership.candidate import Watch
from dtest.leadership.leader import Clock, Deposed, Identity
from dtest.leadership.line import Line

log = structlog.get_logger()

AS_CLIENT = ClientId("conductor")
"""The name under which a conductor asks for tasks, as any client does."""


class Pen:
    """Writes for as long as its holder is in office. Each writing raises Deposed afterwards."""

    def __init__(
        self,
        journal: Journal,
        identity: Identity,
        epoch: int,
        *,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self.epoch = epoch
        self._editions = 0
        self._journal = journal
        self._identity = identity
        self._guard = Guard(subject.conductor_epoch(identity.cell), epoch)
        self._clock = clock
        self._new_id = new_id

    def edition(self) -> str:
        """Return a name that nobody else had, in this office or before."""
        self._editions += 1
        return f"e{self.epoch}x{self._editions}"

    async def confirm(self) -> None:
        """Make sure that nobody else was elected: before effects that no guard stands before.

        Raises Deposed.
        """
        last = await self._journal.last(subject.conductor_epoch(self._identity.cell))
        if last is None or last.seq != self.epoch:
            message = f"another conductor was elected after {self.epoch}"
            raise Deposed(message)

    async def decide(self, facts: Sequence[ConductorPayload]) -> int:
        """Record facts about suites, all or none; return the place of the last."""
        cell = self._identity.cell
        first = facts[0]
        where = subject.conducted(cell)
        if isinstance(first, SuiteListed):
            where = subject.listed(cell, first.digest)
        source = codec.source(cell, "conductor", self._identity.leader_id)
        return await self._write(where, source, facts, None)

    async def ask(self, facts: Sequence[ClientPayload], ids: Sequence[str]) -> int:
        """Ask for something as clients do; the same ``ids`` again ask for nothing again."""
        cell = self._identity.cell
        where = subject.client(cell, AS_CLIENT, facts[0].TYPE)
        source = codec.source(cell, "client", AS_CLIENT)
        return await self._write(where, source, facts, ids)

    async def _write(
        self, where: str, source: str, facts: Sequence[Payload], ids: Sequence[str] | None
    ) -> int:
        now = self._clock.now()
        names = ids or [self._new_id() for _ in facts]
        events = [
            Event(EventId(name), source, now, fact) for name, fact in zip(names, facts, strict=True)
        ]
        parts = [Outgoing(where, body, first) for first, body in codec.split(events)]
        if len(parts) == 1:
            result = await self._journal.append(parts[0], guard=self._guard)
        else:
            result = await self._journal.append_batch(parts, guard=self._guard)
        if isinstance(result, GuardRefused):
            log.warning("conductor_deposed", epoch=self.epoch, detail=result.detail)
            raise Deposed(result.detail)
        return result.seq


Term = Callable[[Pen], Awaitable[None]]


class Office:
    """One conductor among any number."""

    def __init__(
        self,
        journal: Journal,
        line: Line,
        view: View,
        *,
        identity: Identity,
        clock: Clock,
        new_id: Callable[[], str],
        watch: Watch,
        pid: int,
    ) -> None:
        self._journal = journal
        self._line = line
        self._view = view
        self._identity = identity
        self._clock = clock
        self._new_id = new_id
        self._watch = watch
        self._pid = pid

    async def run(self, term: Term) -> None:
        """Stand by and conduct in turns, until cancelled. Needs its view to run."""
        await self._view.reached((await self._journal.bounds()).last)
        log.info("conductor_standing_by", seq=self._view.cell.seq)
        card = orjson.dumps({**asdict(self._identity), "pid": self._pid})
        while True:
            evidence = await self._watch.leaderless()
            log.info("conductor_taking_over", evidence=evidence)
            silence = await self._line.serve(subject.conductor(self._identity.cell), lambda _: card)
            try:
                await term(await self._elected())
            except* Deposed as group:
                log.warning("conductor_stepped_down", detail=str(group.exceptions[0]))
            finally:
                await silence()

    async def _elected(self) -> Pen:
        """Take the office. Raises Deposed where somebody else was quicker."""
        where = subject.conductor_epoch(self._identity.cell)
        last = await self._journal.last(where)
        previous = last.seq if last is not None else 0
        who = self._identity
        fact = ConductorElected(who.leader_id, previous, who.host, who.version)
        source = codec.source(who.cell, "conductor", who.leader_id)
        event = Event(EventId(self._new_id()), source, self._clock.now(), fact)
        message = Outgoing(where, codec.encode([event]), event.id)
        result = await self._journal.append(message, guard=Guard(where, previous))
        if isinstance(result, GuardRefused):
            raise Deposed(f"another was elected: {result.detail}")
        await self._view.reached(result.seq)
        log.info("conductor_elected", epoch=result.seq, previous=previous)
        return Pen(self._journal, who, result.seq, clock=self._clock, new_id=self._new_id)
