"""What the records of a lasting session say, by unit."""

from __future__ import annotations

import os
import time
from typing import Any

from dtest.agents.pytest_session.ledger import (
    Ledger,
    Order,
    Record,
    Running,
    describe_death,
)

TAIL_BYTES_MAX = 16_384
SAID_LINES_MAX = 5


class FedLedger(Ledger):
    """What the records say, by unit."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self.ended_units: list[str] = []
        self.by_unit: dict[str, list[int | str]] = {}
        """Numbers of what has a verdict, and node ids of what has no number."""
        self.deadly_files: list[str] = []
        self.singly = False
        self.cold = False
        self.has_collected = False
        self.closing: Running | None = None
        """The last test, once the session tears down what outlives it."""
        self._unit = ""
        self._collecting: list[str] = []
        self._ahead = False

    @property
    def failed(self) -> bool:
        """Whether a test did not pass."""
        return bool(self._outcomes & {"failed", "error"})

    def done(self) -> dict[str, Any]:
        """What the next pytest is to leave out."""
        return {
            "units": self.ended_units,
            "reported": self.by_unit,
            "files": self.deadly_files,
            "singly": self.singly,
            "cold": self.cold,
        }

    def blame_import(self, exit_code: int) -> bool:
        """Lay a death at the door of the file that was imported; say whether that was possible."""
        files, self._collecting = self._collecting, []
        if files and self._ahead and not self.cold:
            self.cold = True  # if anybody asks for this file, it will be laid at its door
        elif files and self._ahead:
            self.deadly_files += files  # whoever collects the suite tells it
        elif len(files) > 1:
            self.singly = True  # the next pytest finds out which of them it is
        elif files:
            self.deadly_files.append(files[0])
            imported = Running(None, files[0], time.perf_counter())
            self.add_error(imported, f"its import {describe_death(exit_code)}", phase="collect")
        return bool(files)

    def blame_closing(self, exit_code: int, *, why: str, output: str) -> bool:
        """Lay a death at the door of what the last test left to tear down."""
        last, self.closing = self.closing, None
        if last is not None:
            told = why or describe_death(exit_code)
            self.add_error(last, f"{told}, after the last test", phase="teardown", output=output)
        return last is not None

    def _take(self, record: Record) -> None:
        super()._take(record)
        kind = record["kind"]
        if kind == "begin":
            self._unit = record["unit"]
        elif kind == "case" and (record["number"] is not None or record["phase"] != "collect"):
            told = record["number"] if record["number"] is not None else record["nodeid"]
            self.by_unit.setdefault(self._unit, []).append(told)
        elif kind == "unit":
            self.ended_units.append(record["unit"])
            self.by_unit.pop(record["unit"], None)
        elif kind == "collecting":
            self._collecting = record["files"]
            self._ahead = record.get("ahead", False)
        elif kind == "collected":
            self.has_collected = True
            self._collecting = []
        elif kind == "closing":
            self.closing = Running(record["number"], record["nodeid"], time.perf_counter())


def written_bytes() -> int:
    """Return how much this process and its children have written; 0 where that is no file."""
    try:
        return os.fstat(1).st_size
    except OSError:
        return 0


def written_after(offset: int) -> str:
    """Return what was written from there on, as far as it can be read again."""
    try:
        with open("/proc/self/fd/1", "rb") as file:
            file.seek(offset)
            return file.read(TAIL_BYTES_MAX).decode("utf-8", "replace")
    except OSError:  # not a file, or another system
        return ""


def last_words(text: str) -> str:
    """Return the last lines of what was written, as one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith("dtest:")]
    return "; ".join(own[-SAID_LINES_MAX:])
