"""Takes the messages of a journal into an archive, segment by segment."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from dtest.archive.continuation import check_continues
from dtest.archive.manifest import Entry
from dtest.archive.writer import ArchiveWriter
from dtest.journal.port import ReadableJournal, Stored, read_to


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """When a segment is full."""

    messages: int = 10_000
    payload_bytes: int = 64 << 20
    """It is held in memory while it is gathered, and again when it is read."""


class Archiver:
    """Gathers what the journal says until it is a segment."""

    def __init__(
        self,
        journal: ReadableJournal,
        writer: ArchiveWriter,
        size: SegmentSize,
        *,
        written: Callable[[Entry], None],
    ) -> None:
        self._journal = journal
        self._writer = writer
        self._size = size
        self._written = written
        self._held: list[Stored] = []
        self._held_bytes = 0

    async def catch_up(self) -> None:
        """Archive all that the journal holds at this moment; the last segment may be short.

        Raises SequenceGap or Damaged if the archive is not the beginning of this journal.
        """
        after = await self._start()
        until = (await self._journal.bounds()).last
        async with aclosing(read_to(self._journal, after, until)) as batches:
            async for batch in batches:
                self._take(batch)
        self._flush()

    async def follow(self, *, every_s: float) -> None:
        """Archive what comes until cancelled, at least every ``every_s``. Raises as above."""
        after = await self._start()
        async with asyncio.TaskGroup() as group, self._journal.follow(after) as feed:
            group.create_task(self._flush_every(every_s))
            async for batch in feed:
                self._take(batch)

    async def _start(self) -> int:
        last = self._writer.last()
        if last is not None:
            await check_continues(last, self._journal)
            return last.seq
        return max((await self._journal.bounds()).first - 1, 0)

    async def _flush_every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self._flush()

    def _take(self, batch: list[Stored]) -> None:
        for stored in batch:
            self._held.append(stored)
            self._held_bytes += len(stored.payload)
            if (
                len(self._held) >= self._size.messages
                or self._held_bytes >= self._size.payload_bytes
            ):
                self._flush()

    def _flush(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._written(self._writer.write(held))
