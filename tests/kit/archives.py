"""Archives for tests: written through the real archiver, from journals that are given."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dtest.archive.archiver import Archiver, SegmentSize
from dtest.archive.manifest import Entry, Stream
from dtest.archive.writer import writing
from dtest.errors import SequenceGap
from dtest.events.fields import CellId
from dtest.journal.port import Bounds, ReadableJournal, Stored
from tests.kit import facts
from tests.kit.recording import Recording


def numbered(count: int, *, word: str = "message") -> list[Stored]:
    """Messages that differ in everything."""
    return [
        Stored(
            number,
            f"dtest.main.client.c{number % 3}.task.queued",
            facts.START + number / 1e6,
            f"{word}-{number}",
            f'{{"{word}": {number}}}'.encode() * (number % 7),
        )
        for number in range(1, count + 1)
    ]


class Told(Recording):
    """A journal that holds given messages, under a given identity, perhaps not from the first."""

    def __init__(
        self, stored: Iterable[Stored], *, first: int = 1, created: str = "recording"
    ) -> None:
        super().__init__(stored)
        self._first = first
        self._created = created

    @asynccontextmanager
    async def follow(
        self, after: int, *, subject: str | None = None
    ) -> AsyncIterator[AsyncIterator[list[Stored]]]:
        """See ``Journal.follow``."""
        if subject is None and after < self._first - 1:
            message = f"the journal begins at {self._first}"
            raise SequenceGap(message)
        start = max(after, self._first - 1)
        async with super().follow(start, subject=subject) as feed:
            yield feed

    async def bounds(self) -> Bounds:
        """See ``Journal.bounds``."""
        last = len(self._stored)
        return Bounds(self._first, last, last - self._first + 1, self._created)


async def archived(
    journal: ReadableJournal,
    directory: Path,
    *,
    segment: int,
    payload_bytes: int = 1 << 30,
    cell: CellId = facts.CELL,
) -> list[Entry]:
    """Archive what a journal holds now; return what was added."""
    added: list[Entry] = []
    stream = Stream(cell, (await journal.bounds()).created)
    with writing(directory, stream) as writer:
        size = SegmentSize(segment, payload_bytes)
        await Archiver(journal, writer, size, written=added.append).catch_up()
    return added


def segments(directory: Path) -> list[Path]:
    """The segment files, in order."""
    return sorted(directory.glob("*.parquet"))


def contents(directory: Path) -> dict[str, bytes]:
    """All files."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def sizes(entries: Sequence[Entry]) -> list[int]:
    """How many messages each segment holds."""
    return [entry.label.messages for entry in entries]
