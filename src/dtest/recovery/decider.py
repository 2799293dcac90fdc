"""Decide what follows from faults, losses, refusals, cancellations and passed instants.

Retry is keyed on the reason: what the test did is repeated only if its own policy says so, what
the infrastructure did is repeated elsewhere, from a budget of its own.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

from dtest.events.attempt import AttemptReturned, AttemptStopRequested
from dtest.events.catalogue import SchedulerPayload
from dtest.events.fields import instant_of
from dtest.events.leader import EventRefused
from dtest.events.parameters import Parameters
from dtest.events.reasons import MEANINGS, Reason
from dtest.events.task import TaskEnded, TaskRetryScheduled
from dtest.events.worker import WorkerLost
from dtest.recovery.backoff import backoff_s
from dtest.recovery.guards import decide_guards
from dtest.recovery.sizing import decide_sizes, remedy_for, why_no_remedy
from dtest.state.cell import Cell
from dtest.state.task import LIVE, Task

_VERDICTS = frozenset({Reason.ASSERTION_FAILED, Reason.EXIT_NONZERO})
_TIMEOUTS = frozenset({Reason.RUN_TIMEOUT, Reason.IDLE_OUTPUT_TIMEOUT})
_SIZED = frozenset({Reason.OOM_DEVICE, Reason.OOM_TASK, Reason.RUN_TIMEOUT})
Order = Callable[[Iterable[Any]], Iterable[Any]]
"""Puts what ``Cell.wake`` brought up in an order. When it was called, and how often, must not
matter once a decision holds only a part: sorted, by rules 1; as it came up, before."""
Budget = Literal["user", "infrastructure", "refusal", "preemption", "none"]


def decide_recovery(
    cell: Cell, now: float, *, order: Order = sorted
) -> tuple[list[SchedulerPayload], bool]:
    """Return what has to be ruled now, and whether there is more than one decision holds.

    ``now`` in seconds since 1970 UTC; ``order`` is that of what time alone brought up.
    """
    rulings = _rulings(cell, now, order)
    ruled = list(islice(rulings, cell.parameters.rulings_max))
    return ruled, next(rulings, None) is not None


def _rulings(cell: Cell, now: float, order: Order) -> Iterator[SchedulerPayload]:
    parameters = cell.parameters
    yield from decide_guards(cell, now, parameters)
    for worker_id, evidence in order(cell.suspects.items()):
        yield WorkerLost(worker_id, cell.workers[worker_id].incarnation, evidence)
    for pending in cell.refusals.values():
        yield EventRefused(
            pending.seq, pending.index, pending.code, pending.detail, pending.subject[:200]
        )
    for worker_id, task_id, attempt in cell.strays:
        yield AttemptStopRequested(task_id, attempt, worker_id, Reason.WORKER_LOST)
    for task_id in cell.cancelling:
        if not _lost_with_its_worker(cell, cell.tasks[task_id]):
            yield from _cancellation(cell.tasks[task_id])
    for task_id in cell.judged:
        yield _judgement(cell, cell.tasks[task_id], now, parameters)
    yield from decide_sizes(cell, now)
    for task_id, upstream_id in cell.doomed.items():
        if task_id not in cell.cancelling:
            upstream = cell.tasks[upstream_id]
            yield TaskEnded(
                task_id,
                "skipped",
                Reason.DEPENDENCY_NEVER,
                upstream_id,
                f"{upstream_id} is {upstream.status}",
            )
    for task_id, reason in order(cell.expiring.items()):
        if task_id not in cell.cancelling and task_id not in cell.doomed:
            yield TaskEnded(task_id, "expired", reason)
    yield from _returns(cell, now, order)


def _returns(cell: Cell, now: float, order: Order) -> Iterator[SchedulerPayload]:
    for task_id, attempt in order(cell.unaccepted.items()):
        task = cell.tasks[task_id]
        if task.worker_id is None or task_id in cell.cancelling or now < cell.return_at(task):
            continue
        if not _lost_with_its_worker(cell, task):
            yield AttemptReturned(task_id, attempt, task.worker_id)


def _lost_with_its_worker(cell: Cell, task: Task) -> bool:
    """Say whether this very decision gives up the worker: the attempt ends by that already."""
    return task.status in LIVE and task.worker_id in cell.suspects


def _cancellation(task: Task) -> Iterator[SchedulerPayload]:
    if task.status not in LIVE:
        yield TaskEnded(task.id, "cancelled", Reason.CANCELLED_USER)
    elif task.worker_id is not None:
        yield AttemptStopRequested(task.id, task.attempt, task.worker_id, Reason.CANCELLED_USER)


def _judgement(cell: Cell, task: Task, now: float, parameters: Parameters) -> SchedulerPayload:
    reason = task.reason or Reason.UNKNOWN
    if task.cancel:
        return TaskEnded(task.id, "cancelled", Reason.CANCELLED_USER)
    if reason in _SIZED and task.faults_used < parameters.faults_max:
        again = _repetition(cell, task, now, parameters, reason)
        if again is not None:
            return again
    match MEANINGS[reason].retry:
        case "refused" if task.refusals_used < parameters.refusals_max:
            delay_s = backoff_s(parameters, parameters.refusal_delay_s, task.refusals_used, task.id)
            return _again(task, now + delay_s, reason, "refusal")
        case "preempted" if task.preemptions_used < parameters.preemptions_max:
            return _again(task, now + _after_preemption_s(task, parameters), reason, "preemption")
        case "elsewhere" if task.faults_used < parameters.faults_max:
            delay_s = backoff_s(parameters, parameters.fault_delay_s, task.faults_used, task.id)
            return _again(task, now + delay_s, reason, "infrastructure")
        case "once" if task.faults_used < 1:
            return _again(task, now + parameters.fault_delay_s, reason, "infrastructure")
        case "policy" if task.spec and task.retries_used < task.spec.retry_policy.max_retries:
            first_s = task.spec.retry_policy.retry_delay_seconds
            delay_s = backoff_s(parameters, first_s, task.retries_used, task.id)
            factor = _stretched(task, parameters) if reason in _TIMEOUTS else None
            return _again(task, now + delay_s, reason, "user", factor)
        case _:
            status: Literal["failed", "errored"] = "failed" if reason in _VERDICTS else "errored"
            return TaskEnded(task.id, status, reason, None, why_no_remedy(task))


def _repetition(
    cell: Cell, task: Task, now: float, parameters: Parameters, reason: Reason
) -> TaskRetryScheduled | None:
    """Give the task a place that is large enough, or more time than a limit that was reckoned."""
    remedy = remedy_for(cell, task, now, parameters)
    unstated = task.spec is not None and task.spec.timeout_seconds is None
    reckoned = unstated and cell.timeouts == "observed" and task.timeout_factor <= 1.0
    is_late = reason is Reason.RUN_TIMEOUT
    factor = parameters.timeout_observed_factor if reckoned and is_late else None
    if remedy is None and factor is None:
        return None
    delay_s = backoff_s(parameters, parameters.fault_delay_s, task.faults_used, task.id)
    again = _again(task, now + delay_s, reason, "infrastructure", factor)
    return replace(again, remedy=remedy)


def _after_preemption_s(task: Task, parameters: Parameters) -> float:
    """The first time a task goes back at once; one that nobody keeps waits ever longer."""
    if not task.preemptions_used:
        return 0.0
    return backoff_s(parameters, parameters.refusal_delay_s, task.preemptions_used - 1, task.id)


def _stretched(task: Task, parameters: Parameters) -> float:
    return min(task.timeout_factor * parameters.timeout_multiplier, parameters.timeout_factor_max)


def _again(
    task: Task, at: float, reason: Reason, budget: Budget, timeout_factor: float | None = None
) -> TaskRetryScheduled:
    not_before = instant_of(at)
    return TaskRetryScheduled(task.id, task.attempt, not_before, reason, budget, timeout_factor)
