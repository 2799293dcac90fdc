"""A cell's state as a JSON-ready document and back, so that a reader need not fold from the start.

Holds facts, and what waits for the next decision. Indexes (queues, demands and who serves them,
free capacity) are built again. Writes and reads no file.

Almost all tasks of an old journal have passed and are remembered only to recognise their ids.
They stand in columns: reading them so takes a tenth of the time of a document for each.
"""

import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from dtest.errors import InvalidDocument
from dtest.events.fields import RunId, TaskId, WorkerId
from dtest.events.problem import explain
from dtest.events.task import TaskQueued
from dtest.state.cell import Cell, PendingRefusal, entry_of
from dtest.state.demand import Demand, DemandKey, Entry, key_of
from dtest.state.health import Guard
from dtest.state.snapshot_form import (
    CellDocument,
    DemandDocument,
    PassedDocument,
    RefusalDocument,
    RunDocument,
    TaskDocument,
    WorkerDocument,
)
from dtest.state.task import TERMINAL, Run, Status, Task
from dtest.state.worker import GONE, Worker, whole


@cache
def _adapter() -> TypeAdapter[CellDocument]:
    """Built when it is first used: a young cell has no snapshot."""
    return TypeAdapter(CellDocument)


def dump(cell: Cell) -> bytes:
    """Return the state as a JSON document."""
    numbers: dict[DemandKey, int] = {}
    demands: list[DemandDocument] = []
    for task in cell.tasks.values():
        demand = task.demand
        if demand.key not in numbers:
            numbers[demand.key] = len(demands)
            demands.append(DemandDocument(**_shared(demand, DemandDocument)))
    passed = [task for task in cell.tasks.values() if _just_passed(task)]
    others = [task for task in cell.tasks.values() if not _just_passed(task)]
    names = list(dict.fromkeys(task.worker_id for task in passed if task.worker_id is not None))
    snapshot = CellDocument(
        "dtest.cell",
        5,
        durations=list(cell.durations.items()),
        demands=demands,
        runs=[RunDocument(run.id, run.name, run.opened_at) for run in cell.runs.values()],
        suites=list(cell.suites.values()),
        lists=list(cell.lists.items()),
        tasks=[_dump_task(task, numbers[task.demand.key]) for task in others],
        passed=_dump_passed(passed, list(cell.runs), numbers, names),
        names=names,
        workers=[
            WorkerDocument(
                running=list(worker.running.items()), **_shared(worker, WorkerDocument, "running")
            )
            for worker in cell.workers.values()
        ],
        kinds=list(cell.kinds.values()),
        held=list(cell.held.items()),
        timers=sorted(cell.timers),
        judged=list(cell.judged),
        cancelling=list(cell.cancelling),
        doomed=list(cell.doomed.items()),
        expiring=list(cell.expiring.items()),
        unaccepted=list(cell.unaccepted.items()),
        strays=list(cell.strays),
        suspects=list(cell.suspects.items()),
        rejoining=cell.rejoining,
        refusals=[
            RefusalDocument(**_shared(item, RefusalDocument)) for item in cell.refusals.values()
        ],
        ended=dict(cell.ended),
        ignored=dict(cell.ignored),
        **{name: getattr(cell, name) for name in _PLAIN},
    )
    return orjson.dumps(snapshot, option=orjson.OPT_NON_STR_KEYS)


_PLAIN = (
    "id",
    "seq",
    "now",
    "resumed_at",
    "epoch",
    "leader_id",
    "ranking",
    "strategy",
    "timeouts",
    "term",
    "chosen",
    "timer_count",
    "refused",
)


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


_COLUMNS = frozenset({*PassedDocument.__dataclass_fields__, "spec", "status"})
_REMARKABLE = {
    item.name: item.default
    for item in fields(Task)
    if item.name not in _COLUMNS and item.name != "started"
}
"""What has no column, with the value that it has in a task of which there is nothing to say."""


def _just_passed(task: Task) -> bool:
    """Say whether a column for each of a few fields tells all of it."""
    return (
        task.status is Status.PASSED
        and task.spec is None
        and task.started
        and task.worker_id is not None
        and all(getattr(task, name) == value for name, value in _REMARKABLE.items())
    )


