"""A tree as sorted entries with the digests of its content; its canonical bytes name it.

Pure. A manifest comes from outside, too: whatever would leave the tree, or write through a link, is
refused when it is read.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dtest.errors import InvalidDocument

CHUNK_BYTES = 512 << 10
"""Files are cut here: a part fits in one message, and of a large file only what changed travels."""
FILES_MAX = 100_000
FILE_BYTES_MAX = 1 << 30
TREE_BYTES_MAX = 4 << 30
PATH_BYTES_MAX = 1_024
NAME_BYTES_MAX = 255
TARGET_BYTES_MAX = 4_095
FORMAT = 1
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """A plain file. Of its mode only one bit matters, as in git."""

    path: str
    size_bytes: int
    chunks: tuple[str, ...]
    """SHA-256 of each part of ``CHUNK_BYTES``, in hexadecimal; none if the file is empty."""
    is_executable: bool = False

    def part_bytes(self, place: int) -> int:
        """Return the size of one of its parts."""
        return min(CHUNK_BYTES, self.size_bytes - place * CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, wherever it leads: as in git, its text is kept and not followed."""

    path: str
    target: str


Entry = File | Link


@dataclass(frozen=True, slots=True)
class Manifest:
    """A tree, sorted by the bytes of its paths. Made by ``manifest_of`` and ``parse_manifest``."""

    entries: tuple[Entry, ...]

    def encoded(self) -> bytes:
        """Return the canonical bytes: one form for one tree."""
        rows = [_row(entry) for entry in self.entries]
        document = {"dtest_workspace": FORMAT, "entries": rows}
        return json.dumps(document, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """The name of the tree: SHA-256 of its canonical bytes."""
        return hashlib.sha256(self.encoded()).hexdigest()

    @property
    def files(self) -> tuple[File, ...]:
        """The plain files."""
        return tuple(entry for entry in self.entries if isinstance(entry, File))

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def chunks(self) -> frozenset[str]:
        """The digests of all content."""
        return frozenset(chunk for file in self.files for chunk in file.chunks)

    def file(self, path: str) -> File | None:
        """Return the plain file at a path."""
        return next((file for file in self.files if file.path == path), None)


def manifest_of(entries: Iterable[Entry]) -> Manifest:
    """Return a tree of entries in any order. Raises InvalidDocument."""
    listed = list(entries)
    for entry in listed:
        _check(entry)
    ordered = tuple(sorted(listed, key=lambda entry: _raw(entry.path)))
    _check_whole(ordered)
    return Manifest(ordered)


def parse_manifest(content: bytes) -> Manifest:
    """Read canonical bytes. Raises InvalidDocument for any others, whatever they hold."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        message = f"a manifest is JSON, this is not: {error}"
        raise InvalidDocument(message) from error
    match document:
        case {"dtest_workspace": 1, "entries": [*rows]}:
            manifest = manifest_of(_entry(row) for row in rows)
        case _:
            message = f"this is no manifest of format {FORMAT}"
            raise InvalidDocument(message, hint="ship the tree again with this version of dtest")
    if manifest.encoded() != content:
        message = "the manifest is not in its canonical form"
        raise InvalidDocument(message, hint="see docs/workspaces.md")
    return manifest


def _row(entry: Entry) -> list[Any]:
    if isinstance(entry, Link):
        return ["l", entry.path, entry.target]
    kind = "x" if entry.is_executable else "f"
    return [kind, entry.path, entry.size_bytes, list(entry.chunks)]


def _entry(row: object) -> Entry:
    match row:
        case ["l", str(path), str(target)]:
            return Link(path, target)
        case ["f" | "x" as kind, str(path), int(size_bytes), [*chunks]] if not isinstance(
            size_bytes, bool
        ) and all(isinstance(chunk, str) for chunk in chunks):
            return File(path, size_bytes, tuple(map(str, chunks)), kind == "x")
        case _:
            message = f"{str(row)[:200]} is no entry of a manifest"
            raise InvalidDocument(message)


def _raw(text: str) -> bytes:
    """Return the bytes of a name as the file system has them. Raises InvalidDocument."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        message = f"{text!r} cannot be the name of a file"
        raise InvalidDocument(message) from error


def _check(entry: Entry) -> None:
    check_path(entry.path)
    if isinstance(entry, Link):
        if not entry.target or "\0" in entry.target or len(_raw(entry.target)) > TARGET_BYTES_MAX:
            message = f"{entry.path!r}: a link cannot lead to {entry.target[:100]!r}"
            raise InvalidDocument(message)
        return
    if not 0 <= entry.size_bytes <= FILE_BYTES_MAX:
        message = f"{entry.path!r} has {entry.size_bytes} bytes; a file may have {FILE_BYTES_MAX}"
        raise InvalidDocument(message, hint="leave it out: have git ignore it")
    if len(entry.chunks) != -(-entry.size_bytes // CHUNK_BYTES):
        message = f"{entry.path!r}: {len(entry.chunks)} parts do not make {entry.size_bytes} bytes"
        raise InvalidDocument(message)
    for chunk in entry.chunks:
        if not DIGEST.fullmatch(chunk):
            message = f"{entry.path!r}: {chunk[:100]!r} is no SHA-256 in hexadecimal"
            raise InvalidDocument(message)


def check_path(path: str) -> None:
    """Refuse a path that is not relative, plain, and inside of the tree."""
    raw = _raw(path)
    names = raw.split(b"/")
    if b"\0" in raw or any(name in (b"", b".", b"..") for name in names):
        message = f"{path[:200]!r} is no plain path inside of a tree"
        raise InvalidDocument(message, hint="paths are relative, without `.` and `..`")
    if len(raw) > PATH_BYTES_MAX or max(map(len, names)) > NAME_BYTES_MAX:
        message = f"{path[:200]!r}... is too long: a path may have {PATH_BYTES_MAX} bytes"
        raise InvalidDocument(message, hint=f"each of its names at most {NAME_BYTES_MAX}")


def _check_whole(entries: tuple[Entry, ...]) -> None:
    if len(entries) > FILES_MAX:
        message = f"the tree has {len(entries)} files; at most {FILES_MAX} are taken"
        raise InvalidDocument(message, hint="give paths, or have git ignore what is not needed")
    paths = {entry.path for entry in entries}
    if len(paths) != len(entries):
        message = "a path stands twice in the tree"
        raise InvalidDocument(message)
    for entry in entries:
        for parent in _parents(entry.path):
            if parent in paths:
                message = f"{entry.path!r} lies below {parent!r}, which is no directory"
                raise InvalidDocument(message)
    size_bytes = sum(entry.size_bytes for entry in entries if isinstance(entry, File))
    if size_bytes > TREE_BYTES_MAX:
        message = f"the tree has {size_bytes} bytes; at most {TREE_BYTES_MAX} are taken"
        raise InvalidDocument(message, hint="give paths, or have git ignore what is not needed")


def _parents(path: str) -> Iterator[str]:
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)
