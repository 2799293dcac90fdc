"""Fold of what was decided, or asked for, about breakers and quarantine."""

from datetime import datetime

from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import WorkerId, epoch_s
from dtest.events.reasons import RefusalCode
from dtest.events.worker import (
    WorkerQuarantined,
    WorkerQuarantineRequested,
    WorkerReinstated,
    WorkerReinstateRequested,
)
from dtest.state.cell import Cell, Folds
from dtest.state.fold_device import (
    OUT_OF_DATE,
    device_closed,
    device_half_opened,
    device_opened,
    release,
)
from dtest.state.health import BARRED, DEVICE_PREFIX, WORKER_PREFIX, Guard, Health, Kind
from dtest.state.task import WAITING
from dtest.state.term import DRAIN_ENDS_RULES
from dtest.state.worker import Worker, WorkerStatus


def _worker_of(cell: Cell, breaker_id: str) -> Worker | None:
    return cell.workers.get(WorkerId(breaker_id.removeprefix(WORKER_PREFIX)))


def _set(
    cell: Cell, worker: Worker, guard: Guard, *, until: datetime | None = None, cause: str
) -> None:
    """Bring a worker's guard to another state."""
    health = worker.health = worker.health or Health()
    health.guard, health.cause, health.since = guard, cause, cell.now
    health.until = epoch_s(until) if until is not None else None
    health.probed, health.probe, health.pardoned = "", None, False
    if health.until is not None:
        cell.alarm(health.until)
    cell.heed(worker)


# -- breakers -----------------------------------------------------------------------------------


def _opened(cell: Cell, data: BreakerOpened, _: Event, __: Recorded, ___: int) -> None:
    if data.breaker_id.startswith(DEVICE_PREFIX):
        device_opened(cell, data)
        return
    if not data.breaker_id.startswith(WORKER_PREFIX):
        _kind_opened(cell, data)
        return
    worker = _worker_of(cell, data.breaker_id)
    if worker is None or (worker.health is not None and worker.health.guard in BARRED):
        cell.ignore(OUT_OF_DATE)
        return
    _set(cell, worker, Guard.OPEN, until=data.until, cause=data.cause)


def _kind_opened(cell: Cell, data: BreakerOpened) -> None:
    kind = cell.kinds.get(data.breaker_id)
    if (kind is not None and kind.guard is Guard.OPEN) or (
        kind is None and len(cell.kinds) >= 2 * cell.parameters.kinds_max
    ):
        cell.ignore(OUT_OF_DATE)
        return
    if kind is None:
        kind = cell.kinds[data.breaker_id] = Kind(data.breaker_id)
    if kind.probe is not None:
        cell.probes.pop(kind.probe, None)
    kind.guard, kind.cause, kind.count = Guard.OPEN, data.cause, data.count
    kind.since, kind.until, kind.workers = cell.now, epoch_s(data.until), data.workers
    kind.probe, kind.probed, kind.faults = None, "", []
    cell.alarm(kind.until)
    cell.shut_kind(kind.key)
    for worker_id in list(cell.ailing):
        worker = cell.workers[worker_id]
        _pardon(cell, worker, kind.key)
        blamed = [name for name, item in worker.devices.items() if kind.key in item.kinds]
        release(cell, worker, blamed, "fleet_guard")


def _pardon(cell: Cell, worker: Worker, key: str) -> None:
    """Take back the strikes that are this kind's fault."""
    health = worker.health
    if health is None:
        return
    left = [item for item in health.strikes if key not in item.kinds]
    if len(left) < len(health.strikes):
        health.strikes = left
        health.pardoned = health.guard is not Guard.CLOSED
        cell.heed(worker)


def _half_opened(cell: Cell, data: BreakerHalfOpened, _: Event, __: Recorded, ___: int) -> None:
    if data.breaker_id.startswith(DEVICE_PREFIX):
        device_half_opened(cell, data)
        return
    if not data.breaker_id.startswith(WORKER_PREFIX):
        _kind_half_opened(cell, data)
        return
    worker = _worker_of(cell, data.breaker_id)
    health = worker.health if worker is not None else None
    if worker is None or health is None or health.guard not in BARRED or health.until is None:
        cell.ignore(OUT_OF_DATE)
        return
    pardoned = health.pardoned
    tried = Guard.HALF_OPEN if health.guard is Guard.OPEN else Guard.PROBATION
    _set(cell, worker, tried, until=data.until, cause=health.cause)
    health.pardoned = pardoned