def _dump_passed(
    tasks: list[Task], runs: list[RunId], demands: Mapping[DemandKey, int], names: list[WorkerId]
) -> PassedDocument:
    run_numbers = {name: number for number, name in enumerate(runs)}
    worker_numbers: dict[WorkerId | None, int] = {name: n for n, name in enumerate(names)}
    return PassedDocument(
        [task.id for task in tasks],
        [run_numbers[task.run_id] for task in tasks],
        [demands[task.demand.key] for task in tasks],
        [task.seq for task in tasks],
        [task.index for task in tasks],
        [task.queued_at for task in tasks],
        [task.order for task in tasks],
        [task.fingerprint.hex() for task in tasks],
        [task.attempt for task in tasks],
        [worker_numbers[task.worker_id] for task in tasks],
        [task.hardware for task in tasks],
        [task.since for task in tasks],
    )


def load(document: bytes) -> Cell:
    """Return the cell that a document describes.

    Raises InvalidDocument for another version, and for what ``dump`` did not write.
    """
    try:
        return _load(_adapter().validate_json(document))
    except ValidationError as error:
        message = f"the snapshot is damaged, or of another version: {explain(error)}"
        raise InvalidDocument(message, hint="fold the journal from its start") from error
    except (LookupError, ValueError) as error:
        message = f"the snapshot contradicts itself: {error!r}"
        raise InvalidDocument(message, hint="fold the journal from its start") from error


def _load(snapshot: CellDocument) -> Cell:
    cell = Cell(
        workers={stored.id: _load_worker(stored) for stored in snapshot.workers},
        runs={stored.id: Run(stored.id, stored.name, stored.opened_at) for stored in snapshot.runs},
        suites={stored.run_id: stored for stored in snapshot.suites},
        lists=dict(snapshot.lists),
        conducted={one.run_id: None for one in snapshot.suites if one.exit_code is None},
        kinds={kind.key: kind for kind in snapshot.kinds},
        held=OrderedDict(snapshot.held),
        durations=OrderedDict(snapshot.durations),
        probes={kind.probe: kind.key for kind in snapshot.kinds if kind.probe is not None},
        shut={kind.key for kind in snapshot.kinds if kind.guard is not Guard.CLOSED},
        timers=snapshot.timers,
        judged=OrderedDict.fromkeys(snapshot.judged),
        cancelling=OrderedDict.fromkeys(snapshot.cancelling),
        doomed=OrderedDict(snapshot.doomed),
        expiring=OrderedDict(snapshot.expiring),
        unaccepted=OrderedDict(snapshot.unaccepted),
        strays=OrderedDict.fromkeys(snapshot.strays),
        suspects=OrderedDict(snapshot.suspects),
        rejoining=snapshot.rejoining,
        refusals=OrderedDict(
            ((item.seq, item.index), PendingRefusal(**_shared(item, RefusalDocument)))
            for item in snapshot.refusals
        ),
        ended=Counter(snapshot.ended),
        ignored=Counter(snapshot.ignored),
        **{name: getattr(snapshot, name) for name in _PLAIN},
    )
    demands = [_load_demand(stored) for stored in snapshot.demands]
    tasks = [_load_task(stored, demands[stored.demand]) for stored in snapshot.tasks]
    tasks += _load_passed(snapshot, demands)
    tasks.sort(key=attrgetter("seq", "index"))  # as they came, and as a replay has them
    cell.tasks.update((task.id, task) for task in tasks)
    cell.settle_parameters()
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
        if task.waits_for_larger:
            cell.enlarged[task.id] = None
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
        cell.index_health(worker)


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


def _load_passed(snapshot: CellDocument, demands: Sequence[Demand]) -> Iterator[Task]:
    passed = snapshot.passed
    runs = [run.id for run in snapshot.runs]
    hardware = {name: sys.intern(name) for name in set(passed.hardware)}
    rows = zip(*(getattr(passed, name) for name in passed.__dataclass_fields__), strict=True)
    for (
        id_,
        run,
        demand,
        seq,
        index,
        queued_at,
        order,
        digest,
        attempt,
        worker,
        kind,
        since,
    ) in rows:
        yield Task(
            id_,
            runs[run],
            None,
            demands[demand],
            seq,
            index,
            queued_at,
            order,
            Status.PASSED,
            False,
            bytes.fromhex(digest),
            attempt,
            snapshot.names[worker],
            hardware[kind],
            since=since,
            started=True,
        )


def _load_task(stored: TaskDocument, demand: Demand) -> Task:
    waiting_on = set(stored.waiting_on) if stored.waiting_on is not None else None
    return Task(
        demand=demand,
        fingerprint=bytes.fromhex(stored.fingerprint),
        waiting_on=waiting_on,
        **_shared(stored, TaskDocument, "demand", "fingerprint", "waiting_on"),
    )
