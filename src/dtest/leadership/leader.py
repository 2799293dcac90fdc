"""The leader's cycle: decide on what is folded, append guarded by the epoch, one at a time.

While one decision is on its way the next accumulates, so decisions grow with load and latency at
low load stays one round trip. A refused guard means that somebody else leads: step down at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from dtest.events import codec, subject
from dtest.events.catalogue import Payload
from dtest.events.envelope import Correlation, Event
from dtest.events.fields import CellId, EventId
from dtest.journal.port import BATCH_MESSAGES_MAX, Guard, GuardRefused, Journal, Outgoing
from dtest.leadership.decision import Signature, messages
from dtest.leadership.follower import Follower
from dtest.leadership.rules import CURRENT, Rules, elected
from dtest.state.cell import Cell

log = structlog.get_logger()

SINGLES_MAX = 8
"""Up to this many messages go singly: an atomic batch has a fixed cost of some milliseconds."""
CYCLE_S_MAX = 2.0
"""A decision that takes longer to be stored has probably no leader any more."""


class Deposed(Exception):
    """Another leader was elected; nothing that this one writes is stored any more."""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Return the instant, seconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some instant; they never go back."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who leads."""

    cell: CellId
    leader_id: str
    host: str
    version: str


class Leader:
    """One term of leadership."""

    def __init__(
        self,
        journal: Journal,
        follower: Follower,
        *,
        identity: Identity,
        clock: Clock,
        new_id: Callable[[], str],
        rules: Rules = CURRENT,
    ) -> None:
        self.leading = asyncio.Event()
        """Set once everything up to the own election is folded."""
        self.decisions = 0
        self.follower = follower
        self._journal = journal
        self.identity = identity
        self._clock = clock
        self._new_id = new_id
        self._rules = rules
        self._guard = Guard(subject.epoch(identity.cell), 0)
        self._own_seq = 0
        self._now = 0.0
        self._busy_since: float | None = None

    @property
    def cell(self) -> Cell:
        """The state, as far as it is folded."""
        return self.follower.cell

    @property
    def is_cycling(self) -> bool:
        """Say whether decisions get through; who does not cycle does not lead."""
        since = self._busy_since
        return since is None or self._clock.monotonic() - since <= CYCLE_S_MAX

    def waits_for_room(self) -> None:
        """Note that the journal just said that it is full: no standby could do better."""
        if self._busy_since is not None:
            self._busy_since = self._clock.monotonic()

    async def run(self) -> None:
        """Lead until deposed (raises Deposed) or cancelled. Needs its follower to run."""
        await self._take_epoch()
        await self._cycle()

    async def _take_epoch(self) -> None:
        last = await self._journal.last(self._guard.subject)
        previous = last.seq if last is not None else 0
        who = self.identity
        fact = elected(who.leader_id, previous, who.host, who.version, rules=self._rules)
        message = self._message(self._guard.subject, fact, correlation=None)
        result = await self._journal.append(message, guard=Guard(self._guard.subject, previous))
        if isinstance(result, GuardRefused):
            raise Deposed(f"another was elected: {result.detail}")
        self._guard = Guard(self._guard.subject, result.seq)
        self._own_seq = result.seq
        log.info("leader_elected", epoch=result.seq, previous=previous)

    def _message(self, where: str, data: Payload, correlation: str | None) -> Outgoing:
        source = codec.source(self.identity.cell, "scheduler", self.identity.leader_id)
        event = Event(EventId(self._new_id()), source, self._clock.now(), data, correlation)
        return Outgoing(where, codec.encode([event]), event.id)

    async def _cycle(self) -> None:
        while True:
            await self._something()
            if self.cell.seq < self._own_seq:
                continue
            if self.cell.epoch != self._guard.seq:
                raise Deposed(f"{self.cell.leader_id} leads since {self.cell.epoch}")
            if not self.leading.is_set():
                self.leading.set()
            # Never before what is folded: the follower let that time pass, and so will the audit.
            self._now = max(self._now, self._clock.now(), self.cell.now)
            self.cell.wake(self._now)
            parts = self._rules.decide(self.cell, self._now)
            if parts:
                basis = Correlation(self._guard.seq, self.cell.seq)
                signature = Signature(self.identity.cell, self.identity.leader_id, basis, self._now)
                self._busy_since = self._clock.monotonic()
                await self._record(list(messages(parts, signature, self._new_id)))
                self._busy_since = None
                self.decisions += 1

    async def _something(self) -> None:
        """Wait until the state changed or an instant passed."""
        at = self.cell.next_timer_at()
        wait_s = None if at is None else max(0.0, at - self._clock.now())
        try:
            async with asyncio.timeout(wait_s):
                await self.follower.changed.wait()
        except TimeoutError:
            return
        self.follower.changed.clear()

    async def _record(self, parts: list[Outgoing]) -> None:
        if len(parts) <= SINGLES_MAX:
            results = await asyncio.gather(
                *(self._journal.append(part, guard=self._guard) for part in parts)
            )
        else:
            results = []
            for start in range(0, len(parts), BATCH_MESSAGES_MAX):
                chunk = parts[start : start + BATCH_MESSAGES_MAX]
                if len(chunk) == 1:
                    results.append(await self._journal.append(chunk[0], guard=self._guard))
                else:
                    results.append(await self._journal.append_batch(chunk, guard=self._guard))
        for result in results:
            if isinstance(result, GuardRefused):
                log.warning("leader_deposed", epoch=self._guard.seq, detail=result.detail)
                raise Deposed(result.detail)
            self._own_seq = max(self._own_seq, result.seq)

    async def observe(self, fact: Payload) -> None:
        """Record what the leader's detector saw; fenced like a decision."""
        message = self._message(subject.observed(self.identity.cell), fact, None)
        result = await self._journal.append(message, guard=self._guard)
        if isinstance(result, GuardRefused):
            raise Deposed(result.detail)
