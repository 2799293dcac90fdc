"""Keeps one cell's state up with its journal: a leader decides on it, a standby has it ready."""

import asyncio

from dtest.journal.port import Journal
from dtest.state.cell import Cell
from dtest.state.fold import apply

EVENTS_AT_ONCE = 2_000
"""After so many events others may run: a leader that catches up still answers."""


class Follower:
    """Folds the journal from where the given state stands."""

    def __init__(self, journal: Journal, cell: Cell) -> None:
        self.cell = cell
        self.changed = asyncio.Event()
        """Set by every message; cleared by the one who waits for it."""
        self.events = 0
        """Folded by this follower."""
        self._journal = journal

    async def run(self) -> None:
        """Follow until cancelled. Raises as ``Journal.follow``."""
        async with self._journal.follow(self.cell.seq) as feed:
            async for batch in feed:
                turn = self.events
                for stored in batch:
                    record = stored.record()
                    apply(self.cell, record)
                    self.events += len(record.events)
                    if self.events - turn >= EVENTS_AT_ONCE:
                        turn = self.events
                        await asyncio.sleep(0)
                self.changed.set()
                # Moves what is due out of the timers, which would else only grow in a standby.
                self.cell.wake(self.cell.now)

    async def reached(self, seq: int) -> None:
        """Wait until a message is folded."""
        while self.cell.seq < seq:
            await self.changed.wait()
            self.changed.clear()
