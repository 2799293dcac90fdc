"""Why an attempt or a task ended as it did: each reason's class, whom it blames, its retry rule.

The table is the product's central promise, telling infrastructure from test failure. It decides
nothing itself; ``dtest.recovery`` reads it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Blame = Literal["test", "client", "worker", "device", "service", "system"]
RetryRule = Literal["policy", "never", "elsewhere", "refused", "preempted", "once"]
"""``policy``: only by the task's own retry policy · ``elsewhere``: by the infrastructure budget,
on another worker if there is one · ``refused``, ``preempted``: free of those two, each from a wide
budget of its own that only ends a ping-pong · ``once``: a single time."""


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
    OOM_DEVICE = "oom_device"
    DISK_QUOTA = "disk_quota"
    WORKER_LOST = "worker_lost"
    WORKER_SHUTDOWN = "worker_shutdown"
    AGENT_CRASH = "agent_crash"
    OOM_HOST = "oom_host"
    DISK_FULL = "disk_full"
    LAUNCH_FAILED = "launch_failed"
    ENV_SETUP_FAILED = "env_setup_failed"
    DEVICE_LOST = "device_lost"
    GPU_HANG = "gpu_hang"
    DRIVER_RESET = "driver_reset"
    MEMORY_NOT_FREE = "memory_not_free"
    ADAPTER_IS_SOFTWARE = "adapter_is_software"
    DEVICE_MISMATCH = "device_mismatch"
    ARTIFACT_DOWNLOAD = "artifact_download"
    CHECKPOINT_DAMAGED = "checkpoint_damaged"
    UPLOAD_FAILED = "upload_failed"
    DNS = "dns"
    REGISTRY_UNAVAILABLE = "registry_unavailable"
    BROKER_UNAVAILABLE = "broker_unavailable"
    NO_CAPACITY = "no_capacity"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_ACCEPTED = "not_accepted"
    BREAKER_OPEN = "breaker_open"
    PREEMPTED = "preempted"
    MIGRATED = "migrated"
    GANG_PARTNER_FAILED = "gang_partner_failed"
    CANCELLED_USER = "cancelled_user"
    CANCELLED_PARENT = "cancelled_parent"
    SUPERSEDED = "superseded"
    PERMISSION_DENIED = "permission_denied"
    INVARIANT_VIOLATION = "invariant_violation"
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
    Reason.OOM_DEVICE: Meaning("limit", "test", "policy"),
    Reason.DISK_QUOTA: Meaning("limit", "test", "policy"),
    Reason.WORKER_LOST: Meaning("worker", "worker", "elsewhere"),
    Reason.WORKER_SHUTDOWN: Meaning("worker", "worker", "preempted"),
    Reason.AGENT_CRASH: Meaning("worker", "worker", "elsewhere"),
    Reason.OOM_HOST: Meaning("worker", "worker", "elsewhere"),
    Reason.DISK_FULL: Meaning("worker", "worker", "elsewhere"),
    Reason.LAUNCH_FAILED: Meaning("worker", "worker", "elsewhere"),
    Reason.ENV_SETUP_FAILED: Meaning("worker", "worker", "elsewhere"),
    Reason.DEVICE_LOST: Meaning("device", "device", "elsewhere"),
    Reason.GPU_HANG: Meaning("device", "device", "elsewhere"),
    Reason.DRIVER_RESET: Meaning("device", "device", "elsewhere"),
    Reason.MEMORY_NOT_FREE: Meaning("device", "device", "elsewhere"),
    Reason.ADAPTER_IS_SOFTWARE: Meaning("device", "device", "elsewhere"),
    Reason.DEVICE_MISMATCH: Meaning("device", "device", "elsewhere"),
    Reason.ARTIFACT_DOWNLOAD: Meaning("service", "service", "elsewhere"),
    Reason.CHECKPOINT_DAMAGED: Meaning("service", "service", "preempted"),
    Reason.UPLOAD_FAILED: Meaning("service", "service", "elsewhere"),
    Reason.DNS: Meaning("service", "service", "elsewhere"),
    Reason.REGISTRY_UNAVAILABLE: Meaning("service", "service", "elsewhere"),
    Reason.BROKER_UNAVAILABLE: Meaning("service", "service", "elsewhere"),
    Reason.NO_CAPACITY: Meaning("schedule", "system", "never"),
    Reason.DEADLINE_EXCEEDED: Meaning("schedule", "client", "never"),
    Reason.NOT_ACCEPTED: Meaning("schedule", "worker", "refused"),
    Reason.BREAKER_OPEN: Meaning("schedule", "system", "never"),
    Reason.PREEMPTED: Meaning("schedule", "system", "preempted"),
    Reason.MIGRATED: Meaning("schedule", "system", "preempted"),
    Reason.GANG_PARTNER_FAILED: Meaning("schedule", "system", "preempted"),
    Reason.CANCELLED_USER: Meaning("control", "client", "never"),
    Reason.CANCELLED_PARENT: Meaning("control", "client", "never"),
    Reason.SUPERSEDED: Meaning("control", "client", "never"),
    Reason.PERMISSION_DENIED: Meaning("control", "client", "never"),
    Reason.INVARIANT_VIOLATION: Meaning("internal", "system", "once"),
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
