"""Decide when breakers open, are tried and close, and which workers are quarantined.

A kind of task on which many workers trip is blamed before any of them: what it did to workers is
taken back, and they are released. Pure; looks only at what has faulted.
"""

import math
from collections.abc import Iterator, Sequence

from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.catalogue import SchedulerPayload
from dtest.events.fields import instant_of
from dtest.events.parameters import Parameters
from dtest.events.reasons import Reason
from dtest.events.task import TaskEnded
from dtest.events.worker import WorkerQuarantined, WorkerReinstated
from dtest.recovery.devices import decide_devices
from dtest.state.cell import Cell, entry_of
from dtest.state.health import BARRED, TRYING, Guard, Health, Kind, Strike, worker_breaker
from dtest.state.task import WAITING, Task
from dtest.state.worker import GONE, Worker

WORKERS_NAMED_MAX = 16
"""Most workers named by one event."""


def decide_guards(cell: Cell, now: float, parameters: Parameters) -> Iterator[SchedulerPayload]:
    """Yield what has to be ruled about breakers and quarantine now."""
    blamed: set[str] = set()
    for kind in cell.kinds.values():
        for ruling in _kind(cell, kind, now, parameters):
            if isinstance(ruling, BreakerOpened):
                blamed.add(kind.key)
            yield ruling
    for worker_id in sorted(cell.ailing):
        worker = cell.workers[worker_id]
        if worker.status in GONE:
            continue
        yield from decide_devices(worker, now, parameters, blamed)
        if worker.health is not None:
            yield from _worker(worker, worker.health, now, parameters, blamed)


# -- kinds of task ------------------------------------------------------------------------------


def _kind(cell: Cell, kind: Kind, now: float, parameters: Parameters) -> Iterator[SchedulerPayload]:
    match kind.guard:
        case Guard.CLOSED:
            cause = _tripped(kind, now, parameters)
            if cause is not None:
                yield _open(kind, now, parameters, cause)
        case Guard.OPEN if kind.count >= parameters.kind_openings_max and _waiting(cell, kind):
            detail = f"the breaker {kind.key} opened {kind.count} times in a row"
            for task in _waiting(cell, kind):
                yield TaskEnded(task.id, "errored", Reason.BREAKER_OPEN, None, detail)
        case Guard.OPEN if kind.until is not None and now >= kind.until:
            yield _try(cell, kind, now, parameters)
        case Guard.HALF_OPEN if kind.probed == "passed":
            yield BreakerClosed(kind.key, "probe_passed")
        case Guard.HALF_OPEN if kind.probed == "faulted":
            yield _open(kind, now, parameters, "probe_faulted")
        case Guard.HALF_OPEN if kind.probe is None:
            yield _try(cell, kind, now, parameters)
        case Guard.HALF_OPEN if _unheard(cell, kind, now):
            yield BreakerClosed(kind.key, "nothing_ran")
        case _:
            pass


def _tripped(kind: Kind, now: float, parameters: Parameters) -> str | None:
    """Say why a kind's breaker has to open, or none."""
    if len(kind.faults) < min(parameters.breaker_threshold, parameters.fleet_workers_min):
        return None
    since = now - parameters.fleet_window_s
    recent = [fault for fault in kind.faults if fault[1] >= since]
    workers = {fault[2] for fault in recent}
    ran = workers | {name for name, at in kind.passed.items() if at >= since}
    if (
        len(workers) >= parameters.fleet_workers_min
        and len(workers) >= parameters.fleet_ratio_min * len(ran)
        and len({fault[3] for fault in recent}) >= parameters.fleet_tasks_min
    ):
        return "fleet_guard"
    row = [fault for fault in recent if fault[0] > kind.passed_seq]
    if (
        kind.key.startswith("signature:")
        and len({fault[3] for fault in row}) >= parameters.breaker_threshold
        and len({fault[2] for fault in row}) >= parameters.kind_workers_min
    ):
        return "consecutive_faults"
    return None


def _open(kind: Kind, now: float, parameters: Parameters, cause: str) -> BreakerOpened:
    until = instant_of(now + parameters.breaker_open_s)
    workers = tuple(sorted({fault[2] for fault in kind.faults} or set(kind.workers)))
    named = workers[:WORKERS_NAMED_MAX]
    return BreakerOpened(kind.key, until, cause, kind.count + 1, named)  # type: ignore[arg-type]


def _try(cell: Cell, kind: Kind, now: float, parameters: Parameters) -> SchedulerPayload:
    waiting = _waiting(cell, kind)
    if not waiting:
        return BreakerClosed(kind.key, "nothing_ran")
    first = next((task for task in waiting if _can_run(cell, task)), waiting[0])
    return BreakerHalfOpened(kind.key, first.id, instant_of(now + parameters.probation_s))


