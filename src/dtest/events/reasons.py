"""Why an attempt or a task ended as it did: each reason's class, whom it blames, its retry rule.

The table is the product's central promise, telling infrastructure from test failure. It decides
nothing itself; ``dtest.recovery`` reads it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Blame = Literal["test", "client", "worker", "device", "service", "system"]
RetryRule = Literal["policy", "never", "elsewhere", "free", "once"]
"""``policy``: only by the task's own retry policy · ``elsewhere``: by the infrastructure budget,
on another worker if there is one · ``free``: always, no budget · ``once``: a single time."""


class Reason(StrEnum):
    """Every reason that an event may carry."""

    ASSERTION_FAILED = "assertion_failed"
    EXIT_NONZERO = "exit_nonzero"
    CRASH_SIGNAL = "crash_signal"
    MALFORMED_PAYLOAD = "malformed_payload"
    MISSING_INPUT = "missing_input"
    COLLECTION_ERROR = "collection_error"
    NO_TESTS = "no_tests"
    DEPENDENCY_NEVER = "dependency_never"
    RUN_TIMEOUT = "run_timeout"
    IDLE_OUTPUT_TIMEOUT = "idle_output_timeout"
    OOM_TASK = "oom_task"
    WORKER_LOST = "worker_lost"
    WORKER_SHUTDOWN = "worker_shutdown"
    AGENT_CRASH = "agent_crash"
    DISK_FULL = "disk_full"
    LAUNCH_FAILED = "launch_failed"
    ENV_SETUP_FAILED = "env_setup_failed"
    DEVICE_LOST = "device_lost"
    ARTIFACT_DOWNLOAD = "artifact_download"
    CHECKPOINT_DAMAGED = "checkpoint_damaged"
    UPLOAD_FAILED = "upload_failed"
    NO_CAPACITY = "no_capacity"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_ACCEPTED = "not_accepted"
    CANCELLED_USER = "cancelled_user"
    CANCELLED_PARENT = "cancelled_parent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason implies."""

    family: str
    blame: Blame
    retry: RetryRule


MEANINGS: dict[Reason, Meaning] = {
    Reason.ASSERTION_FAILED: Meaning("test", "test", "policy"),
    Reason.EXIT_NONZERO: Meaning("test", "test", "policy"),
    Reason.CRASH_SIGNAL: Meaning("test", "test", "policy"),
    Reason.MALFORMED_PAYLOAD: Meaning("client", "client", "never"),
    Reason.MISSING_INPUT: Meaning("client", "client", "never"),
    Reason.COLLECTION_ERROR: Meaning("client", "test", "never"),
    Reason.NO_TESTS: Meaning("client", "client", "never"),
    Reason.DEPENDENCY_NEVER: Meaning("client", "client", "never"),
    Reason.RUN_TIMEOUT: Meaning("limit", "test", "policy"),
    Reason.IDLE_OUTPUT_TIMEOUT: Meaning("limit", "test", "policy"),
    Reason.OOM_TASK: Meaning("limit", "test", "policy"),
    Reason.WORKER_LOST: Meaning("worker", "worker", "elsewhere"),
    Reason.WORKER_SHUTDOWN: Meaning("worker", "worker", "free"),
    Reason.AGENT_CRASH: Meaning("worker", "worker", "elsewhere"),
    Reason.DISK_FULL: Meaning("worker", "worker", "elsewhere"),
    Reason.LAUNCH_FAILED: Meaning("worker", "worker", "elsewhere"),
    Reason.ENV_SETUP_FAILED: Meaning("worker", "worker", "elsewhere"),
    Reason.DEVICE_LOST: Meaning("device", "device", "elsewhere"),
    Reason.ARTIFACT_DOWNLOAD: Meaning("service", "service", "elsewhere"),
    Reason.CHECKPOINT_DAMAGED: Meaning("service", "service", "free"),
    Reason.UPLOAD_FAILED: Meaning("service", "service", "elsewhere"),
    Reason.NO_CAPACITY: Meaning("schedule", "system", "never"),
    Reason.DEADLINE_EXCEEDED: Meaning("schedule", "client", "never"),
    Reason.NOT_ACCEPTED: Meaning("schedule", "worker", "free"),
    Reason.CANCELLED_USER: Meaning("control", "client", "never"),
    Reason.CANCELLED_PARENT: Meaning("control", "client", "never"),
    Reason.UNKNOWN: Meaning("internal", "system", "once"),
}


class RefusalCode(StrEnum):
    """Why a message of the journal was not accepted."""

    NOT_JSON = "not_json"
    NOT_CLOUDEVENT = "not_cloudevent"
    TOO_LARGE = "too_large"
    UNKNOWN_EVENT = "unknown_event"
    WRONG_SUBJECT = "wrong_subject"
    FORGED_SOURCE = "forged_source"
    INVALID_DATA = "invalid_data"
    TASK_CONFLICT = "task_conflict"
    UNKNOWN_DEPENDENCY = "unknown_dependency"
    DEPENDENCY_CYCLE = "dependency_cycle"
    UNKNOWN_TASK = "unknown_task"
    UNKNOWN_WORKER = "unknown_worker"
    NOT_ASSIGNED = "not_assigned"
    NOT_RETRYABLE = "not_retryable"
