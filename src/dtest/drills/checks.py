"""What must hold after a drill, worked out from raw messages alone. Pure.

Shares no code with the fold, the deciders or the audit: it reads JSON by the published form and
knows one task at a time. A fault of theirs is not repeated here.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dtest.journal.port import Stored

_PREFIX, _SUFFIX = "dev.dtest.", ".v1"
_LEAST = {"slots": 1.0, "cpus": 0.0, "memory_gb": 0.0}
"""What a task reserves that says nothing of it."""
_HAS = {"slots": 1.0, "cpus": 1.0, "memory_gb": 0.0}
"""What a worker has that says nothing of it."""
_ROUNDING = 1e-6
_VERDICTS = frozenset({"passed", "failed", "cancelled"})


@dataclass(slots=True)
class Attempt:
    """One execution, as far as it was told."""

    worker_id: str
    outcome: str = ""
    """Of its first report while it was the live one."""
    is_begun: bool = False
    """It was started, or was to be stopped: more than handed over."""
    void: bool = False
    """Given away: what it reports afterwards counts for nothing."""


@dataclass(slots=True)
class Life:
    """What happened to one task."""

    takes: dict[str, float] = field(default_factory=dict)
    """What an attempt of it reserves: slots, cpus, memory_gb."""
    attempts: dict[int, Attempt] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    """How it ended, each time: once, if all is well."""
    is_provisional: bool = False
    """It ended by an attempt that did not pass: the leader may still decide otherwise."""

    @property
    def is_over(self) -> bool:
        """Say whether it is in a terminal state."""
        return bool(self.ends)


@dataclass(slots=True)
class Findings:
    """What the messages show."""

    tasks: dict[str, Life] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    duplicated: int = 0
    late_reports: int = 0
    faulted: int = 0
    """Attempts that the infrastructure ended."""
    epochs: list[int] = field(default_factory=list)

    def lost(self, acknowledged: Iterable[str]) -> list[str]:
        """Return the tasks that a client was told are stored and that never ended."""
        return [name for name in acknowledged if name not in self.tasks or self._is_open(name)]

    def _is_open(self, name: str) -> bool:
        return not self.tasks[name].is_over


def events_of(stored: Stored) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield type and data of each event of a message; nothing for what is no event."""
    try:
        content = json.loads(stored.payload)
    except ValueError:
        return
    for event in content if isinstance(content, list) else [content]:
        if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
            continue
        kind = str(event.get("type", ""))
        if kind.startswith(_PREFIX) and kind.endswith(_SUFFIX):
            yield kind[len(_PREFIX) : -len(_SUFFIX)], event["data"]


