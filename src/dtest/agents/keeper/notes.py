"""Small files that survive the death of whoever writes them: notes of one line, and output."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one line over what is there; readers take the first line, or nothing if it is torn.

    No truncation and no rename: on a busy disk each would wait for the file system's journal.
    """
    write_line(path, json.dumps(content).encode())


def write_line(path: Path, line: bytes) -> None:
    """Write a line at the start of a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    rest = line + b"\n"
    try:
        while rest:  # a disk that is nearly full takes a part
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def open_output(path: Path) -> io.FileIO:
    """Open an empty file that every write appends to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    if os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, 0)
    return io.FileIO(descriptor, "wb")
