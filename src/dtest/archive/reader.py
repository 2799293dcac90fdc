"""Reads an archive by itself: no broker, and nothing is believed that was not checked.

Whoever loads an archive to work on it, as a rehearsal does, begins with ``read_archive``.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dtest.archive.manifest import NAME, SEGMENTS, Entry, Stream, read_manifest
from dtest.archive.segment import read_segment
from dtest.errors import Damaged, NotFound
from dtest.journal.port import Stored

HINT = "`dtest archive verify` names all that is wrong"


class Archive:
    """The segments of one directory, as far as its manifest lists them."""

    def __init__(self, directory: Path, entries: Sequence[Entry]) -> None:
        """Take at least one segment."""
        self._directory = directory
        self._entries = entries
        self.stream: Stream = entries[0].label.stream
        self.first = entries[0].label.first_seq
        self.last = entries[-1].label.last_seq

    @property
    def messages(self) -> int:
        """How many there are."""
        return self.last - self.first + 1

    def batches(self, after: int = 0) -> Iterator[list[Stored]]:
        """Yield the messages above ``after``, a segment at a time. Raises Damaged."""
        for entry in self._entries:
            if entry.label.last_seq > after:
                yield [stored for stored in self._read(entry) if stored.seq > after]

    def get(self, seq: int) -> Stored | None:
        """Return one message. Raises Damaged."""
        for entry in self._entries:
            if entry.label.first_seq <= seq <= entry.label.last_seq:
                return self._read(entry)[seq - entry.label.first_seq]
        return None

    def get_last(self) -> Stored:
        """Return the last message. Raises Damaged."""
        return self._read(self._entries[-1])[-1]

    def _read(self, entry: Entry) -> list[Stored]:
        try:
            return read_segment(self._directory, entry)
        except Damaged as error:
            message = f"{self._directory}: {error.message}"
            raise Damaged(message, hint=HINT) from error


def open_archive(directory: Path) -> Archive:
    """Read the manifest of an archive.

    Raises Damaged if the manifest does not hold, NotFound if there is no archive, or an empty one.
    """
    manifest = read_manifest(directory)
    if manifest.problems:
        message = f"{directory}: {manifest.problems[0]}"
        raise Damaged(message, hint=HINT)
    if manifest.entries:
        return Archive(directory, manifest.entries)
    if len(list(directory.glob(SEGMENTS))) > 1:
        message = f"{directory} holds segments, but {NAME} lists none"
        raise Damaged(message, hint=HINT)
    message = f"{directory} holds no archive, or one without a segment"
    raise NotFound(message, hint="`dtest archive write --to DIR` makes one")


def read_archive(directory: Path) -> Iterator[Stored]:
    """Yield all messages of an archive in order, each segment checked before it is used.

    Raises as ``open_archive``, and Damaged.
    """
    for batch in open_archive(directory).batches():
        yield from batch
