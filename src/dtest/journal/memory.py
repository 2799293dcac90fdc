"""The journal in memory: for tests, for simulation, and as the plainest statement of the port.

Durable for nobody; one process, one event loop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from dtest.errors import Conflict, JournalFull, SequenceGap
from dtest.journal.port import (
    BATCH_MESSAGES_MAX,
    Appended,
    Bounds,
    Guard,
    GuardRefused,
    Outgoing,
    Stored,
)


class MemoryJournal:
    """A list with the rules of a journal."""

    def __init__(self, *, clock: Callable[[], float], messages_max: int | None = None) -> None:
        self._clock = clock
        self._messages_max = messages_max
        self._stored: list[Stored] = []
        self._by_id: dict[str, int] = {}
        self._last: dict[str, Stored] = {}
        self._grown = asyncio.Event()

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """See ``Journal.append``."""
        return self._append([message], guard)

    async def append_batch(
        self, messages: Sequence[Outgoing], *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """See ``Journal.append_batch``."""
        if not 2 <= len(messages) <= BATCH_MESSAGES_MAX:  # noqa: PLR2004 - one goes by append
            message = f"a batch of {len(messages)} messages"
            raise ValueError(message)
        return self._append(messages, guard)

    def _append(self, messages: Sequence[Outgoing], guard: Guard | None) -> Appended | GuardRefused:
        ids = [outgoing.id for outgoing in messages]
        known = [self._by_id[each] for each in ids if each in self._by_id]
        if known and known == list(range(known[0], known[0] + len(ids))):
            return Appended(known[-1], duplicate=True)
        if known or len(set(ids)) < len(ids):
            message = "a part of this batch is stored already, or twice in it"
            raise Conflict(message)
        if guard is not None:
            last = self._last.get(guard.subject)
            actual = last.seq if last is not None else 0
            if actual != guard.seq:
                return GuardRefused(f"last message on {guard.subject} is {actual}")
        room = self._messages_max
        if room is not None and len(self._stored) + len(messages) > room:
            message = "the journal is full"
            raise JournalFull(message, hint="raise its limit or archive it")
        for outgoing in messages:
            stored = Stored(
                len(self._stored) + 1,
                outgoing.subject,
                self._clock(),
                outgoing.id,
                outgoing.payload,
            )
            self._stored.append(stored)
            self._by_id[outgoing.id] = stored.seq
            self._last[outgoing.subject] = stored
        self._grown.set()
        self._grown = asyncio.Event()
        return Appended(len(self._stored))

    @asynccontextmanager
    async def follow(
        self, after: int, *, subject: str | None = None
    ) -> AsyncIterator[AsyncIterator[list[Stored]]]:
        """See ``Journal.follow``."""
        if after > len(self._stored):
            message = f"the journal ends at {len(self._stored)}, before {after}"
            raise SequenceGap(message)
        yield self._feed(after, subject)

    async def _feed(self, after: int, subject: str | None) -> AsyncIterator[list[Stored]]:
        position = after
        while True:
            grown = self._grown
            batch = self._stored[position : position + 1_000]
            position += len(batch)
            wanted = [item for item in batch if subject is None or fits(item.subject, subject)]
            if wanted:
                yield wanted
            elif not batch:
                await grown.wait()

    async def last(self, subject: str) -> Stored | None:
        """See ``Journal.last``."""
        return self._last.get(subject)

    async def get(self, seq: int) -> Stored | None:
        """See ``Journal.get``."""
        return self._stored[seq - 1] if 1 <= seq <= len(self._stored) else None

    async def bounds(self) -> Bounds:
        """See ``Journal.bounds``."""
        count = len(self._stored)
        return Bounds(1 if count else 0, count, count, "memory")


def fits(subject: str, pattern: str) -> bool:
    """Say whether a subject matches a NATS pattern (``*`` one token, a final ``>`` the rest)."""
    tokens, wanted = subject.split("."), pattern.split(".")
    for place, want in enumerate(wanted):
        if want == ">":
            return len(tokens) > place
        if place >= len(tokens) or want not in ("*", tokens[place]):
            return False
    return len(tokens) == len(wanted)
