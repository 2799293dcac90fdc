"""Fold of what happens to workers."""

from dtest.events.envelope import Correlation, Event, Recorded
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import Reason, RefusalCode
from dtest.events.worker import (
    WorkerDraining,
    WorkerDrainRequested,
    WorkerLeft,
    WorkerLost,
    WorkerRegistered,
    WorkerSuspected,
)
from dtest.state.cell import Cell, Folds
from dtest.state.fold_attempt import judge
from dtest.state.fold_device import release
from dtest.state.task import Status
from dtest.state.term import DRAIN_ENDS_RULES
from dtest.state.worker import GONE, Worker, WorkerStatus, whole


def _registered(cell: Cell, data: WorkerRegistered, _: Event, record: Recorded, __: int) -> None:
    known = cell.workers.get(data.worker_id)
    held = {(item.task_id, item.attempt) for item in data.held}
    if known is not None:
        _drop_unheld(cell, known, held, same=known.incarnation == data.incarnation)
    worker = Worker(
        data.worker_id,
        data.incarnation,
        data.host,
        data.capability,
        data.simulated,
        whole(data.capability),
        record.stored_at,
        record.seq,
        data.pid,
    )
    if known is not None:
        worker.health, worker.devices = known.health, known.devices
        if known.drain and (known.incarnation, known.pid) == (data.incarnation, data.pid):
            worker.drain, worker.status = True, WorkerStatus.DRAINING
        worker.running = known.running
        for task_id in worker.running:
            task = cell.tasks[task_id]
            worker.free.take_named(task.demand, task.hardware, task.devices)
    cell.workers[worker.id] = worker
    cell.suspects.pop(worker.id, None)
    cell.rejoining.pop(worker.id, None)
    for task_id, attempt in sorted(held):
        if worker.running.get(task_id) != attempt:
            cell.strays[worker.id, task_id, attempt] = None
    if worker.devices and known is not None and known.incarnation != data.incarnation:
        release(cell, worker, list(worker.devices), "registered_again")
    cell.introduce(worker)
    cell.refresh_free(worker)


def _drop_unheld(cell: Cell, worker: Worker, held: set[tuple[TaskId, int]], *, same: bool) -> None:
    """Attempts that ran there and that the restarted agent does not hold are faulted.

    The same incarnation still reads what was assigned to it and not started.
    """
    for task_id, attempt in list(worker.running.items()):
        task = cell.tasks[task_id]
        if same and ((task_id, attempt) in held or task.status is Status.ASSIGNED):
            continue
        cell.release_capacity(task)
        judge(cell, task, Reason.AGENT_CRASH)


def _same(cell: Cell, worker_id: WorkerId, incarnation: str) -> Worker | None:
    worker = cell.workers.get(worker_id)
    if worker is None or worker.incarnation != incarnation or worker.status in GONE:
        cell.ignore("worker_out_of_date")
        return None
    return worker


def _draining(cell: Cell, data: WorkerDraining, _: Event, __: Recorded, ___: int) -> None:
    worker = _same(cell, data.worker_id, data.incarnation)
    if worker is not None:
        worker.status = WorkerStatus.DRAINING
        if cell.term.rules >= DRAIN_ENDS_RULES:
            worker.drain = False  # the agent's own wish from now on: nobody else can end it
        cell.refresh_free(worker)


def _drain(cell: Cell, data: WorkerDrainRequested, _: Event, record: Recorded, index: int) -> None:
    worker = cell.workers.get(data.worker_id)
    if worker is None:
        detail = f"unknown worker {data.worker_id}"
        cell.refuse(record, index, RefusalCode.UNKNOWN_WORKER, detail)
    elif worker.status in GONE:
        cell.ignore("drain_of_gone_worker")
    else:
        # One that drains by itself is on its way: no operator keeps it, or lets it in again.
        is_leaving = worker.status is WorkerStatus.DRAINING and not worker.drain
        worker.drain = not (is_leaving and cell.term.rules >= DRAIN_ENDS_RULES)
        if worker.status is WorkerStatus.ACTIVE:
            worker.status = WorkerStatus.DRAINING
        cell.refresh_free(worker)


def _suspected(cell: Cell, data: WorkerSuspected, _: Event, __: Recorded, ___: int) -> None:
    worker = _same(cell, data.worker_id, data.incarnation)
    if worker is None:
        return
    worker.status = WorkerStatus.SUSPECTED
    worker.evidence = f"{data.evidence}, silent for {data.silence_s:.1f} s"
    if data.evidence == "no_responders":
        cell.rejoining.setdefault(worker.id, cell.now + cell.parameters.rejoin_s_max)
    else:
        cell.rejoining.pop(worker.id, None)
        cell.suspects[worker.id] = worker.evidence
    cell.refresh_free(worker)


def _lost(cell: Cell, data: WorkerLost, event: Event, _: Recorded, __: int) -> None:
    worker = _same(cell, data.worker_id, data.incarnation)
    if worker is None:
        return
    decision = Correlation.parse(event.correlation)
    if decision is not None and decision.basis < worker.registered_seq:
        cell.ignore("worker_came_back")
        return
    _gone(cell, worker, WorkerStatus.LOST, Reason.WORKER_LOST)


def _left(cell: Cell, data: WorkerLeft, _: Event, __: Recorded, ___: int) -> None:
    worker = _same(cell, data.worker_id, data.incarnation)
    if worker is not None:
        _gone(cell, worker, WorkerStatus.LEFT, Reason.WORKER_SHUTDOWN)


def _gone(cell: Cell, worker: Worker, status: WorkerStatus, reason: Reason) -> None:
    cell.suspects.pop(worker.id, None)
    cell.rejoining.pop(worker.id, None)
    worker.status = status
    for task_id in list(worker.running):
        task = cell.tasks[task_id]
        cell.release_capacity(task)
        judge(cell, task, reason)
    cell.dismiss(worker)
    cell.refresh_free(worker)


WORKER_FOLDS: Folds = {
    WorkerRegistered: _registered,
    WorkerDraining: _draining,
    WorkerDrainRequested: _drain,
    WorkerSuspected: _suspected,
    WorkerLost: _lost,
    WorkerLeft: _left,
}
