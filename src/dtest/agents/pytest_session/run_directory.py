"""Temporary directories of a run: below one that belongs to this run alone, as xdist has it.

The latest runs stay, as pytest itself keeps them; an older one goes when none of its sessions
runs any more, which their locks tell.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import shutil
import tempfile

KEPT_RUNS = 3
PREFIX = "dtest-"
LOCK = "session-"


class RunDirectory:
    """The directory, for as long as this session is there."""

    def __init__(self, run: str, worker: str) -> None:
        """Make it if it is not there. Raises OSError."""
        root = os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir()
        self._root = os.path.join(os.path.realpath(root), f"pytest-of-{_user()}")
        self.path = os.path.join(self._root, f"{PREFIX}{run}")
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        self._lock = _locked(os.path.join(self.path, f"{LOCK}{worker}.lock"))

    def tidy(self) -> None:
        """Remove the directories of runs that nobody needs any more."""
        with contextlib.suppress(OSError):
            names = [name for name in os.listdir(self._root) if name.startswith(PREFIX)]
            paths = [os.path.join(self._root, name) for name in names]
            for path in sorted(paths, key=os.path.getmtime)[:-KEPT_RUNS]:
                if not _is_used(path):
                    shutil.rmtree(path, ignore_errors=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def _locked(path: str) -> int | None:
    """Hold a lock until the process ends, however that is."""
    lock = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # where files cannot be locked, nothing is removed in error
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return lock


def _is_used(path: str) -> bool:
    names = [name for name in os.listdir(path) if name.startswith(LOCK)]
    for name in names:
        lock = os.open(os.path.join(path, name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
    return not names
