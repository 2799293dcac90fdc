"""Counts what attempts say for and against their worker, its devices and their kind of task.

Called by the folds of attempts. Costs next to nothing while nothing faults.
"""

from dtest.events.reasons import MEANINGS, Reason
from dtest.state.cell import Cell
from dtest.state.health import (
    DEVICE_FAULTS,
    LOSSES,
    STRIKING,
    TRYING,
    DeviceHealth,
    Guard,
    Health,
    Kind,
    Strike,
    kinds_of,
)
from dtest.state.task import Task
from dtest.state.term import UNRECORDED_RULES
from dtest.state.worker import Worker


def strike(cell: Cell, task: Task, reason: Reason) -> None:
    """Note an attempt that ended without a verdict."""
    if reason not in STRIKING:
        _probe_ended(cell, task, reason)
        return
    worker = cell.workers.get(task.worker_id) if task.worker_id is not None else None
    if worker is None or task.spec is None:
        return
    kinds = kinds_of(task.spec)
    probe_of = cell.probes.pop(task.id, None)
    if probe_of is not None:
        cell.kinds[probe_of].probed = "faulted"
        cell.kinds[probe_of].probe = None
    if not any(key in cell.shut for key in kinds):  # else what it is blamed on is known
        if reason not in DEVICE_FAULTS or _suspect(cell, worker, task, reason, kinds):
            _strike_worker(cell, worker, Strike(cell.seq, cell.now, task.id, reason, kinds))
        if reason not in LOSSES:
            for key in kinds:
                _strike_kind(cell, key, worker, task)


def _suspect(
    cell: Cell, worker: Worker, task: Task, reason: Reason, kinds: tuple[str, ...]
) -> bool:
    """Note the fault of the devices that the attempt had; say whether the worker is to blame too.

    It is where no device is known that could be, or where none is left that is not suspect: then
    rather what they share (driver, bus, power) is broken.
    """
    there = {device.device_id for device in worker.capability.devices}
    for name in there.intersection(task.devices):
        known = worker.devices.get(name)
        if known is None:
            worker.devices[name] = DeviceHealth(reason, kinds)
            continue
        known.reason, known.kinds, known.released = reason, kinds, ""
        if known.guard is Guard.HALF_OPEN:
            known.probed = "faulted"
    cell.index_health(worker)
    return there <= worker.devices.keys() or there.isdisjoint(task.devices)


def _strike_worker(cell: Cell, worker: Worker, new: Strike) -> None:
    if worker.health is None:
        worker.health = Health()
    health = worker.health
    last = health.strikes[-1] if health.strikes else None
    same_loss = last is not None and last.seq == new.seq and new.reason in LOSSES
    if not same_loss:
        others = [item for item in health.strikes if item.task_id != new.task_id]
        health.strikes = [*others, new][-cell.parameters.strikes_max :]
    if health.guard in TRYING:
        health.probed = "faulted"
    cell.heed(worker)


def _strike_kind(cell: Cell, key: str, worker: Worker, task: Task) -> None:
    kind = cell.kinds.get(key)
    if kind is None:
        if not _make_room_for_kind(cell):
            return
        kind = cell.kinds[key] = Kind(key)
    faults = [*kind.faults, (cell.seq, cell.now, worker.id, task.id)]
    kind.faults = faults[-cell.parameters.kind_faults_max :]


def _make_room_for_kind(cell: Cell) -> bool:
    """Forget the oldest kinds; say whether there is room for one more.

    Before rules were recorded one was forgotten at a time: the limit never fell.
    """
    while len(cell.kinds) >= cell.parameters.kinds_max:
        oldest = next((kind for kind in cell.kinds.values() if kind.guard is Guard.CLOSED), None)
        if oldest is None:
            return False
        del cell.kinds[oldest.key]
        if cell.term.rules == UNRECORDED_RULES:
            break
    return True


def _probe_ended(cell: Cell, task: Task, reason: Reason) -> None:
    """What the test did itself shows that its kind runs; one handed back is tried again."""
    key = cell.probes.get(task.id)
    meaning = MEANINGS[reason]
    if key is None or meaning.retry in ("refused", "preempted"):
        return
    del cell.probes[task.id]
    cell.kinds[key].probe = None
    cell.kinds[key].probed = "passed" if meaning.blame == "test" else ""


def vouch(cell: Cell, task: Task) -> None:
    """Note a verdict: the worker and the kind of task did what they are for."""
    worker = cell.workers.get(task.worker_id) if task.worker_id is not None else None
    if worker is None or task.spec is None:
        return
    health = worker.health
    if health is not None:
        for item in health.strikes:
            item.passes += 1
        forgiven = cell.parameters.forgiven_passes
        health.strikes = [item for item in health.strikes if item.passes < forgiven]
        if health.guard in TRYING:
            health.probed = "passed"
        cell.heed(worker)
    for name in task.devices if worker.devices else ():
        device = worker.devices.get(name)
        if device is not None and device.guard is Guard.HALF_OPEN:
            device.probed = "passed"
    for key in kinds_of(task.spec) if cell.kinds else ():
        kind = cell.kinds.get(key)
        if kind is not None:
            kind.passed[worker.id] = cell.now
            kind.passed_seq = cell.seq
            if kind.probe == task.id:
                del cell.probes[task.id]
                kind.probe, kind.probed = None, "passed"
