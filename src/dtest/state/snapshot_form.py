"""The form of a snapshot: what is written of a cell, field by field."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, NewType, get_args, get_origin, get_type_hints

from dtest.events.attempt import Checkpoint
from dtest.events.fields import CellId, RunId, TaskId, WorkerId
from dtest.events.parameters import Numbers, Strategy
from dtest.events.policy import Ranking, Timeouts
from dtest.events.reasons import Reason, RefusalCode
from dtest.events.task import Remedy, Requirements, Resources, TaskQueued
from dtest.events.worker import Capability
from dtest.state.cell import TimerEntry
from dtest.state.durations import Durations
from dtest.state.health import DeviceHealth, Health, Kind
from dtest.state.suite import Listing, SuiteRun
from dtest.state.task import Status
from dtest.state.term import Term
from dtest.state.worker import WorkerStatus


@dataclass(slots=True)
class DemandDocument:
    """What some tasks ask of their worker."""

    type: str
    requirements: Requirements
    resources: Resources
    simulable: bool


@dataclass(slots=True)
class RunDocument:
    """A run; its tasks name it."""

    id: RunId
    name: str
    opened_at: float


@dataclass(slots=True)
class WorkerDocument:
    """A worker, and what holds capacity there."""

    id: WorkerId
    incarnation: str
    host: str
    capability: Capability
    simulated: bool
    registered_at: float
    registered_seq: int
    pid: int | None
    drain: bool
    status: WorkerStatus
    evidence: str
    running: list[tuple[TaskId, int]]
    health: Health | None
    devices: dict[str, DeviceHealth]


@dataclass(slots=True)
class TaskDocument:
    """A task."""

    id: TaskId
    run_id: RunId
    spec: TaskQueued | None
    demand: int
    """Position among the demands of the document."""
    seq: int
    index: int
    queued_at: float
    order: float
    status: Status
    in_queue: bool
    """Not to be told from the facts: a delayed task stands in its queue once time woke it."""
    fingerprint: str
    attempt: int
    worker_id: WorkerId | None
    hardware: str
    devices: tuple[str, ...]
    since: float
    not_before: float
    waiting_on: list[TaskId] | None
    dependents: list[TaskId] | None
    retries_used: int
    faults_used: int
    refusals_used: int
    preemptions_used: int
    timeout_factor: float
    avoid: tuple[WorkerId, ...]
    reason: Reason | None
    upstream: TaskId | None
    cancel: bool
    retried_at: float | None
    started: bool
    failed_before: bool
    checkpoint: Checkpoint | None
    remedy: Remedy | None
    memory_bytes_peak: int


@dataclass(slots=True)
class PassedDocument:
    """Tasks that passed without anything remarkable, one list for each field."""

    id: list[TaskId]
    run_id: list[int]
    """Position among the runs of the document."""
    demand: list[int]
    seq: list[int]
    index: list[int]
    queued_at: list[float]
    order: list[float]
    fingerprint: list[str]
    attempt: list[int]
    worker_id: list[int]
    """Position among the names of workers of the document."""
    hardware: list[str]
    since: list[float]


@dataclass(slots=True)
class RefusalDocument:
    """A message that is to be refused."""

    seq: int
    index: int
    code: RefusalCode
    detail: str
    subject: str


@dataclass(slots=True)
class CellDocument:
    """The whole state. Another version is not read: the journal is folded instead."""

    format: Literal["dtest.cell"]
    version: Literal[5]
    id: CellId
    seq: int
    now: float
    resumed_at: float
    epoch: int
    leader_id: str
    ranking: Ranking
    strategy: Strategy
    timeouts: Timeouts
    term: Term
    chosen: Numbers
    durations: list[tuple[str, Durations]]
    demands: list[DemandDocument]
    runs: list[RunDocument]
    suites: list[SuiteRun]
    lists: list[tuple[str, Listing]]
    tasks: list[TaskDocument]
    passed: PassedDocument
    names: list[WorkerId]
    """Of the workers on which tasks passed; some may be forgotten otherwise."""
    workers: list[WorkerDocument]
    kinds: list[Kind]
    held: list[tuple[TaskId, str]]
    timers: list[TimerEntry]
    timer_count: int
    judged: list[TaskId]
    cancelling: list[TaskId]
    doomed: list[tuple[TaskId, TaskId]]
    expiring: list[tuple[TaskId, Reason]]
    unaccepted: list[tuple[TaskId, int]]
    strays: list[tuple[WorkerId, TaskId, int]]
    suspects: list[tuple[WorkerId, str]]
    rejoining: dict[WorkerId, float]
    refusals: list[RefusalDocument]
    ended: dict[Status, int]
    ignored: dict[str, int]
    refused: int


@cache
def form_digest() -> str:
    """Return a digest of the names and types of all that a snapshot holds, at any depth.

    Limits of values and the code that uses them do not count.
    """
    shapes: dict[str, str] = {}
    _describe(CellDocument, shapes)
    return hashlib.sha256(repr(sorted(shapes.items())).encode()).hexdigest()


def _describe(kind: Any, shapes: dict[str, str]) -> str:  # noqa: ANN401 - any type form
    """Return the name of a type; note the shapes of the classes in it."""
    if isinstance(kind, NewType):
        return _describe(kind.__supertype__, shapes)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _describe(arguments[0], shapes)
    if origin is Literal:
        return repr(arguments)
    if origin is not None:
        inner = ", ".join(_describe(one, shapes) for one in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    name = getattr(kind, "__qualname__", repr(kind))
    if name not in shapes:
        shapes[name] = ""  # a class may hold itself
        shapes[name] = "; ".join(_parts(kind, shapes))
    return name


def _parts(kind: Any, shapes: dict[str, str]) -> Iterator[str]:  # noqa: ANN401 - any type form
    if is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            yield f"{field.name}: {_describe(hints[field.name], shapes)}"
    elif isinstance(kind, type) and issubclass(kind, Enum):
        yield ", ".join(str(member.value) for member in kind)
