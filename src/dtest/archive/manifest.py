"""The manifest of an archive: a line for each segment, in order, chained by hashes.

A line names its segment's checksum and the hash of the line before it, so that no segment can be
removed, exchanged or moved without a trace. The last line's hash speaks for the whole archive:
kept elsewhere, it also shows that no end was cut off. Reads no segment.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from dtest.errors import Damaged
from dtest.events.fields import CellId

FORMAT: Literal["dtest.archive.v1"] = "dtest.archive.v1"
NAME = "manifest.jsonl"
SEGMENTS = "*.parquet"
BEFORE_ALL = "0" * 64
"""What the first line has for the hash of the line before it."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Which journal an archive is of."""

    cell: CellId
    created: str
    """As in ``Bounds.created``."""

    def __str__(self) -> str:
        return f"cell {self.cell}, stream made at {self.created}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a segment says of itself, inside of its file."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    format: Literal["dtest.archive.v1"] = FORMAT
    cell: CellId
    stream_created: str
    first_seq: int
    last_seq: int
    messages: int
    previous: str
    """SHA-256 of the manifest's line before, in hexadecimal digits."""

    @property
    def stream(self) -> Stream:
        """The journal that it is of."""
        return Stream(self.cell, self.stream_created)

    @property
    def span(self) -> str:
        """The messages in it, in words."""
        return f"the messages {self.first_seq} to {self.last_seq}"

    def document(self) -> bytes:
        """Return it as it stands in the file."""
        return orjson.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the manifest."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    file: str
    size_bytes: int
    sha256: str
    """Of the file, in hexadecimal digits."""
    label: Label

    def line(self) -> bytes:
        """Return it as it stands in the manifest, with the end of the line."""
        return orjson.dumps(asdict(self), option=orjson.OPT_APPEND_NEWLINE)


_LABEL: TypeAdapter[Label] = TypeAdapter(Label)
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


def parse_label(text: bytes) -> Label | None:
    """Read what a segment says of itself; none if it says nothing of the kind."""
    try:
        return _LABEL.validate_json(text)
    except ValidationError:
        return None


def entry_of(label: Label, content: bytes) -> Entry:
    """Return the line for a segment with this content."""
    return Entry(
        file=file_name(label), size_bytes=len(content), sha256=hash_of(content), label=label
    )


def file_name(label: Label) -> str:
    """Return the name of a segment: names sort as their messages do."""
    return f"{label.first_seq:020}-{label.last_seq:020}.parquet"


def hash_of(content: bytes) -> str:
    """Return a SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@dataclass(slots=True)
class Manifest:
    """What a manifest says, and what is wrong about it."""

    entries: list[Entry] = field(default_factory=list)
    """The lines that can be read."""
    hashes: list[str] = field(default_factory=list)
    """Of all lines."""
    tail: bytes = b""
    """The beginning of a line whose end is missing: it was not written, or not fully."""
    problems: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The hash that speaks for all of it."""
        return self.hashes[-1] if self.hashes else BEFORE_ALL

    @property
    def last_seq(self) -> int:
        """The last message in it; 0 if there is none."""
        return self.entries[-1].label.last_seq if self.entries else 0

    def add(self, line: bytes) -> None:
        """Take the next line, without its end."""
        number = len(self.hashes) + 1
        entry = _parse(line)
        if entry is None:
            self.problems.append(f"line {number} of {NAME} is no entry: it was changed")
        else:
            self.problems += [f"line {number} of {NAME}: {text}" for text in self._wrong(entry)]
            self.entries.append(entry)
        self.hashes.append(hash_of(line))

    def _wrong(self, entry: Entry) -> Iterator[str]:
        label = entry.label
        if label.previous != self.head:
            yield "it does not follow the line before: one was removed, moved or changed"
        if label.messages < 1 or label.last_seq - label.first_seq + 1 != label.messages:
            yield f"{label.span} are not {label.messages}"
        if entry.file != file_name(label):
            yield f"{label.span} do not belong into {entry.file!r}"
        is_next = self.entries and len(self.entries) == len(self.hashes)
        if is_next and label.first_seq != self.last_seq + 1:
            yield f"{label.first_seq} follows {self.last_seq}"
        if self.entries and label.stream != self.entries[0].label.stream:
            yield f"it is of another stream ({label.stream})"


def _parse(line: bytes) -> Entry | None:
    try:
        entry = _ENTRY.validate_json(line)
    except ValidationError:
        return None
    return entry if entry.line() == line + b"\n" else None


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a directory; an empty one if there is none. Raises Damaged."""
    try:
        content = (directory / NAME).read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        message = f"{directory / NAME} cannot be read: {error.strerror}"
        raise Damaged(message) from error
    *lines, tail = content.split(b"\n")
    manifest = Manifest(tail=tail)
    for line in lines:
        manifest.add(line)
    return manifest
