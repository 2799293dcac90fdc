"""Reads a tree into a manifest, and its parts again when they are to be sent.

What did not change since it was last read is not read again: size, times and inode tell.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from dtest.errors import InvalidDocument, UsageError
from dtest.workspaces.manifest import (
    CHUNK_BYTES,
    FILE_BYTES_MAX,
    Entry,
    File,
    Link,
    Manifest,
    manifest_of,
)

RACY_NS = 2_000_000_000
"""A file that was changed so shortly before it was read may change again within one tick."""
CACHE_FORMAT = 1


class Changed(Exception):
    """A file is not what it was a moment ago."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree as it was read."""

    root: Path
    manifest: Manifest
    files_read: int
    """Files whose content had to be read."""

    def parts(self, digests: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the content of parts. Raises Changed if a file is another one by now."""
        wanted = set(digests)
        for file in self.manifest.files:
            here = [place for place, chunk in enumerate(file.chunks) if chunk in wanted]
            if here:
                yield from self._parts_of(file, here, wanted)

    def _parts_of(
        self, file: File, places: list[int], wanted: set[str]
    ) -> Iterator[tuple[str, bytes]]:
        try:
            with _opened(self.root / file.path) as content:
                for place in places:
                    digest = file.chunks[place]
                    if digest not in wanted:
                        continue
                    content.seek(place * CHUNK_BYTES)
                    raw = content.read(CHUNK_BYTES)
                    if hashlib.sha256(raw).hexdigest() != digest:
                        raise Changed(file.path)
                    wanted.discard(digest)
                    yield digest, raw
        except OSError as error:
            raise Changed(file.path) from error


@dataclass(slots=True)
class StatCache:
    """What files held when they were last read, by what ``stat`` said of them."""

    path: Path | None
    known: dict[str, tuple[list[int], list[str]]] = field(default_factory=dict)
    fresh: dict[str, tuple[list[int], list[str]]] = field(default_factory=dict)

    def load(self) -> None:
        """Read it from disk; a damaged one is none."""
        if self.path is None:
            return
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(self.path.read_bytes())
            if content["format"] == CACHE_FORMAT:
                self.known = {name: (seen, chunks) for name, (seen, chunks) in content["files"]}

    def save(self) -> None:
        """Write it to disk as far as that is possible: it saves time, nothing else."""
        if self.path is None or self.fresh == self.known:
            return
        files = list(self.fresh.items())
        content = json.dumps({"format": CACHE_FORMAT, "files": files}, separators=(",", ":"))
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            beside.write_text(content)
            beside.replace(self.path)


def read_tree(
    root: Path, paths: Iterable[str], *, now: float, cache: Path | None = None
) -> Snapshot:
    """Return the manifest of files and links below ``root``.

    ``now`` is seconds since 1970; ``cache`` a file that keeps what was read. Raises UsageError for
    what cannot be shipped.
    """
    noted = StatCache(cache)
    noted.load()
    reading = _Reading(root, noted, int(now * 1e9))
    entries = [entry for path in paths if (entry := reading.entry(path)) is not None]
    try:
        manifest = manifest_of(entries)
    except InvalidDocument as error:
        message = f"{root} cannot be shipped: {error.message}"
        raise UsageError(message, hint=error.hint) from error
    noted.save()
    return Snapshot(root, manifest, reading.count)


@dataclass(slots=True)
class _Reading:
    root: Path
    cache: StatCache
    now_ns: int
    count: int = 0

    def entry(self, name: str) -> Entry | None:
        """Return a path as it is now; none if it has just been removed."""
        path = os.path.join(self.root, name)  # noqa: PTH118 - a third of the time of a Path
        try:
            seen = os.lstat(path)
            if stat.S_ISLNK(seen.st_mode):
                return Link(name, os.readlink(path))  # noqa: PTH115 - as above
            if not stat.S_ISREG(seen.st_mode):
                message = f"{path} is neither a file nor a link; such things are not shipped"
                raise UsageError(message, hint="remove it, give paths, or have git ignore it")
            return self._file(name, path, seen)
        except FileNotFoundError:
            return None
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            raise UsageError(message) from error

    def _file(self, name: str, path: str, seen: os.stat_result) -> File:
        if seen.st_size > FILE_BYTES_MAX:
            message = f"{path} has {seen.st_size} bytes; a file may have {FILE_BYTES_MAX}"
            raise UsageError(message, hint="give paths, or have git ignore it")
        look = [seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino]
        known = self.cache.known.get(name)
        if known is not None and known[0] == look:
            chunks = known[1]
        else:
            chunks, look = self._read(path)
        if max(look[1], look[2]) < self.now_ns - RACY_NS:
            self.cache.fresh[name] = (look, chunks)
        return File(name, look[0], tuple(chunks), bool(seen.st_mode & stat.S_IXUSR))

    def _read(self, path: str) -> tuple[list[str], list[int]]:
        self.count += 1
        chunks: list[str] = []
        with _opened(path) as content:
            size = 0
            while raw := content.read(CHUNK_BYTES):
                chunks.append(hashlib.sha256(raw).hexdigest())
                size += len(raw)
            seen = os.fstat(content.fileno())
        return chunks, [size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino]


def _opened(path: Path | str) -> BinaryIO:
    """Open a plain file, and nothing that a link leads to."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
