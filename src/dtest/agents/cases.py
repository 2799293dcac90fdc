"""Reads the report that a test session writes line by line and tells each finished case.

Lines are read by offset: after a restart the whole file is told again, and the journal's readers
know each case by task, attempt and ordinal.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from dtest.agents.outcome import Cases
from dtest.events.attempt import TestcaseFinished
from dtest.events.fields import TaskId, WorkerId

FAILING = frozenset({"failed", "error"})
MESSAGE_CHARS_MAX = 4_000
OUTPUT_CHARS_MAX = 100_000


class CaseReport:
    """The report of one attempt."""

    def __init__(
        self,
        path: Path,
        *,
        attempt: tuple[TaskId, int, WorkerId],
        tell: Callable[[TestcaseFinished], None],
    ) -> None:
        self._path = path
        self._attempt = attempt
        self._tell = tell
        self._offset = 0
        self._rest = b""
        self._ordinal = 0
        self._failed = 0
        self._collection_errors = 0
        self._running: str | None = None
        self._crashed: list[str] = []

    @property
    def cases(self) -> Cases:
        """What was read so far, in sum."""
        return Cases(self._failed, self._collection_errors, self._running, tuple(self._crashed))

    def read(self) -> None:
        """Read what is new and tell it."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            entry: dict[str, Any] = orjson.loads(line)
        except orjson.JSONDecodeError:
            return  # a line that a killed process left torn; the next one is whole
        match entry.get("kind"):
            case "started":
                self._running = str(entry["nodeid"])
            case "case":
                self._case(entry)
            case "crash":
                if entry.get("nodeid"):
                    self._crashed.append(str(entry["nodeid"]))

    def _case(self, entry: dict[str, Any]) -> None:
        self._running = None
        self._ordinal += 1
        outcome, phase = str(entry["outcome"]), str(entry["phase"])
        if outcome in FAILING:
            if phase == "collect":
                self._collection_errors += 1
            else:
                self._failed += 1
        task_id, attempt, worker_id = self._attempt
        self._tell(
            TestcaseFinished(
                task_id,
                attempt,
                worker_id,
                self._ordinal,
                str(entry["nodeid"])[:4096],
                outcome,  # type: ignore[arg-type]  # the session's own vocabulary is the same
                phase,  # type: ignore[arg-type]
                max(0.0, float(entry.get("duration_s") or 0.0)),
                str(entry.get("message") or "")[:MESSAGE_CHARS_MAX],
                str(entry.get("output") or "")[:OUTPUT_CHARS_MAX],
                str(entry.get("file") or ""),
                entry.get("line"),
            )
        )