def _kind_half_opened(cell: Cell, data: BreakerHalfOpened) -> None:
    kind = cell.kinds.get(data.breaker_id)
    if kind is None or kind.guard is Guard.CLOSED:
        cell.ignore(OUT_OF_DATE)
        return
    if kind.probe is not None:
        cell.probes.pop(kind.probe, None)
    task = cell.tasks.get(data.probe) if data.probe is not None else None
    kind.guard, kind.since, kind.probe, kind.probed = Guard.HALF_OPEN, cell.now, None, ""
    kind.until = epoch_s(data.until) if data.until is not None else None
    if kind.until is not None:
        cell.alarm(kind.until)
    if task is None or task.status not in WAITING or task.cancel or task.id in cell.probes:
        return  # the next decision tries another
    kind.probe = task.id
    cell.probes[task.id] = kind.key
    cell.let_go([task.id])


def _closed(cell: Cell, data: BreakerClosed, _: Event, __: Recorded, ___: int) -> None:
    if data.breaker_id.startswith(DEVICE_PREFIX):
        device_closed(cell, data)
        return
    if not data.breaker_id.startswith(WORKER_PREFIX):
        _kind_closed(cell, data)
        return
    worker = _worker_of(cell, data.breaker_id)
    if worker is None or worker.health is None or worker.health.guard is Guard.CLOSED:
        cell.ignore(OUT_OF_DATE)
    elif worker.health.guard in (Guard.OPEN, Guard.HALF_OPEN):
        _let_in(cell, worker, data.cause)
    else:
        cell.ignore(OUT_OF_DATE)


def _let_in(cell: Cell, worker: Worker, cause: str) -> None:
    if worker.health is not None and cause != "fleet_guard":
        worker.health.strikes = []
    _set(cell, worker, Guard.CLOSED, cause=cause)


def _kind_closed(cell: Cell, data: BreakerClosed) -> None:
    kind = cell.kinds.get(data.breaker_id)
    if kind is None or kind.guard is Guard.CLOSED:
        cell.ignore(OUT_OF_DATE)
        return
    if kind.probe is not None:
        cell.probes.pop(kind.probe, None)
    kind.guard, kind.cause, kind.since, kind.until = Guard.CLOSED, data.cause, cell.now, None
    kind.count, kind.probe, kind.probed, kind.faults = 0, None, "", []
    kind.passed.clear()
    cell.shut.discard(kind.key)
    cell.let_go([task_id for task_id, key in cell.held.items() if key == kind.key])


# -- quarantine ---------------------------------------------------------------------------------


def _quarantined(cell: Cell, data: WorkerQuarantined, _: Event, __: Recorded, ___: int) -> None:
    worker = cell.workers.get(data.worker_id)
    if worker is None or (worker.health is not None and worker.health.guard in BARRED):
        cell.ignore(OUT_OF_DATE)
        return
    _set(cell, worker, Guard.QUARANTINED, until=data.until, cause="health")
    if worker.health is not None:
        worker.health.quarantines = data.count


def _reinstated(cell: Cell, data: WorkerReinstated, _: Event, __: Recorded, ___: int) -> None:
    worker = cell.workers.get(data.worker_id)
    health = worker.health if worker is not None else None
    if worker is None or health is None or not _ends_by_itself(health):
        cell.ignore(OUT_OF_DATE)
        return
    if data.cause == "fleet_guard":
        health.quarantines = max(0, health.quarantines - 1)
    _let_in(cell, worker, data.cause)


def _ends_by_itself(health: Health) -> bool:
    """Say whether it is a quarantine, and not one of an operator."""
    waits = health.guard is Guard.QUARANTINED and health.until is not None
    return waits or health.guard is Guard.PROBATION


def _asked(
    cell: Cell, data: WorkerQuarantineRequested, _: Event, record: Recorded, index: int
) -> None:
    worker = _known(cell, data.worker_id, record, index)
    if worker is not None:
        cause = f"operator: {data.reason}" if data.reason else "operator"
        _set(cell, worker, Guard.QUARANTINED, cause=cause)


def _asked_back(
    cell: Cell, data: WorkerReinstateRequested, _: Event, record: Recorded, index: int
) -> None:
    worker = _known(cell, data.worker_id, record, index)
    if worker is not None:
        _let_in(cell, worker, "operator")
        release(cell, worker, list(worker.devices), "operator")
        if worker.drain and cell.term.rules >= DRAIN_ENDS_RULES:
            worker.drain = False
            if worker.status is WorkerStatus.DRAINING:
                worker.status = WorkerStatus.ACTIVE
        cell.refresh_free(worker)


def _known(cell: Cell, worker_id: WorkerId, record: Recorded, index: int) -> Worker | None:
    worker = cell.workers.get(worker_id)
    if worker is None:
        cell.refuse(record, index, RefusalCode.UNKNOWN_WORKER, f"unknown worker {worker_id}")
    return worker


HEALTH_FOLDS: Folds = {
    BreakerOpened: _opened,
    BreakerHalfOpened: _half_opened,
    BreakerClosed: _closed,
    WorkerQuarantined: _quarantined,
    WorkerReinstated: _reinstated,
    WorkerQuarantineRequested: _asked,
    WorkerReinstateRequested: _asked_back,
}
