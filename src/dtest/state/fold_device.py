"""Fold of what was decided about the breakers of devices, and what lets a device in early."""

from collections.abc import Iterable

from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.fields import epoch_s
from dtest.state.cell import Cell
from dtest.state.health import DeviceHealth, Guard, device_of
from dtest.state.worker import GONE, Worker

OUT_OF_DATE = "breaker_out_of_date"


def device_opened(cell: Cell, data: BreakerOpened) -> None:
    """The device gets nothing until it is tried."""
    worker, device = _of(cell, data.breaker_id)
    if worker is None or device is None or device.guard is Guard.OPEN:
        cell.ignore(OUT_OF_DATE)
        return
    device.guard, device.since, device.until = Guard.OPEN, cell.now, epoch_s(data.until)
    device.count, device.probe, device.probed = data.count, None, ""
    cell.alarm(device.until)
    _offer_anew(cell, worker)


def device_half_opened(cell: Cell, data: BreakerHalfOpened) -> None:
    """The next attempt that reserves the device is a try."""
    worker, device = _of(cell, data.breaker_id)
    if worker is None or device is None or device.guard is not Guard.OPEN:
        cell.ignore(OUT_OF_DATE)
        return
    device.guard, device.since, device.probe, device.probed = Guard.HALF_OPEN, cell.now, None, ""
    device.until = epoch_s(data.until) if data.until is not None else cell.now
    cell.alarm(device.until)
    _offer_anew(cell, worker)


def device_closed(cell: Cell, data: BreakerClosed) -> None:
    """The device is as any other."""
    worker, device = _of(cell, data.breaker_id)
    if worker is None or device is None or device.guard is Guard.CLOSED:
        cell.ignore(OUT_OF_DATE)
        return
    del worker.devices[device_of(data.breaker_id)[1]]
    _offer_anew(cell, worker)


def release(cell: Cell, worker: Worker, names: Iterable[str], cause: str) -> None:
    """Have devices let in by the next decision; of those not barred yet, forget what was noted."""
    for name in names:
        if worker.devices[name].guard is Guard.CLOSED:
            del worker.devices[name]
        else:
            worker.devices[name].released = cause
    cell.index_health(worker)


def _of(cell: Cell, breaker_id: str) -> tuple[Worker | None, DeviceHealth | None]:
    worker_id, device_id = device_of(breaker_id)
    worker = cell.workers.get(worker_id)
    return worker, worker.devices.get(device_id) if worker is not None else None


def _offer_anew(cell: Cell, worker: Worker) -> None:
    if worker.status not in GONE:
        cell.introduce(worker)
    cell.index_health(worker)
