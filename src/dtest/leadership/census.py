"""Counts who stands by to lead: by asking all of them at once, every second.

Says nothing about the future: who stood by a second ago may be gone.
"""

import asyncio
from typing import Protocol

from dtest.events import subject
from dtest.events.fields import CellId

COUNT_EVERY_S = 1.0
ANSWERS_S_MAX = 0.25


class Survey(Protocol):
    """A connection, as far as counting needs it."""

    async def survey(self, where: str, *, wait_s: float) -> list[bytes]:
        """Return what all say who answer within a time; raise TimeoutError if it cannot ask."""
        ...


class Census:
    """How many schedulers stand by in one cell."""

    def __init__(self, connection: Survey, *, cell: CellId) -> None:
        self.standbys: int | None = None
        """None while it is unknown."""
        self._connection = connection
        self._where = subject.standby(cell)

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            await self.count()
            await asyncio.sleep(COUNT_EVERY_S)

    async def count(self) -> None:
        """Count once."""
        try:
            answers = await self._connection.survey(self._where, wait_s=ANSWERS_S_MAX)
        except TimeoutError:
            self.standbys = None
        else:
            self.standbys = len(answers)
