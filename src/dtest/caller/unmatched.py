"""Tasks that no worker of the cell could ever run: found while a run waits, with the nearest miss.

Looks at a sample of the waiting tasks, one for each set of demands. Decides nothing: a worker that
matches may still join.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from dtest.caller.api_client import Asked
from dtest.errors import NoWorkerMatches

SAMPLE_TASKS_MAX = 1000
SAMPLE_DEMANDS_MAX = 20
NEAREST_MAX = 3
_WAITING = ("blocked", "queued", "delayed")
_OF_THE_TASK = frozenset({"waiting_dependency", "backoff_until", "breaker_open"})
"""Reasons to wait that say nothing about workers."""


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Waiting tasks with the same demands."""

    task_id: str
    count: int
    nearest: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is wrong, in words."""
        more = f" and {self.count - 1} more like it" if self.count > 1 else ""
        return f"no worker can ever run {self.task_id}{more}: {'; '.join(self.nearest)}"

    def error(self) -> NoWorkerMatches:
        """Return the error that ends a wait for it."""
        hint = f"start a worker that has it, or `dtest task cancel {self.task_id}`"
        return NoWorkerMatches(self.text, hint=hint)


def unmatched_of(api: Asked, run_id: str) -> Iterator[Unmatched]:
    """Find the tasks of a run that wait for a worker that does not exist."""
    page = api.get("/api/tasks", run_id=run_id, status=list(_WAITING), limit=SAMPLE_TASKS_MAX)
    alike: dict[bytes, list[str]] = {}
    for task in reversed(page["items"]):
        alike.setdefault(_demand(task["document"]), []).append(task["task_id"])
    for names in list(alike.values())[:SAMPLE_DEMANDS_MAX]:
        reasons = api.get(f"/api/tasks/{names[0]}/why")["reasons"]
        if {reason["code"] for reason in reasons} - _OF_THE_TASK == {"no_match"}:
            nearest = [reason["text"] for reason in reasons if reason["code"] == "no_match"]
            yield Unmatched(names[0], len(names), tuple(nearest[:NEAREST_MAX]))


def _demand(document: dict[str, Any]) -> bytes:
    simulable = (document.get("config") or {}).get("simulate") is not None
    wanted = (document["type"], document["requirements"], document["resources"], simulable)
    return orjson.dumps(wanted, option=orjson.OPT_SORT_KEYS)
