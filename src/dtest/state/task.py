"""What is known of one task.

The states and their legal order stand in ``docs/states.md``; this module only holds them.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from dtest.events.attempt import Checkpoint
from dtest.events.fields import RunId, TaskId, WorkerId
from dtest.events.reasons import Reason
from dtest.events.task import Remedy, TaskQueued
from dtest.state.demand import Demand


class Status(StrEnum):
    """Where a task is in its life."""

    BLOCKED = "blocked"
    """Waits for dependencies."""
    QUEUED = "queued"
    DELAYED = "delayed"
    """Waits for the end of a backoff."""
    ASSIGNED = "assigned"
    RUNNING = "running"
    STOPPING = "stopping"
    JUDGED = "judged"
    """The last attempt ended; whether to retry is the next decision's matter."""
    PASSED = "passed"
    FAILED = "failed"
    ERRORED = "errored"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    EXPIRED = "expired"


WAITING = frozenset({Status.BLOCKED, Status.QUEUED, Status.DELAYED})
LIVE = frozenset({Status.ASSIGNED, Status.RUNNING, Status.STOPPING})
TERMINAL = frozenset(
    {
        Status.PASSED,
        Status.FAILED,
        Status.ERRORED,
        Status.CANCELLED,
        Status.SKIPPED,
        Status.EXPIRED,
    }
)
DONE_WITH = frozenset({Status.PASSED, Status.CANCELLED})
"""Ends after which nobody wants to go on from where the task stood."""


@dataclass(slots=True)
class Task:
    """One task. Mutable, but changed only by the fold."""

    id: TaskId
    run_id: RunId
    spec: TaskQueued | None
    """The document; dropped once the task passed."""
    demand: Demand
    seq: int
    index: int
    queued_at: float
    order: float
    """Position among all tasks: smaller goes first."""
    status: Status = Status.QUEUED
    in_queue: bool = False
    """Stands in its demand's queue (an index, not a fact)."""
    fingerprint: bytes = b""
    attempt: int = 0
    """Number of the latest attempt; 0 before the first."""
    worker_id: WorkerId | None = None
    hardware: str = ""
    devices: tuple[str, ...] = ()
    since: float = 0.0
    """When the present status began."""
    not_before: float = 0.0
    waiting_on: set[TaskId] | None = None
    dependents: list[TaskId] | None = None
    retries_used: int = 0
    """Of the task's own retry policy."""
    faults_used: int = 0
    """Of the infrastructure budget."""
    refusals_used: int = 0
    """Attempts that were refused, or not accepted in time."""
    preemptions_used: int = 0
    """Attempts that were handed back, or taken away, for no fault of anybody."""
    timeout_factor: float = 1.0
    """By how much the next attempt's time-outs exceed those that the document states."""
    avoid: tuple[WorkerId, ...] = ()
    """Workers on which an attempt faulted, or that the document asks to avoid."""
    reason: Reason | None = None
    upstream: TaskId | None = None
    cancel: bool = False
    retried_at: float | None = None
    """When an operator last asked for it again."""
    started: bool = False
    """An attempt ran since the task arrived, or was asked for again."""
    failed_before: bool = False
    checkpoint: Checkpoint | None = None
    """What the next attempt goes on from; none once the task passed or was cancelled."""
    remedy: Remedy | None = None
    """What the next attempt is given because an earlier one was too large for its place."""
    memory_bytes_peak: int = 0
    """Of the latest attempt that ended by a limit."""

    @property
    def arrived_at(self) -> float:
        """When it was queued, or asked for again."""
        return self.queued_at if self.retried_at is None else self.retried_at

    @property
    def waits_for_larger(self) -> bool:
        """Say whether it is given up waiting once no larger place takes work."""
        return (
            self.remedy is not None
            and self.remedy.until is not None
            and self.status in (Status.QUEUED, Status.DELAYED)
        )

    @property
    def flaky(self) -> bool:
        """Passed after a failure."""
        return self.status is Status.PASSED and self.failed_before


@dataclass(slots=True)
class Run:
    """One submission."""

    id: RunId
    name: str
    opened_at: float
    task_ids: list[TaskId] = field(default_factory=list)
    unfinished: int = 0
