"""An archive, or an archive and its journal, read as one journal.

Each message that both hold is compared: what is read is one history or an error.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from dtest.archive.continuation import GAP_HINT, check_continues, check_same, read_one
from dtest.archive.reader import Archive
from dtest.errors import Conflict, SequenceGap
from dtest.events.fields import CellId
from dtest.journal.memory import fits
from dtest.journal.port import Bounds, Feed, ReadableJournal, Stored


class ArchivedJournal:
    """An archive alone. Its feeds end where it ends."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    @asynccontextmanager
    async def follow(self, after: int, *, subject: str | None = None) -> AsyncIterator[Feed]:
        """See ``ReadableJournal.follow``."""
        _check_start(self._archive, after, subject)
        if after > self._archive.last:
            message = f"the archive ends at {self._archive.last}, before {after}"
            raise SequenceGap(message)
        async with aclosing(_read(self._archive, after, self._archive.last, subject)) as feed:
            yield feed

    async def get(self, seq: int) -> Stored | None:
        """See ``ReadableJournal.get``."""
        return self._archive.get(seq)

    async def bounds(self) -> Bounds:
        """See ``ReadableJournal.bounds``."""
        archive = self._archive
        return Bounds(archive.first, archive.last, archive.messages, archive.stream.created)


class JoinedJournal:
    """An archive and the journal that goes on where it ends, or overlaps with it."""

    def __init__(self, archive: Archive, journal: ReadableJournal) -> None:
        self._archive = archive
        self._journal = journal

    @asynccontextmanager
    async def follow(self, after: int, *, subject: str | None = None) -> AsyncIterator[Feed]:
        """See ``ReadableJournal.follow``."""
        _check_start(self._archive, after, subject)
        async with aclosing(self._feed(after, subject)) as feed:
            yield feed

    async def _feed(self, after: int, subject: str | None) -> AsyncGenerator[list[Stored], None]:
        """Yield what the archive alone has, then what the journal has, compared with the rest."""
        join = max(after, (await self._journal.bounds()).first - 1)
        async with aclosing(_read(self._archive, after, join, subject)) as batches:
            async for batch in batches:
                yield batch
        both = (
            stored
            for batch in self._archive.batches(join)
            for stored in batch
            if _is_wanted(stored, subject)
        )
        async with self._journal.follow(join, subject=subject) as feed:
            async for batch in feed:
                for stored in batch:
                    archived = next(both, None)
                    if archived is not None or stored.seq <= self._archive.last:
                        check_same(archived, stored)
                yield batch

    async def get(self, seq: int) -> Stored | None:
        """See ``ReadableJournal.get``."""
        archived = self._archive.get(seq)
        bounds = await self._journal.bounds()
        if not max(bounds.first, 1) <= seq <= bounds.last:
            return archived
        stored = await read_one(self._journal, seq)
        if seq <= self._archive.last:
            check_same(archived, stored)
        return stored

    async def bounds(self) -> Bounds:
        """See ``ReadableJournal.bounds``."""
        archive, live = self._archive, await self._journal.bounds()
        alone = max(min(live.first - 1, archive.last) - archive.first + 1, 0)
        return Bounds(archive.first, live.last, alone + live.messages, live.created)


async def join(archive: Archive, journal: ReadableJournal, cell: CellId) -> JoinedJournal:
    """Read both as one.

    A stream that was made anew is taken for the same journal only as far as it holds what the
    archive holds. Raises Conflict if it may be another one, SequenceGap if messages are in
    neither, Damaged if the message where they meet is not the same.
    """
    held = archive.stream
    if held.cell != cell:
        message = f"the archive is of the cell {held.cell}, the journal of {cell}"
        raise Conflict(message)
    bounds = await check_continues(archive.get_last(), journal)
    if bounds.created != held.created and bounds.first > archive.last:
        message = (
            f"the archive is of the stream made at {held.created}, the journal of one made at"
            f" {bounds.created}, and they share no message"
        )
        raise Conflict(message, hint=GAP_HINT)
    return JoinedJournal(archive, journal)


def _check_start(archive: Archive, after: int, subject: str | None) -> None:
    if subject is None and after < archive.first - 1:
        message = f"the archive begins at {archive.first}, after {after + 1}"
        raise SequenceGap(message)


async def _read(
    archive: Archive, after: int, until: int, subject: str | None
) -> AsyncGenerator[list[Stored], None]:
    """Yield the archived messages with ``after < seq <= until``."""
    for batch in archive.batches(after):
        wanted = [one for one in batch if one.seq <= until and _is_wanted(one, subject)]
        if wanted:
            yield wanted
        if batch[-1].seq >= until:
            return
        await asyncio.sleep(0)  # a connection that waits meanwhile answers its server's pings


def _is_wanted(stored: Stored, subject: str | None) -> bool:
    return subject is None or fits(stored.subject, subject)
