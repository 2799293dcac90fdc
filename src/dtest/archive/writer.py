"""Writes segments, each whole or not at all; whatever a killed writer left is completed.

The order is what makes it safe: a segment is written beside its name, synced, renamed; its line of
the manifest comes last. Nothing that has a name is ever written again.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dtest.archive.manifest import (
    NAME,
    Entry,
    Label,
    Manifest,
    Stream,
    entry_of,
    file_name,
)
from dtest.archive.segment import encode, read_segment
from dtest.archive.survey import Survey, survey
from dtest.errors import Conflict, Damaged, Unavailable, UsageError
from dtest.journal.port import Stored

UNFINISHED = "segment.part"
"""Where a segment is written before it has its name: one writer, one such file."""


class ArchiveWriter:
    """Adds segments at the end of one archive."""

    def __init__(self, directory: Path, stream: Stream, manifest: Manifest) -> None:
        self._directory = directory
        self._stream = stream
        self._manifest = manifest

    @property
    def last_seq(self) -> int:
        """The last message in the archive; 0 if there is none."""
        return self._manifest.last_seq

    @property
    def head(self) -> str:
        """See ``Inspection.head``."""
        return self._manifest.head

    def last(self) -> Stored | None:
        """Return the last message in the archive. Raises Damaged."""
        entries = self._manifest.entries
        return read_segment(self._directory, entries[-1])[-1] if entries else None

    def write(self, messages: Sequence[Stored]) -> Entry:
        """Write the messages that follow as one segment.

        Raises Unavailable if the disk does not take it: the archive stays as it was.
        """
        label = Label(
            cell=self._stream.cell,
            stream_created=self._stream.created,
            first_seq=messages[0].seq,
            last_seq=messages[-1].seq,
            messages=len(messages),
            previous=self.head,
        )
        content = encode(label, messages)
        path = self._directory / file_name(label)
        try:
            self._place(path, content)
            entry = entry_of(label, content)
            self._list(entry)
        except OSError as error:
            message = f"{path} cannot be written: {error.strerror}"
            raise Unavailable(message, hint="make room; the next call goes on from here") from error
        return entry

    def _place(self, path: Path, content: bytes) -> None:
        part = self._directory / UNFINISHED
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        _sync(self._directory)

    def _list(self, entry: Entry) -> None:
        with (self._directory / NAME).open("ab") as file:
            file.write(entry.line())
            file.flush()
            os.fsync(file.fileno())
        _sync(self._directory)
        self._manifest.add(entry.line().removesuffix(b"\n"))

    def complete(self, entry: Entry) -> None:
        """List the segment that a killed writer left, instead of a line that it left half."""
        tail = self._manifest.tail
        if tail:
            path = self._directory / NAME
            os.truncate(path, path.stat().st_size - len(tail))
            self._manifest.tail = b""
        self._list(entry)


@contextmanager
def writing(directory: Path, stream: Stream) -> Iterator[ArchiveWriter]:
    """Open an archive for its one writer; it is made if there is none.

    Raises Conflict if it is of another stream or has a writer, Damaged, or UsageError if the
    directory cannot be written to.
    """
    is_new = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if is_new:
            _sync(directory.parent)
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        message = f"{directory} cannot be an archive: {error.strerror}"
        raise UsageError(message) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another process is writing to {directory}"
            raise Conflict(message) from None
        there = survey(directory)
        _check(directory, there, stream)
        writer = ArchiveWriter(directory, stream, there.manifest)
        if there.next is not None:
            writer.complete(there.next)
        yield writer
    finally:
        os.close(descriptor)  # the lock goes with it, as with a killed writer


def _check(directory: Path, there: Survey, stream: Stream) -> None:
    if there.problems:
        message = f"{directory}: {there.problems[0]}"
        hint = "`dtest archive verify` names all that is wrong; write to another directory"
        raise Damaged(message, hint=hint)
    for entry in (*there.manifest.entries[:1], *([there.next] if there.next else [])):
        if entry.label.stream != stream:
            message = (
                f"{directory} is of another stream: it holds {entry.label.stream}; the journal is"
                f" {stream}"
            )
            raise Conflict(message, hint="write to another directory")


def _sync(directory: Path) -> None:
    """Make a new name in a directory outlast a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
