"""Parts of files on the worker's disk: named by their digest, checked when they are read, bounded.

Several agents of a machine share them. What is damaged or gone is fetched anew; nothing is lost by
deleting all of it.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SCAN_AFTER = 0.05
"""Part of the bound that may be added before everything is counted again."""
SHRINK_TO = 0.9
"""Of the bound: so that not every part that is added costs a count."""
TOUCH_AFTER_S = 600.0
"""A use is noted if the last note is older: each costs the file system a write."""


class Lost(Exception):
    """A part is not here, or not what it was."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


class PartCache:
    """The least recently used go first."""

    def __init__(self, root: Path, *, bytes_max: int, now: Callable[[], float]) -> None:
        self.root = root
        self._parts = root / "parts"
        self._parts.mkdir(parents=True, exist_ok=True)
        self._bytes_max = bytes_max
        self._now = now
        self._added_bytes: float = bytes_max  # so that the first look counts what is there
        self._in_use: Counter[str] = Counter()

    def has(self, digest: str) -> bool:
        """Say whether a part is here, damaged or not."""
        return self._path(digest).exists()

    def read(self, digest: str) -> bytes:
        """Return a part, and count it as used. Raises Lost."""
        path = self._path(digest)
        try:
            with path.open("rb") as file:
                content = file.read()
                if os.fstat(file.fileno()).st_mtime < self._now() - TOUCH_AFTER_S:
                    os.utime(path)
        except FileNotFoundError as error:
            raise Lost(digest) from error
        if hashlib.sha256(content).hexdigest() != digest:
            path.unlink(missing_ok=True)
            raise Lost(digest)
        return content

    def add(self, digest: str, content: bytes) -> None:
        """Keep a part that was checked. Raises OSError.

        No file beside it and no renaming, which would take several times as long: one that
        somebody left half-written, or is writing, is found out when it is read.
        """
        path = self._path(digest)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError:
            return
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._added_bytes += len(content)

    @contextmanager
    def using(self, digests: Iterable[str]) -> Iterator[None]:
        """Keep parts from being removed by this process meanwhile."""
        held = list(digests)
        self._in_use.update(held)
        try:
            yield
        finally:
            self._in_use.subtract(held)
            self._in_use += Counter()  # forgets those that stand at nought

    def shrink(self) -> int:
        """Remove what is too much, if that has to be looked at by now; return the bytes removed."""
        if self._added_bytes < self._bytes_max * SCAN_AFTER:
            return 0
        self._added_bytes = 0.0
        found = sorted(self._listed())
        size_bytes = sum(size for _, size, _ in found)
        if size_bytes <= self._bytes_max:
            return 0
        removed = 0
        for _, size, path in found:
            if size_bytes - removed <= self._bytes_max * SHRINK_TO:
                break
            if path.name not in self._in_use:
                path.unlink(missing_ok=True)
                removed += size
        return removed

    def _listed(self) -> Iterator[tuple[int, int, Path]]:
        """Yield the instant of its last use, the size and the path of each part."""
        with os.scandir(self._parts) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    seen = entry.stat()
                    yield seen.st_mtime_ns, seen.st_size, Path(entry.path)

    def _path(self, digest: str) -> Path:
        return self._parts / digest
