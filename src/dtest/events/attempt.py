"""Facts about attempts: one execution of a task on one worker, numbered from 1."""

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
    Name,
    Number,
    Ordinal,
    RunId,
    Seconds,
    SecondsAboveZero,
    TaskToken,
    Text,
    Token,
    WorkerToken,
)
from dtest.events.reasons import Reason


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What an attempt left in its checkpoint directory, kept in the object store."""

    attempt: Ordinal
    number: Ordinal
    """Position among the checkpoints of that attempt; the latest one counts."""
    object_name: Name
    size_bytes: Count
    """Of the archive."""
    sha256: Name
    """Of the archive."""
    taken_at: Instant


@dataclass(frozen=True, slots=True)
class AttemptAssigned:
    """Decided: this worker runs the attempt. Holds all that the worker needs to do so."""

    TYPE: ClassVar[str] = "attempt.assigned"

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    incarnation: Token
    hardware: Token
    type: Token
    run_id: RunId | None = None
    config: Document = field(default_factory=dict)
    devices: tuple[Name, ...] = ()
    timeout_seconds: SecondsAboveZero | None = None
    idle_timeout_seconds: SecondsAboveZero | None = None
    grace_seconds: Seconds = 5.0
    memory_limit_gb: Gigabytes | None = None
    checkpoint: Checkpoint | None = None
    """What the attempt goes on from; lies in its directory before the process runs."""
    fallback: Flag = False
    """``config`` is the task's own with its ``fallback_config`` merged in."""
    timeout_observed: Flag = False
    """``timeout_seconds`` follows from earlier attempts of the same signature: the task states
    none."""

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class AttemptStopRequested:
    """Decided: the worker stops the attempt: TERM, grace, KILL, whole process tree."""

    TYPE: ClassVar[str] = "attempt.stop_requested"

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    reason: Reason

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """The worker accepted the attempt and its process runs.

    Told without ``pid`` first where the process has to wait for its checkpoint. An attempt that
    ends before its start was sent is reported by ``attempt.finished`` alone.
    """

    TYPE: ClassVar[str] = "attempt.started"

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    started_at: Instant
    pid: Count | None = None

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class AttemptCheckpointed:
    """What lies in the attempt's checkpoint directory is stored; the next attempt gets it."""

    TYPE: ClassVar[str] = "attempt.checkpointed"

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    number: Ordinal
    """Position among the attempt's checkpoints, with gaps where one could not be stored."""
    object_name: Name
    size_bytes: Count
    sha256: Name
    taken_at: Instant

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class AttemptCheckpointFailed:
    """The attempt's checkpoint could not be stored; it goes on, the last stored one still counts.

    Told once until one is stored again.
    """

    TYPE: ClassVar[str] = "attempt.checkpoint_failed"

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    detail: Text

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class AttemptRefused:
    """The worker cannot take the attempt; it costs the task no retry."""

    TYPE: ClassVar[str] = "attempt.refused"

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    detail: Text

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class AttemptReleased:
    """The worker hands the attempt back unfinished, as when it drains; it costs no retry."""

    TYPE: ClassVar[str] = "attempt.released"

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    reason: Reason = Reason.WORKER_SHUTDOWN

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that an attempt left in its artefact directory, kept in the object store."""

    name: Name
    size_bytes: Count
    sha256: Name
    object_name: Name


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """The attempt ended. ``failed`` is a verdict of the work, ``faulted`` is not."""

    TYPE: ClassVar[str] = "attempt.finished"

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    outcome: Literal["passed", "failed", "faulted", "cancelled"]
    started_at: Instant
    finished_at: Instant
    reason: Reason | None = None
    detail: Text = ""
    exit_code: Integer | None = None
    signal: Count | None = None
    cpu_s: Annotated[Number, Field(ge=0)] | None = None
    """User and system time of the whole process tree, seconds."""
    memory_bytes_peak: Count | None = None
    output_bytes: Count | None = None
    output_bytes_dropped: Count | None = None
    artifacts: tuple[Artifact, ...] = ()

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class AttemptReturned:
    """Decided: the attempt was not accepted in time, so the task goes back to the queue."""

    TYPE: ClassVar[str] = "attempt.returned"

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    reason: Reason = Reason.NOT_ACCEPTED

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id


@dataclass(frozen=True, slots=True)
class Property:
    """Something that a test recorded of itself, or of its suite."""

    name: Text
    value: Text = ""


@dataclass(frozen=True, slots=True)
class TestcaseFinished:
    """One test case inside an attempt of a ``test`` task has its verdict."""

    __test__: ClassVar[bool] = False  # pytest must not take the class for a test
    TYPE: ClassVar[str] = "testcase.finished"
    VERSION: ClassVar[int] = 2
    """Node ids may be long, and a test has its number."""

    task_id: TaskToken
    attempt: Ordinal
    worker_id: WorkerToken
    ordinal: Ordinal
    """Position in the attempt's report; with task and attempt it identifies the case."""
    nodeid: Annotated[str, Field(min_length=1, max_length=262_144)]
    outcome: Literal["passed", "failed", "skipped", "xfailed", "xpassed", "error"]
    phase: Literal["setup", "call", "teardown", "collect"] = "call"
    duration_s: Annotated[Number, Field(ge=0)] = 0.0
    message: Text = ""
    output: Text = ""
    file: Text = ""
    line: Count | None = None
    number: Count | None = None
    """In the plan of its class of hardware: what makes it the same test in all sessions of a run.
    None for what stands in no plan."""
    properties: tuple[Property, ...] = ()
    """What the test recorded of itself."""
    suite_properties: tuple[Property, ...] = ()
    """The same of the whole suite, recorded while this test ran."""

    @property
    def entity_id(self) -> str:
        """The task."""
        return self.task_id
