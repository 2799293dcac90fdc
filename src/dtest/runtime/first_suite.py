"""The suite that a cell is made for: its caller writes it down while the cell starts.

It is handed in as soon as the cell has a journal, before there is an API that could be asked.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

FILE = "first-suite.json"
ANSWER = "first-suite.seq"


@dataclass(frozen=True, slots=True)
class FirstSuite:
    """What is handed in."""

    document: Mapping[str, Any]
    """Of the suite, with its ``run_id``."""
    known: Mapping[str, Any] | None = None
    """What is known of earlier runs."""


def write_first(directory: Path, first: FirstSuite) -> None:
    """Write it down, whole or not at all."""
    _write(directory / FILE, orjson.dumps(asdict(first)))


def read_first(directory: Path) -> FirstSuite | None:
    """Return it; none while it is not written."""
    try:
        return FirstSuite(**orjson.loads((directory / FILE).read_bytes()))
    except FileNotFoundError:
        return None


def write_answer(directory: Path, seq: int) -> None:
    """Note where in the journal the suite was asked for."""
    _write(directory / ANSWER, str(seq).encode())


def read_answer(directory: Path) -> int | None:
    """Return where it was asked for; none if it was not."""
    try:
        return int((directory / ANSWER).read_bytes())
    except (OSError, ValueError):
        return None


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(content)
    unfinished.replace(path)