def _waiting(cell: Cell, kind: Kind) -> list[Task]:
    """Return the tasks that the breaker keeps waiting, the most urgent first."""
    held = [cell.tasks[task_id] for task_id, key in cell.held.items() if key == kind.key]
    return sorted(held, key=entry_of)


def _can_run(cell: Cell, task: Task) -> bool:
    return any(cell.workers[name].takes_work for name in task.demand.servers)


def _unheard(cell: Cell, kind: Kind, now: float) -> bool:
    """Say whether the task that is to be tried found no worker in time."""
    late = kind.until is not None and now >= kind.until
    return late and kind.probe is not None and cell.tasks[kind.probe].status in WAITING


# -- workers ------------------------------------------------------------------------------------


def _worker(
    worker: Worker, health: Health, now: float, parameters: Parameters, blamed: set[str]
) -> Iterator[SchedulerPayload]:
    if health.guard is Guard.QUARANTINED and health.until is None:
        return  # an operator's, and an operator ends it
    strikes = [item for item in health.strikes if blamed.isdisjoint(item.kinds)]
    if (
        health.guard is not Guard.CLOSED
        and health.pardoned
        and not _cause(strikes, now, parameters)
    ):
        yield _released(worker, health, "fleet_guard")
    elif health.guard is Guard.CLOSED:
        cause = _cause(strikes, now, parameters)
        if cause:
            yield _barred(worker, strikes, now, parameters, cause)
    elif health.guard in BARRED:
        if health.until is not None and now >= health.until:
            until = instant_of(now + parameters.probation_s)
            yield BreakerHalfOpened(worker_breaker(worker.id), None, until)
    elif health.guard in TRYING:
        yield from _tried(worker, health, now, parameters)


def _tried(
    worker: Worker, health: Health, now: float, parameters: Parameters
) -> Iterator[SchedulerPayload]:
    if health.probed == "passed":
        yield _released(worker, health, "probe_passed")
    elif health.probed == "faulted":
        again = "health" if health.guard is Guard.PROBATION else ""
        again = again or _cause(health.strikes, now, parameters)
        yield _barred(worker, health.strikes, now, parameters, again or "probe_faulted")
    elif health.probe is None and health.until is not None and now >= health.until:
        yield _released(worker, health, "nothing_ran")


def _cause(strikes: Sequence[Strike], now: float, parameters: Parameters) -> str:
    """Say for what a worker is to be barred, or nothing."""
    if score(strikes, now, parameters) < parameters.health_threshold:
        return "health"
    if sum(item.passes == 0 for item in strikes) >= parameters.breaker_threshold:
        return "consecutive_faults"
    return ""


def _barred(
    worker: Worker, strikes: Sequence[Strike], now: float, parameters: Parameters, cause: str
) -> SchedulerPayload:
    if cause != "health":
        until = instant_of(now + parameters.breaker_open_s)
        return BreakerOpened(worker_breaker(worker.id), until, cause, 1, (worker.id,))  # type: ignore[arg-type]
    count = _quarantines(worker.health, now, parameters) + 1
    length_s = parameters.quarantine_s * parameters.quarantine_factor ** min(count - 1, 64)
    until = instant_of(now + min(length_s, parameters.quarantine_s_max))
    return WorkerQuarantined(worker.id, until, score(strikes, now, parameters), count)


def _quarantines(health: Health | None, now: float, parameters: Parameters) -> int:
    """Return how many quarantines of late count against the worker."""
    if health is None:
        return 0
    forgotten = health.guard is Guard.CLOSED and now - health.since > parameters.quarantine_memory_s
    return 0 if forgotten else health.quarantines


def _released(worker: Worker, health: Health, cause: str) -> SchedulerPayload:
    if health.guard in (Guard.QUARANTINED, Guard.PROBATION):
        return WorkerReinstated(worker.id, cause)  # type: ignore[arg-type]
    return BreakerClosed(worker_breaker(worker.id), cause)  # type: ignore[arg-type]


def score(strikes: Sequence[Strike], now: float, parameters: Parameters) -> float:
    """Return the health of a worker from 0 to 100; it rises with time and with each verdict."""
    weight = sum(_weight(item, now, parameters) for item in strikes)
    return round(max(0.0, 100.0 - parameters.strike_points * weight), 3)


def _weight(item: Strike, now: float, parameters: Parameters) -> float:
    half_lives = max(0.0, now - item.at) / parameters.strike_half_life_s
    return math.pow(parameters.strike_pass_factor, item.passes) * math.pow(0.5, half_lives)
