"""Decide what an attempt gets that ended because its place was too small: a larger one, or less.

Only connected workers that take work count. Each of the remedies is given once, from the
infrastructure budget; nothing waits for a place that is gone. Pure.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from dtest.events.fields import instant_of
from dtest.events.parameters import Parameters
from dtest.events.reasons import Reason
from dtest.events.task import Remedy, TaskRetryScheduled
from dtest.events.worker import Device
from dtest.state.cell import Cell
from dtest.state.demand import NO_REMEDY
from dtest.state.task import Task
from dtest.state.worker import Worker


def remedy_for(cell: Cell, task: Task, now: float, parameters: Parameters) -> Remedy | None:
    """Return what the next attempt is to have, or none if there is no remedy (any more)."""
    given = task.remedy or NO_REMEDY
    until = instant_of(now + parameters.larger_wait_s)
    match task.reason:
        case Reason.OOM_DEVICE:
            larger_gb = _larger_device_gb(cell, task) if not given.min_device_memory_gb else None
            if larger_gb is not None:
                return replace(given, min_device_memory_gb=larger_gb, until=until)
            if task.spec is not None and task.spec.fallback_config and not given.fallback:
                return replace(given, fallback=True, until=until if given.enlarges else None)
        case Reason.OOM_TASK | Reason.RUN_TIMEOUT if not given.min_memory_gb:
            limit_gb = (task.spec.memory_limit_gb if task.spec is not None else None) or 0.0
            raised = task.reason is Reason.OOM_TASK and limit_gb > 0
            factor = parameters.memory_multiplier if raised else 1.0
            larger_gb = _larger_machine_gb(cell, task, limit_gb * factor, parameters)
            if larger_gb is not None:
                return replace(given, min_memory_gb=larger_gb, memory_factor=factor, until=until)
        case _:
            pass
    return None


def why_no_remedy(task: Task) -> str:
    """Say why a task ends that ran out of the memory of its device."""
    if task.reason is not Reason.OOM_DEVICE:
        return ""
    given = task.remedy or NO_REMEDY
    where = f"it ran out of the memory of {', '.join(task.devices)} on {task.worker_id}"
    larger = "even on a larger device" if given.enlarges else "no larger one takes work"
    declared = task.spec is not None and task.spec.fallback_config
    smaller = "even with its fallback_config" if given.fallback else "it has no fallback_config"
    spent = "no infrastructure retry is left" if declared and not given.fallback else smaller
    return f"{where}; {larger}; {spent}"


def decide_sizes(cell: Cell, now: float) -> Iterator[TaskRetryScheduled]:
    """Yield the tasks that wait for a larger place in vain: they go elsewhere, smaller if can be.

    A busy place is waited for; one that is gone, suspect, draining or quarantined is not.
    """
    for task_id in sorted(cell.enlarged):
        task = cell.tasks[task_id]
        remedy = task.remedy
        if remedy is None or remedy.until is None or task.cancel or task_id in cell.expiring:
            continue
        if now < remedy.until.timestamp() or now < task.not_before:
            continue
        if any(cell.workers[name].takes_work for name in task.demand.servers):
            continue
        smaller = task.spec is not None and task.spec.fallback_config is not None
        fallback = remedy.fallback or (smaller and remedy.min_device_memory_gb > 0)
        reason = task.reason or Reason.OOM_DEVICE
        elsewhere = Remedy(fallback=fallback)
        at = instant_of(now)
        yield TaskRetryScheduled(task_id, task.attempt, at, reason, "none", None, elsewhere)


# -- what is larger -----------------------------------------------------------------------------


def _larger_device_gb(cell: Cell, task: Task) -> float | None:
    """Return the memory of the smallest device that is larger than those of the attempt."""
    had = [device.memory_gb for device in _devices(_worker(cell, task), task.devices.__contains__)]
    if not had or None in had:
        return None  # nobody knows how much was too little
    least_gb = min(memory_gb for memory_gb in had if memory_gb is not None)
    found = [
        larger
        for worker in _serving(cell, task)
        for kind, fitting in task.demand.servers[worker.id].items()
        if (wanted := task.demand.devices_for(kind))
        for larger in _sizes(worker, fitting.__contains__, least_gb)[: 1 - wanted or None]
    ]
    return min(found, default=None)


def _sizes(worker: Worker, wanted: Callable[[str], bool], above_gb: float) -> list[float]:
    """Return the sizes of a worker's devices above a size, ascending."""
    sizes = (device.memory_gb for device in _devices(worker, wanted))
    return sorted(size for size in sizes if size is not None and size > above_gb)


def _devices(worker: Worker | None, wanted: Callable[[str], bool]) -> list[Device]:
    has = worker.capability.devices if worker is not None else ()
    return [device for device in has if wanted(device.device_id)]


def _larger_machine_gb(
    cell: Cell, task: Task, limit_gb: float, parameters: Parameters
) -> float | None:
    """Return the memory of the smallest larger machine, if the attempt needed one."""
    ran_on = _worker(cell, task)
    if ran_on is None:
        return None
    had_gb, peak_gb = ran_on.capability.memory_gb, task.memory_bytes_peak / 1e9
    stated_gb = task.spec.memory_limit_gb if task.spec is not None else None
    reached = task.reason is Reason.OOM_TASK and stated_gb is not None and peak_gb >= stated_gb
    if not reached and not peak_gb >= parameters.undersized_part * had_gb > 0:
        return None
    sizes = (worker.capability.memory_gb for worker in _serving(cell, task))
    return min((size for size in sizes if size > had_gb and size >= limit_gb), default=None)


def _serving(cell: Cell, task: Task) -> list[Worker]:
    found = (cell.workers[name] for name in task.demand.servers)
    return [worker for worker in found if worker.takes_work]


def _worker(cell: Cell, task: Task) -> Worker | None:
    return cell.workers.get(task.worker_id) if task.worker_id is not None else None
