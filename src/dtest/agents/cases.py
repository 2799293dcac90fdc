"""Reads the report that a test session writes line by line and tells each finished case.

Only whole lines are taken: the session cuts off what a crash left torn. After a restart the whole
file is told again, and the journal's readers know each case by task, attempt and ordinal.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog
from pydantic import TypeAdapter, ValidationError

from dtest.agents.device_faults import device_fault
from dtest.agents.outcome import Cases
from dtest.events.attempt import TestcaseFinished
from dtest.events.fields import TaskId, WorkerId
from dtest.events.problem import explain
from dtest.events.reasons import Reason

log = structlog.get_logger()

FAILING = frozenset({"failed", "error"})
NODEID_CHARS_MAX = 262_144
PROPERTIES_MAX = 1_000
MESSAGE_CHARS_MAX = 4_000
OUTPUT_CHARS_MAX = 100_000
_CASE: TypeAdapter[TestcaseFinished] = TypeAdapter(TestcaseFinished)


class CaseReport:
    """The report of one attempt; ``heard`` takes what it says of units and of the suite."""

    def __init__(
        self,
        path: Path,
        *,
        attempt: tuple[TaskId, int, WorkerId],
        tell: Callable[[TestcaseFinished], None],
        heard: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._path = path
        self._heard = heard
        self._ended = ("", "")
        self._attempt = attempt
        self._tell = tell
        self._offset = 0
        self._ordinal = 0
        self._failed = 0
        self._skipped = 0
        self._collection_errors = 0
        self._running: str | None = None
        self._crashed: list[str] = []
        self._device_faults: Counter[Reason] = Counter()

    @property
    def cases(self) -> Cases:
        """What was read so far, in sum."""
        return Cases(
            self._failed,
            self._collection_errors,
            self._running,
            tuple(self._crashed),
            self._skipped,
            self._device_faults,
            *self._ended,
        )

    def read(self) -> None:
        """Read what is new and tell it."""
        try:
            if self._path.stat().st_size == self._offset:  # a quarter of what opening costs
                return
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            return  # a line that a killed process left torn; the next one is whole
        match entry:
            case {"kind": "started", "nodeid": str(nodeid)}:
                self._running = nodeid
            case {"kind": "case"}:
                self._case(entry)
            case {"kind": "crash", "nodeid": str(nodeid)}:
                self._crashed.append(nodeid)
            case {"kind": "ended", "how": str(how), "text": str(text)}:
                self._ended = (how, text[:MESSAGE_CHARS_MAX])
            case {"unit": str()} | {"kind": "collected"} if self._heard is not None:
                self._heard(entry)

    def _case(self, entry: dict[str, Any]) -> None:
        task_id, attempt, worker_id = self._attempt
        content = {
            "task_id": task_id,
            "attempt": attempt,
            "worker_id": worker_id,
            "ordinal": self._ordinal + 1,
            "nodeid": str(entry.get("nodeid"))[:NODEID_CHARS_MAX],
            "outcome": entry.get("outcome"),
            "phase": entry.get("phase"),
            "duration_s": entry.get("duration_s") or 0.0,
            "message": str(entry.get("message") or "")[:MESSAGE_CHARS_MAX],
            "output": str(entry.get("output") or "")[:OUTPUT_CHARS_MAX],
            "file": str(entry.get("file") or ""),
            "line": entry.get("line"),
            # A plan numbers the tests of sessions that are fed by it; others count for themselves.
            "number": entry.get("number") if self._heard is not None else None,
            "properties": _properties(entry.get("properties")),
            "suite_properties": _properties(entry.get("suite_properties")),
        }
        try:
            case = _CASE.validate_python(content)
        except ValidationError as error:
            log.warning("case_not_understood", task_id=task_id, problem=explain(error))
            return
        self._ordinal += 1
        self._running = None
        if case.outcome in FAILING:
            if case.phase == "collect":
                self._collection_errors += 1
            else:
                self._failed += 1
                fault = device_fault(case.message)
                if fault is not None:
                    self._device_faults[fault] += 1
        elif case.outcome == "skipped":
            self._skipped += 1
        self._tell(case)


def _properties(told: object) -> list[dict[str, str]]:
    found = told if isinstance(told, list) else []
    return [
        {"name": str(name)[:MESSAGE_CHARS_MAX], "value": str(value)[:MESSAGE_CHARS_MAX]}
        for name, value in found[:PROPERTIES_MAX]
    ]
