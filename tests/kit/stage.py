"""A real leader over the journal in memory, at a clock that only the test moves.

Agents are played by the test: it appends what they would.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dtest.events import codec
from dtest.events.attempt import AttemptAssigned
from dtest.events.catalogue import Payload
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import EventId
from dtest.journal.memory import MemoryJournal
from dtest.journal.port import Appended, Outgoing
from dtest.leadership.follower import Follower
from dtest.leadership.leader import Identity, Leader
from dtest.leadership.rules import CURRENT, Rules
from dtest.state.cell import Cell
from tests.kit import facts

QUIET_TURNS = 20
"""So many turns of the loop without a new message, and nothing more is coming."""
TURNS_MAX = 20_000


async def lead(leader: Leader) -> None:
    """Lead one term, on a state that is kept up meanwhile. Raises Deposed, bare."""
    following = asyncio.ensure_future(leader.follower.run())
    try:
        await leader.run()
    finally:
        following.cancel()


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at = facts.START

    def now(self) -> float:
        """Return the instant."""
        return self.at

    def monotonic(self) -> float:
        """Return the same instant."""
        return self.at


class Stage:
    """One journal, its clock, and the leaders that come and go."""

    def __init__(self, journal: MemoryJournal | None = None, *, ahead_s: float = 0.0) -> None:
        """Take a journal, or make one whose clock is ahead of everybody's."""
        self.clock = ManualClock()
        self.journal = journal or MemoryJournal(clock=lambda: self.clock.now() + ahead_s)
        self._ids = 0

    def new_id(self) -> str:
        """An id that no other event here has."""
        self._ids += 1
        return f"e{self._ids}"

    async def say(self, *data: Payload) -> int:
        """Append facts of one type as one message; return where it stands."""
        events = [
            Event(EventId(self.new_id()), facts.source(fact), self.clock.now(), fact)
            for fact in data
        ]
        message = Outgoing(facts.where(data[0]), codec.encode(events), events[0].id)
        result = await self.journal.append(message)
        assert isinstance(result, Appended)
        return result.seq

    async def records(self) -> list[Recorded]:
        """All that was written."""
        last = (await self.journal.bounds()).last
        stored = [await self.journal.get(seq) for seq in range(1, last + 1)]
        return [item.record() for item in stored if item is not None]

    async def written(self, shape: type[Payload]) -> list[Payload]:
        """The facts of one type, in order."""
        return [
            event.data
            for record in await self.records()
            for event in record.events
            if isinstance(event, Event) and isinstance(event.data, shape)
        ]

    async def assigned(self) -> list[AttemptAssigned]:
        """The assignments, in order."""
        found = await self.written(AttemptAssigned)
        return [data for data in found if isinstance(data, AttemptAssigned)]

    def leader(self, name: str = facts.LEADER, rules: Rules = CURRENT) -> Leader:
        """A candidate; who asks for it has its follower run."""
        return Leader(
            self.journal,
            Follower(self.journal, Cell(facts.CELL)),
            identity=Identity(facts.CELL, name, "here", "0"),
            clock=self.clock,
            new_id=self.new_id,
            rules=rules,
        )

    @asynccontextmanager
    async def led(self, name: str = facts.LEADER, rules: Rules = CURRENT) -> AsyncIterator[Leader]:
        """Have a leader lead for a while."""
        leader = self.leader(name, rules)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(lead(leader))
            await self.quiet()
            yield leader
            await self.quiet()
            running.cancel()

    async def quiet(self) -> None:
        """Wait until nobody writes any more."""
        last, still = -1, 0
        for _ in range(TURNS_MAX):
            await asyncio.sleep(0)
            now = (await self.journal.bounds()).last
            last, still = now, still + 1 if now == last else 0
            if still > QUIET_TURNS:
                return
        message = "the leader does not come to rest"
        raise AssertionError(message)
