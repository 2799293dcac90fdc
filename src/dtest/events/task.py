"""Facts about a task, the smallest schedulable unit, and the document that describes one."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dtest.events.fields import (
    Count,
    Document,
    Flag,
    Gigabytes,
    Instant,
    Integer,
    Labels,
    Name,
    Number,
    RunToken,
    Seconds,
    SecondsAboveZero,
    TaskId,
    TaskToken,
    Text,
    Token,
    WorkerToken,
    no_labels,
)
from dtest.events.reasons import Reason


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a worker must have; an empty field asks for nothing."""

    hardware: Annotated[tuple[Token, ...], Field(max_length=32)] = ()
    """Kinds of hardware, any of which will do, the preferred one first; none means ``cpu``."""
    min_memory_gb: Gigabytes = 0.0
    """Main memory of the machine, GB (10^9 bytes)."""
    min_device_memory_gb: Gigabytes = 0.0
    """Memory of one accelerator, GB."""
    min_cuda_compute: Annotated[Number, Field(ge=0)] = 0.0
    """CUDA compute capability, as 7.5; it restricts CUDA devices only."""
    browser: Name | None = None
    device_type: Name | None = None
    labels: Labels = field(default_factory=no_labels)


@dataclass(frozen=True, slots=True)
class Resources:
    """What an attempt reserves on its worker while it runs."""

    slots: Annotated[Integer, Field(ge=1, le=10_000)] = 1
    cpus: Annotated[Number, Field(ge=0)] = 0.0
    memory_gb: Gigabytes = 0.0
    devices: Annotated[Integer, Field(ge=0, le=64)] | None = None
    """Accelerators; by default one where the chosen hardware is an accelerator, else none."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a *failed* attempt is run again; infrastructure faults have their own budget."""

    max_retries: Annotated[Count, Field(le=100)] = 0
    retry_delay_seconds: Seconds = 0.0
    """Delay before the first retry, seconds; doubled each time, with jitter."""


# Shared defaults: most tasks ask for nothing special, and there may be a million of them.
ANYWHERE = Requirements()
ONE_SLOT = Resources()
NO_RETRY = RetryPolicy()


@dataclass(frozen=True, slots=True)
class TaskQueued:
    """A client submitted a task. The id makes it idempotent: the same again changes nothing."""

    TYPE: ClassVar[str] = "task.queued"

    task_id: TaskToken
    type: Token
    """``command``, ``test`` or a type that some worker announces."""
    config: Document = field(default_factory=dict)
    run_id: RunToken | None = None
    name: Annotated[str, Field(max_length=500)] = ""
    priority: Annotated[Integer, Field(ge=0, le=1000)] = 5
    """Lower is more urgent."""
    requirements: Requirements = field(default_factory=lambda: ANYWHERE)
    resources: Resources = field(default_factory=lambda: ONE_SLOT)
    timeout_seconds: SecondsAboveZero | None = None
    """Wall time of one attempt."""
    idle_timeout_seconds: SecondsAboveZero | None = None
    """Longest silence of an attempt's output."""
    grace_seconds: Seconds = 5.0
    """Between TERM and KILL."""
    memory_limit_gb: Annotated[Number, Field(gt=0)] | None = None
    """Resident memory of the attempt's process tree, GB (10^9 bytes)."""
    retry_policy: RetryPolicy = field(default_factory=lambda: NO_RETRY)
    dependencies: Annotated[tuple[TaskToken, ...], Field(max_length=10_000)] = ()
    dependency_rule: Literal["all_passed", "all_finished"] = "all_passed"
    deadline: Instant | None = None
    """Not started after this instant."""
    wait_limit_seconds: SecondsAboveZero | None = None
    """Longest time in the queue before the task expires as ``no_capacity``."""
    labels: Labels = field(default_factory=no_labels)
    fallback_config: Document | None = None
    """A smaller variant, for devices on which the task runs out of memory: a JSON Merge Patch
    (RFC 7396) of ``config``."""
    avoid_workers: Annotated[tuple[WorkerToken, ...], Field(max_length=8)] = ()
    """Run elsewhere, as long as another worker that matches takes work; else on one of them."""

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class TaskCancelRequested:
    """A client asked to cancel a task."""

    TYPE: ClassVar[str] = "task.cancel_requested"

    task_id: TaskToken
    reason: Text = ""

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class TaskRetryRequested:
    """An operator asked to run an ended task once more, with fresh budgets."""

    TYPE: ClassVar[str] = "task.retry_requested"

    task_id: TaskToken
    reason: Text = ""

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class Remedy:
    """What the next attempts are given because an earlier one was too large for where it ran."""

    min_memory_gb: Gigabytes = 0.0
    """Main memory that their machine has at least, GB; 0 for what the task itself asks for."""
    min_device_memory_gb: Gigabytes = 0.0
    """Memory that each of their devices has at least, GB; 0 for what the task itself asks for."""
    memory_factor: Annotated[Number, Field(ge=1)] = 1.0
    """Their memory limit, by that which the task states."""
    fallback: Flag = False
    """They run the task's ``fallback_config``."""
    until: Instant | None = None
    """If nothing so large takes work by then, the task goes anywhere else."""

    @property
    def enlarges(self) -> bool:
        """Say whether it asks for a larger place."""
        return self.min_memory_gb > 0 or self.min_device_memory_gb > 0


@dataclass(frozen=True, slots=True)
class TaskRetryScheduled:
    """Decided: the task goes back to the queue and may start again at ``not_before``.

    With the budget ``none``: the task waited in vain for a larger place, and goes elsewhere.
    """

    TYPE: ClassVar[str] = "task.retry_scheduled"

    task_id: TaskToken
    attempt: Count
    """The attempt that ended."""
    not_before: Instant
    reason: Reason
    budget: Literal["user", "infrastructure", "refusal", "preemption", "none"]
    timeout_factor: Annotated[Number, Field(gt=0)] | None = None
    """By how much the next attempt's time-outs exceed those that the task states."""
    remedy: Remedy | None = None
    """Replaces the one in force; none leaves it."""

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """Decided: the task ends without (or in spite of) an attempt's own verdict."""

    TYPE: ClassVar[str] = "task.ended"

    task_id: TaskToken
    status: Literal["failed", "errored", "cancelled", "skipped", "expired"]
    reason: Reason
    upstream: TaskId | None = None
    """For ``skipped``: the dependency that can never hold."""
    detail: Text = ""

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id
