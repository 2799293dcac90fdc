"""Keeps the conductor's view of the cell up with the journal: the fold, and a book for each run."""

import asyncio
from collections import deque

from dtest.conductor.books import Books
from dtest.events import subject
from dtest.events.envelope import Recorded
from dtest.journal.port import Journal
from dtest.projections.rows import Rows
from dtest.state.cell import Cell, PendingRefusal

EVENTS_AT_ONCE = 500
"""After so many events others may run: who stands by still answers."""
REFUSED_MAX = 1_000
"""How many refused messages are remembered."""


class View:
    """The cell, as far as it is folded."""

    def __init__(self, journal: Journal, base: Cell, *, since: int) -> None:
        """Begin at a state; ``since`` is the place of the oldest run that has not ended."""
        self._journal = journal
        self._rows = Rows(base, events=False)
        self._since = since
        self._own = subject.conducted(base.id).rpartition(".")[0] + "."
        self.books = Books(base)
        self._moved = asyncio.Condition()
        self.moves = 0
        """Grows with each batch."""
        self._refused: deque[tuple[int, PendingRefusal]] = deque(maxlen=REFUSED_MAX)
        """Of what a conductor decided, the latest, with their places."""

    @property
    def cell(self) -> Cell:
        """The state."""
        return self._rows.cell

    async def run(self) -> None:
        """Follow until cancelled. Raises as ``Journal.follow``."""
        async with self._journal.follow(self.cell.seq) as feed:
            async for batch in feed:
                events = 0
                for stored in batch:
                    record = stored.record()
                    events += len(record.events)
                    if record.seq < self._since:
                        self._rows.fold(record)
                        continue
                    self._rows.add(record, b"")
                    self._note_refusals(record)
                    self.books.note(record)
                    if events >= EVENTS_AT_ONCE:
                        events = 0
                        await self._told()
                await self._told()

    async def _told(self) -> None:
        self.books.take(self._rows.take())
        self.cell.wake(self.cell.now)
        async with self._moved:
            self.moves += 1
            self._moved.notify_all()
        await asyncio.sleep(0)

    async def stir(self) -> None:
        """Wake all who wait, though nothing was folded."""
        async with self._moved:
            self.moves += 1
            self._moved.notify_all()

    async def moved(self, after: int, *, wait_s: float | None = None) -> int:
        """Wait until there was another move than that, or so long; return the latest."""
        try:
            async with asyncio.timeout(wait_s), self._moved:
                await self._moved.wait_for(lambda: self.moves != after)
        except TimeoutError:
            pass
        return self.moves

    def refusal(self, after: int, upto: int) -> PendingRefusal | None:
        """Return why a fact of a conductor was refused that stands there, none if none was."""
        return next((why for seq, why in self._refused if after < seq <= upto), None)

    def _note_refusals(self, record: Recorded) -> None:
        if not record.subject.startswith(self._own):
            return
        for index in range(len(record.events)):
            why = self.cell.refusals.get((record.seq, index))
            if why is not None:
                self._refused.append((record.seq, why))

    async def reached(self, seq: int) -> None:
        """Wait until a message is folded."""
        at = self.moves
        while self.cell.seq < seq:
            at = await self.moved(at)
