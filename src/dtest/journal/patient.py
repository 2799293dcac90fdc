"""A journal that waits for room: for those whose facts have to be written, leader and agents.

Only fullness is waited for; who has to know that the broker is away still learns it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import structlog

from dtest.errors import JournalFull
from dtest.journal.port import (
    Appended,
    Bounds,
    Feed,
    Guard,
    GuardRefused,
    Journal,
    Outgoing,
    Stored,
)

log = structlog.get_logger()

AGAIN_S_MIN = 0.1
AGAIN_S_MAX = 1.0
SAY_EVERY = 30
"""Of so many refusals in a row the first is logged: about one line each half minute."""
Result = TypeVar("Result")


def _nothing() -> None:
    """Tell nobody."""


class PatientJournal:
    """Another journal, with the same append repeated for as long as it is full."""

    def __init__(self, journal: Journal, *, refused: Callable[[], None] = _nothing) -> None:
        self._journal = journal
        self._refused = refused
        """Called at each refusal: the journal lives, it has no room."""

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """See ``Journal.append``; never raises JournalFull."""
        return await self._until_room(lambda: self._journal.append(message, guard=guard))

    async def append_batch(
        self, messages: Sequence[Outgoing], *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """See ``Journal.append_batch``; never raises JournalFull."""
        return await self._until_room(lambda: self._journal.append_batch(messages, guard=guard))

    async def _until_room(self, append: Callable[[], Awaitable[Result]]) -> Result:
        refusals = 0
        while True:
            try:
                result = await append()
            except JournalFull as error:
                self._refused()
                if refusals % SAY_EVERY == 0:
                    log.warning("waiting_for_room", problem=error.message, next_step=error.hint)
                refusals += 1
                await asyncio.sleep(min(AGAIN_S_MAX, AGAIN_S_MIN * refusals))
                continue
            if refusals:
                log.warning("has_room_again", refusals=refusals)
            return result

    def follow(
        self, after: int, *, subject: str | None = None
    ) -> AbstractAsyncContextManager[Feed]:
        """See ``Journal.follow``."""
        return self._journal.follow(after, subject=subject)

    async def last(self, subject: str) -> Stored | None:
        """See ``Journal.last``."""
        return await self._journal.last(subject)

    async def get(self, seq: int) -> Stored | None:
        """See ``Journal.get``."""
        return await self._journal.get(seq)

    async def bounds(self) -> Bounds:
        """See ``Journal.bounds``."""
        return await self._journal.bounds()