class Ledger:
    """Reads a journal's messages in order and keeps the books."""

    def __init__(self, refused: frozenset[int] = frozenset()) -> None:
        self.findings = Findings()
        self._refused = refused
        self._suspected: set[str] = set()
        self._present: dict[str, str] = {}
        """Workers that are there, with their incarnation."""
        self._has: dict[str, dict[str, float]] = {}
        self._running: dict[str, set[str]] = {}
        """Tasks with a live attempt, by worker."""
        self._seq = 0

    def take(self, stored: Stored) -> None:
        """Read the next message."""
        if stored.seq != self._seq + 1:
            self._violated(f"message {stored.seq} follows {self._seq}")
        self._seq = stored.seq
        if stored.seq in self._refused:
            return
        for kind, data in events_of(stored):
            self._read(kind, data, stored)

    def _read(self, kind: str, data: dict[str, Any], stored: Stored) -> None:
        match stored.subject.split(".")[2], kind:
            case "scheduler", "leader.elected":
                self.findings.epochs.append(stored.seq)
            case "client", "task.queued":
                takes = {
                    name: float(data.get("resources", {}).get(name, least))
                    for name, least in _LEAST.items()
                }
                self.findings.tasks.setdefault(str(data["task_id"]), Life(takes))
            case "work", "attempt.assigned":
                self._assigned(data)
            case "agent", "attempt.finished":
                self._finished(data)
            case _, "attempt.started" | "attempt.stop_requested":
                if data.get("reason") != "worker_lost":  # meant for one that was given away
                    self._begun(data)
            case _, "attempt.returned" | "attempt.refused" | "attempt.released":
                self._given_away(kind, data)
            case "scheduler", "task.ended":
                self._ended(data)
            case ("client", "task.retry_requested") | ("scheduler", "task.retry_scheduled"):
                self._again(kind, data)
            case _, ("worker.registered" | "worker.suspected" | "worker.lost" | "worker.left"):
                self._worker(kind, data)
            case _:
                pass

    def _violated(self, text: str) -> None:
        self.findings.violations.append(text)

    def _life(self, data: dict[str, Any]) -> Life | None:
        return self.findings.tasks.get(str(data["task_id"]))

    def _assigned(self, data: dict[str, Any]) -> None:
        life, number = self._life(data), int(data["attempt"])
        if self._present.get(str(data["worker_id"])) != data["incarnation"]:
            return  # the worker has gone in the meantime: nobody reads this
        if life is None:
            self._violated(f"{data['task_id']} is assigned and was never queued")
        elif number in life.attempts or number != len(life.attempts) + 1:
            self._violated(f"attempt {data['task_id']}.{number} comes twice, or out of turn")
        elif life.is_over:
            self.findings.duplicated += 1
            self._violated(f"{data['task_id']} is assigned again after it ended: {life.ends}")
        else:
            life.attempts[number] = Attempt(str(data["worker_id"]))
            self._reserve(str(data["worker_id"]), str(data["task_id"]))

    def _reserve(self, worker_id: str, task_id: str) -> None:
        running = self._running.setdefault(worker_id, set())
        running.add(task_id)
        for name, has in self._has[worker_id].items():
            taken = sum(self.findings.tasks[each].takes[name] for each in running)
            if taken > has + _ROUNDING:
                self._violated(f"{worker_id} has {has:g} {name}, and {taken:g} are taken")

    def _release(self, data: dict[str, Any], attempt: Attempt) -> None:
        self._running.get(attempt.worker_id, set()).discard(str(data["task_id"]))

    def _finished(self, data: dict[str, Any]) -> None:
        life, number = self._life(data), int(data["attempt"])
        if life is None:
            return
        attempt = life.attempts.get(number)
        if attempt is None or attempt.void or attempt.outcome or number != len(life.attempts):
            self.findings.late_reports += 1
            return
        attempt.outcome = str(data["outcome"])
        self._release(data, attempt)
        self.findings.faulted += attempt.outcome == "faulted"
        if attempt.outcome in _VERDICTS:
            self._end(data, life, attempt.outcome)
            life.is_provisional = attempt.outcome != "passed"

    def _given_away(self, kind: str, data: dict[str, Any]) -> None:
        life = self._life(data)
        attempt = life.attempts.get(int(data["attempt"])) if life is not None else None
        if attempt is None or attempt.outcome or attempt.void:
            return
        if kind != "attempt.returned" or not attempt.is_begun:  # what began is not taken back
            attempt.void = True
            self._release(data, attempt)

    def _begun(self, data: dict[str, Any]) -> None:
        life = self._life(data)
        attempt = life.attempts.get(int(data["attempt"])) if life is not None else None
        if attempt is not None and attempt.worker_id == data["worker_id"]:
            attempt.is_begun = True

    def _worker(self, kind: str, data: dict[str, Any]) -> None:
        """Void what ran on a worker that is gone, or that came back without it."""
        worker_id, incarnation = str(data["worker_id"]), str(data["incarnation"])
        present = self._present.get(worker_id)
        if kind == "worker.registered":
            self._suspected.discard(worker_id)
            self._present[worker_id] = incarnation
            self._has[worker_id] = {
                name: float(data["capability"].get(name, least)) for name, least in _HAS.items()
            }
            held = {(str(one["task_id"]), int(one["attempt"])) for one in data.get("held", ())}
            self._void(worker_id, held, begun_only=present == incarnation)
        elif present != incarnation:
            return
        elif kind == "worker.suspected":
            self._suspected.add(worker_id)
        elif kind == "worker.left" or worker_id in self._suspected:
            del self._present[worker_id]
            self._void(worker_id, set(), begun_only=False)

    def _void(self, worker_id: str, held: set[tuple[str, int]], *, begun_only: bool) -> None:
        for name in list(self._running.get(worker_id, ())):
            attempts = self.findings.tasks[name].attempts
            latest = attempts[len(attempts)]
            if (name, len(attempts)) not in held and (latest.is_begun or not begun_only):
                latest.void = True
                self._running[worker_id].discard(name)

    def _ended(self, data: dict[str, Any]) -> None:
        life = self._life(data)
        if life is None:
            return
        if life.is_provisional:
            life.ends.clear()
            life.is_provisional = False
        self._end(data, life, str(data["status"]))

    def _again(self, kind: str, data: dict[str, Any]) -> None:
        """What has ended without passing begins anew by its policy, or when somebody asks."""
        life = self._life(data)
        if life is None or not life.is_over or life.ends[-1] == "passed":
            return
        if kind == "task.retry_requested" or life.is_provisional:
            life.ends.clear()
            life.is_provisional = False

    def _end(self, data: dict[str, Any], life: Life, how: str) -> None:
        if life.is_over:
            self.findings.duplicated += 1
            self._violated(f"{data['task_id']} ended as {how} after {', '.join(life.ends)}")
        life.ends.append(how)


def keep_books(messages: Iterable[Stored]) -> Findings:
    """Read a whole journal."""
    messages = list(messages)
    ledger = Ledger(frozenset(_refused(messages)))
    for stored in messages:
        ledger.take(stored)
    return ledger.findings


def _refused(messages: Iterable[Stored]) -> Iterator[int]:
    """Yield the messages that the leader refused; they are of one event each in a drill."""
    for stored in messages:
        for kind, data in events_of(stored):
            if kind == "event.refused" and stored.subject.split(".")[2] == "scheduler":
                yield int(data["refused_seq"])
