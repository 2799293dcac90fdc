"""A cell's state as a JSON-ready document and back, so that a reader need not fold from the start.

Holds facts, and what waits for the next decision. Indexes (queues, demands and who serves them,
free capacity) are built again. Writes and reads no file.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from dtest.errors import InvalidDocument
from dtest.events.attempt import Checkpoint
from dtest.events.codec import explain
from dtest.events.fields import CellId, RunId, TaskId, WorkerId
from dtest.events.policy import Ranking
from dtest.events.reasons import Reason, RefusalCode
from dtest.events.task import Requirements, Resources, TaskQueued
from dtest.events.worker import Capability
from dtest.state.cell import Cell, PendingRefusal, TimerEntry, entry_of
from dtest.state.demand import Demand, DemandKey, Entry, key_of
from dtest.state.task import TERMINAL, Run, Status, Task
from dtest.state.worker import GONE, Worker, WorkerStatus, whole

FORMAT = "dtest.cell"
VERSION = 2
"""Of this document; another version is not read, the journal is folded instead."""


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
    avoid: tuple[WorkerId, ...]
    reason: Reason | None
    upstream: TaskId | None
    cancel: bool
    retried_at: float | None
    started: bool
    failed_before: bool
    checkpoint: Checkpoint | None


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
    """The whole state."""

    format: str
    version: int
    id: CellId
    seq: int
    now: float
    epoch: int
    leader_id: str
    ranking: Ranking
    demands: list[DemandDocument]
    runs: list[RunDocument]
    tasks: list[TaskDocument]
    workers: list[WorkerDocument]
    timers: list[TimerEntry]
    timer_count: int
    judged: list[TaskId]
    cancelling: list[TaskId]
    doomed: list[tuple[TaskId, TaskId]]
    expiring: list[tuple[TaskId, Reason]]
    unaccepted: list[tuple[TaskId, int]]
    strays: list[tuple[WorkerId, TaskId, int]]
    suspects: list[tuple[WorkerId, str]]
    refusals: list[RefusalDocument]
    ended: dict[Status, int]
    ignored: dict[str, int]
    refused: int


_ADAPTER: TypeAdapter[CellDocument] = TypeAdapter(CellDocument)


def dump(cell: Cell) -> dict[str, Any]:
    """Return the state as a document of plain JSON values."""
    numbers: dict[DemandKey, int] = {}
    demands: list[DemandDocument] = []
    for task in cell.tasks.values():
        demand = task.demand
        if demand.key not in numbers:
            numbers[demand.key] = len(demands)
            demands.append(DemandDocument(**_shared(demand, DemandDocument)))
    snapshot = CellDocument(
        FORMAT,
        VERSION,
        demands=demands,
        runs=[RunDocument(run.id, run.name, run.opened_at) for run in cell.runs.values()],
        tasks=[_dump_task(task, numbers[task.demand.key]) for task in cell.tasks.values()],
        workers=[
            WorkerDocument(
                running=list(worker.running.items()), **_shared(worker, WorkerDocument, "running")
            )
            for worker in cell.workers.values()
        ],
        timers=sorted(cell.timers),
        judged=list(cell.judged),
        cancelling=list(cell.cancelling),
        doomed=list(cell.doomed.items()),
        expiring=list(cell.expiring.items()),
        unaccepted=list(cell.unaccepted.items()),
        strays=list(cell.strays),
        suspects=list(cell.suspects.items()),
        refusals=[
            RefusalDocument(**_shared(item, RefusalDocument)) for item in cell.refusals.values()
        ],
        ended=dict(cell.ended),
        ignored=dict(cell.ignored),
        **{name: getattr(cell, name) for name in _PLAIN},
    )
    document: dict[str, Any] = orjson.loads(orjson.dumps(snapshot, option=orjson.OPT_NON_STR_KEYS))
    return document


_PLAIN = ("id", "seq", "now", "epoch", "leader_id", "ranking", "timer_count", "refused")


def _shared(item: object, shape: type[Any], *but: str) -> dict[str, Any]:
    """Return the fields that the state and the document have alike."""
    return {name: getattr(item, name) for name in shape.__dataclass_fields__ if name not in but}


def _dump_task(task: Task, demand: int) -> TaskDocument:
    waiting_on = sorted(task.waiting_on) if task.waiting_on is not None else None
    return TaskDocument(
        demand=demand,
        fingerprint=task.fingerprint.hex(),
        waiting_on=waiting_on,
        **_shared(task, TaskDocument, "demand", "fingerprint", "waiting_on"),
    )


def load(document: Mapping[str, Any]) -> Cell:
    """Return the cell that a document describes.

    Raises InvalidDocument for another version, and for what ``dump`` did not write.
    """
    stated = (document.get("format"), document.get("version"))
    if stated != (FORMAT, VERSION):
        message = f"the snapshot is of the format {stated}, not {(FORMAT, VERSION)}"
        raise InvalidDocument(message, hint="fold the journal from its start")
    try:
        return _load(_ADAPTER.validate_python(document))
    except ValidationError as error:
        message = f"the snapshot is damaged: {explain(error)}"
        raise InvalidDocument(message, hint="fold the journal from its start") from error
    except (LookupError, ValueError) as error:
        message = f"the snapshot contradicts itself: {error!r}"
        raise InvalidDocument(message, hint="fold the journal from its start") from error


def _load(snapshot: CellDocument) -> Cell:
    cell = Cell(
        workers={stored.id: _load_worker(stored) for stored in snapshot.workers},
        runs={stored.id: Run(stored.id, stored.name, stored.opened_at) for stored in snapshot.runs},
        timers=snapshot.timers,
        judged=OrderedDict.fromkeys(snapshot.judged),
        cancelling=OrderedDict.fromkeys(snapshot.cancelling),
        doomed=OrderedDict(snapshot.doomed),
        expiring=OrderedDict(snapshot.expiring),
        unaccepted=OrderedDict(snapshot.unaccepted),
        strays=OrderedDict.fromkeys(snapshot.strays),
        suspects=OrderedDict(snapshot.suspects),
        refusals=OrderedDict(
            ((item.seq, item.index), PendingRefusal(**_shared(item, RefusalDocument)))
            for item in snapshot.refusals
        ),
        ended=Counter(snapshot.ended),
        ignored=Counter(snapshot.ignored),
        **{name: getattr(snapshot, name) for name in _PLAIN},
    )
    demands = [_load_demand(stored) for stored in snapshot.demands]
    for stored in snapshot.tasks:
        cell.tasks[stored.id] = _load_task(stored, demands[stored.demand])
    _build_indexes(cell, demands)
    return cell


def _build_indexes(cell: Cell, demands: Iterable[Demand]) -> None:
    queues: dict[DemandKey, list[Entry]] = {}
    for task in cell.tasks.values():
        run = cell.runs[task.run_id]
        run.task_ids.append(task.id)
        if task.status not in TERMINAL:
            run.unfinished += 1
            task.demand.unfinished += 1
        if task.in_queue:
            queues.setdefault(task.demand.key, []).append(entry_of(task))
    for demand in demands:
        if demand.unfinished:
            cell.demands[demand.key] = demand
        if demand.key in queues:
            demand.queue.update(queues[demand.key])
            cell.ready[demand.key] = demand
    for worker in cell.workers.values():
        for task_id in worker.running:
            task = cell.tasks[task_id]
            worker.free.take_named(task.demand, task.hardware, task.devices)
        if worker.status not in GONE:
            cell.introduce(worker)
        cell.refresh_free(worker)


def _load_demand(stored: DemandDocument) -> Demand:
    config = {"simulate": None} if stored.simulable else {}
    like = TaskQueued(
        TaskId("any"),
        stored.type,
        config,
        requirements=stored.requirements,
        resources=stored.resources,
    )
    return Demand(key_of(like), **_shared(stored, DemandDocument))


def _load_worker(stored: WorkerDocument) -> Worker:
    shared = _shared(stored, WorkerDocument, "running")
    return Worker(free=whole(stored.capability), running=dict(stored.running), **shared)


def _load_task(stored: TaskDocument, demand: Demand) -> Task:
    waiting_on = set(stored.waiting_on) if stored.waiting_on is not None else None
    return Task(
        demand=demand,
        fingerprint=bytes.fromhex(stored.fingerprint),
        waiting_on=waiting_on,
        **_shared(stored, TaskDocument, "demand", "fingerprint", "waiting_on"),
    )
