"""A cell that outlives its call for the next one: who uses it, and what it must not outlive.

Caller and supervisor share one file, ``caller.lock`` in the cell's directory. The caller holds a
lock on it, which the kernel gives back when it dies, and leaves its will in it when it is done.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

PLACE = ".kept"
"""In the state directory: the directories of all kept cells, named by machine, call and conditions.
No cell can have this name."""
FILE = "caller.lock"

Identity = list[int] | None
"""Names the content of a file, or a directory whatever is in it; none where there is nothing."""
Watched = dict[str, Identity]
"""By path."""


def identities(paths: Iterable[Path]) -> Watched:
    """Return what stands at the paths now."""
    return {str(path): _identity(path) for path in paths}


def _identity(path: Path) -> Identity:
    try:
        found = path.stat()
    except OSError:
        return None
    own = [found.st_dev, found.st_ino]
    return own if path.is_dir() else [*own, found.st_size, found.st_mtime_ns]


def is_unchanged(watched: Watched) -> bool:
    """Say whether all that is watched is as it was."""
    return identities(map(Path, watched)) == watched


def remove_at_once(directory: Path) -> None:
    """Remove a directory at one stroke: somebody may make it anew in the same moment."""
    going = directory.with_name(f".{directory.name}-{os.getpid()}")
    directory.rename(going)
    shutil.rmtree(going, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Will:
    """What a caller wants of the cell that it leaves."""

    place: str
    """The directory whose suite it ran."""
    keep_s: float | None = None
    """How long the cell is to wait for the next caller. None: the caller has not said, for it is
    there, or it died."""


class CallerLock:
    """The right to use a kept cell: one caller's at a time, and its supervisor's when it ends."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Take the right if nobody has it; say so. Raises OSError if the file cannot be made."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_the_one = os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except OSError:  # somebody has it, or has removed it meanwhile
            is_the_one = False
        if not is_the_one:
            file.close()
            return False
        self._file = file
        return True

    def will(self) -> Will | None:
        """Return what the last caller left; none if nothing can be read."""
        try:
            return Will(**json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def stamp(self) -> int:
        """Return what changes whenever somebody leaves a will."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def leave(self, will: Will) -> None:
        """Write down what the caller wants. Needs the right."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(json.dumps(asdict(will)))
            self._file.flush()

    def give_back(self) -> None:
        """Let others have the right."""
        if self._file is not None:
            self._file.close()
            self._file = None
