"""Facts about workers: the registered identity of an agent, with what it has and can do."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dtest.events.fields import (
    Count,
    Flag,
    Gigabytes,
    Instant,
    Labels,
    Name,
    Number,
    Ordinal,
    TaskToken,
    Text,
    Token,
    WorkerToken,
    no_labels,
)


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator."""

    kind: Token
    """``cuda``, ``rocm``, ``mps``, ``qnn``, ``openvino``, ``tpu`` or a declared kind."""
    index: Count = 0
    name: Annotated[str, Field(max_length=200)] = ""
    memory_gb: Gigabytes | None = None
    """GB (10^9 bytes); none if it is not known."""
    compute: Number | None = None
    """CUDA compute capability."""
    driver: Annotated[str, Field(max_length=100)] = ""
    declared: Flag = False
    """Stated by configuration rather than detected."""

    @property
    def device_id(self) -> str:
        """The device's name on its worker, as ``cuda:0``."""
        return f"{self.kind}:{self.index}"


@dataclass(frozen=True, slots=True)
class Browser:
    """An installed browser."""

    name: Token
    """``chromium``, ``chrome``, ``firefox``, ``edge`` or ``safari``."""
    version: Annotated[str, Field(max_length=100)] = ""
    path: Annotated[str, Field(max_length=1000)] = ""
    declared: Flag = False


@dataclass(frozen=True, slots=True)
class Capability:
    """What a worker has. Unknown stays empty; nothing is guessed."""

    slots: Annotated[Count, Field(ge=1)] = 1
    cpus: Annotated[Number, Field(gt=0)] = 1.0
    """Logical processors that the agent may use."""
    memory_gb: Gigabytes = 0.0
    """Main memory, GB (10^9 bytes)."""
    disk_gb: Gigabytes | None = None
    """Free space where attempts work, GB, at registration."""
    cpu_model: Annotated[str, Field(max_length=200)] = ""
    cpu_cores_physical: Count | None = None
    cpu_flags: tuple[Name, ...] = ()
    os: Annotated[str, Field(max_length=200)] = ""
    arch: Annotated[str, Field(max_length=50)] = ""
    device_type: Annotated[str, Field(max_length=50)] = "server"
    """``server``, ``desktop``, ``laptop`` or ``mobile``."""
    devices: tuple[Device, ...] = ()
    browsers: tuple[Browser, ...] = ()
    labels: Labels = field(default_factory=no_labels)
    task_types: tuple[Token, ...] = ("command", "test")
    declared: tuple[Name, ...] = ()
    """Names of the fields that configuration stated or overrode."""
    problems: tuple[Text, ...] = ()
    """What a probe found present but unreadable, in words."""


@dataclass(frozen=True, slots=True)
class HeldAttempt:
    """An attempt that an agent has in its hands when it registers."""

    task_id: TaskToken
    attempt: Ordinal


@dataclass(frozen=True, slots=True)
class WorkerRegistered:
    """An agent joined, or joined again, under this identity."""

    TYPE: ClassVar[str] = "worker.registered"

    worker_id: WorkerToken
    incarnation: Token
    """New for each start that cannot re-adopt the work of the one before."""
    host: Name
    capability: Capability
    simulated: Flag = False
    agent_version: Annotated[str, Field(max_length=50)] = ""
    pid: Count | None = None
    held: tuple[HeldAttempt, ...] = ()

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The agent takes no new work and finishes or hands back what it has."""

    TYPE: ClassVar[str] = "worker.draining"

    worker_id: WorkerToken
    incarnation: Token
    reason: Text = ""

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id


@dataclass(frozen=True, slots=True)
class WorkerLeft:
    """The agent ended in good order; whatever it still held is handed back."""

    TYPE: ClassVar[str] = "worker.left"

    worker_id: WorkerToken
    incarnation: Token

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id


@dataclass(frozen=True, slots=True)
class WorkerDrainRequested:
    """A client asked that a worker takes no new work."""

    TYPE: ClassVar[str] = "worker.drain_requested"

    worker_id: WorkerToken
    reason: Text = ""

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id


@dataclass(frozen=True, slots=True)
class WorkerSuspected:
    """A detector's observation: the worker does not answer. What follows is decided apart."""

    TYPE: ClassVar[str] = "worker.suspected"

    worker_id: WorkerToken
    incarnation: Token
    evidence: Literal["no_responders", "silence"]
    silence_s: Annotated[Number, Field(ge=0)]

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """Decided: the worker is gone; its attempts count as faulted and go elsewhere."""

    TYPE: ClassVar[str] = "worker.lost"

    worker_id: WorkerToken
    incarnation: Token
    evidence: Text = ""

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id


@dataclass(frozen=True, slots=True)
class WorkerQuarantined:
    """Decided: the worker's health score is too low; it gets nothing until it is tried again."""

    TYPE: ClassVar[str] = "worker.quarantined"

    worker_id: WorkerToken
    until: Instant
    score: Annotated[Number, Field(ge=0, le=100)]
    """0 to 100."""
    count: Ordinal = 1
    """Quarantines so far; each lasts longer than the one before."""

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id


@dataclass(frozen=True, slots=True)
class WorkerReinstated:
    """Decided: a quarantine is over, and the worker takes work as any other."""

    TYPE: ClassVar[str] = "worker.reinstated"

    worker_id: WorkerToken
    cause: Literal["probe_passed", "fleet_guard", "nothing_ran"]
    """``fleet_guard``: the faults were those of a revision or signature, and are taken back."""

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id


@dataclass(frozen=True, slots=True)
class WorkerQuarantineRequested:
    """An operator keeps work away from a worker, over its restarts, until it is reinstated."""

    TYPE: ClassVar[str] = "worker.quarantine_requested"

    worker_id: WorkerToken
    reason: Text = ""

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id


@dataclass(frozen=True, slots=True)
class WorkerReinstateRequested:
    """An operator lets a worker in again: what spoke against it is forgotten, a drain is over."""

    TYPE: ClassVar[str] = "worker.reinstate_requested"

    worker_id: WorkerToken
    reason: Text = ""

    @property
    def entity_id(self) -> str:
        """The worker."""
        return self.worker_id
