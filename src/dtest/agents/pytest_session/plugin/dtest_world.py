"""What a session needs of the world, taken before any test can change it.

Suites stop clocks, forbid sleep and put another file system in the place of the real one, for a
test or for a whole session. Tools for that replace names in every module that is loaded; what a
class holds they leave alone. The wall clock cannot be kept (some replace it below Python), so
records carry the monotonic one, and whoever reads them says when that was.
PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Callable

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours


class World:
    """The real clock and the real file system, whatever the suite has made of them."""

    now: Callable[[], float] = staticmethod(time.perf_counter)
    """Seconds on a clock that all processes of the machine share (CLOCK_MONOTONIC)."""
    sleep: Callable[[float], None] = staticmethod(time.sleep)
    pid: Callable[[], int] = staticmethod(os.getpid)
    _open: Callable[..., int] = staticmethod(os.open)
    _write: Callable[[int, bytes], int] = staticmethod(os.write)
    _read: Callable[[int, int, int], bytes] = staticmethod(os.pread)
    _close: Callable[[int], None] = staticmethod(os.close)
    loads: Callable[[bytes], Any] = staticmethod(json.loads)
    _dumps: Callable[..., str] = staticmethod(json.dumps)
    _append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    _anew = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    _reading = os.O_RDONLY
    own_pid = os.getpid()
    """Of the session: a test may fork, and its child may come back into pytest."""

    @classmethod
    def put(cls, path: str, record: dict[str, Any], *, anew: bool = False) -> None:
        """Append a record to a file, or make it all that the file holds.

        Raises OSError. A process that a test forked writes nothing.
        """
        if cls.pid() != cls.own_pid:
            return
        # Half of a pair of surrogates is no text, and the agent could not read the line.
        data = cls._dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        # Opened for each record, so that tests which close or count descriptors are left in peace;
        # written in one call, so that being killed never leaves half of a record of ours.
        target = cls._open(path, cls._anew if anew else cls._append, 0o644)
        try:
            written = cls._write(target, data)
        finally:
            cls._close(target)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes fitted into {path}; disk full?")

    @classmethod
    def lines_after(cls, path: str, offset: int) -> tuple[int, list[bytes]]:
        """Return the whole lines of a file from an offset on, and where the next one begins."""
        try:
            source = cls._open(path, cls._reading)
        except FileNotFoundError:
            return offset, []
        try:
            pieces = []
            at = offset
            while True:
                piece = cls._read(source, 1 << 20, at)
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
        finally:
            cls._close(source)
        data = b"".join(pieces)
        whole = data[: data.rfind(b"\n") + 1]  # what follows is still being written
        return offset + len(whole), whole.splitlines()
