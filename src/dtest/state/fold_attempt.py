"""Fold of what happens to attempts. Fenced by the attempt's number: late reports change nothing."""

from dtest.events.attempt import (
    AttemptAssigned,
    AttemptCheckpointed,
    AttemptCheckpointFailed,
    AttemptFinished,
    AttemptRefused,
    AttemptReleased,
    AttemptReturned,
    AttemptStarted,
    AttemptStopRequested,
    Checkpoint,
    TestcaseFinished,
)
from dtest.events.codec import fingerprint
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import TaskId, WorkerId, epoch_s
from dtest.events.reasons import MEANINGS, Reason, RefusalCode
from dtest.events.task import TaskQueued
from dtest.state.cell import Cell, Folds
from dtest.state.durations import Durations, duration_key
from dtest.state.health import Guard
from dtest.state.strikes import strike, vouch
from dtest.state.task import LIVE, Status, Task
from dtest.state.worker import GONE


def _assigned(cell: Cell, data: AttemptAssigned, _: Event, __: Recorded, ___: int) -> None:
    task = cell.tasks.get(data.task_id)
    worker = cell.workers.get(data.worker_id)
    if (
        task is None
        or worker is None
        or task.status not in (Status.QUEUED, Status.DELAYED)
        or data.attempt != task.attempt + 1
        or worker.status in GONE
        or worker.incarnation != data.incarnation
    ):
        cell.ignore("assignment_out_of_date")
        return
    cell.dequeue(task)
    cell.expiring.pop(task.id, None)
    cell.enlarged.pop(task.id, None)
    task.attempt = data.attempt
    task.worker_id = worker.id
    task.hardware = data.hardware
    task.devices = data.devices
    worker.running[task.id] = data.attempt
    worker.free.take_named(task.demand, data.hardware, data.devices)
    if worker.health is not None and worker.is_tried and worker.health.probe is None:
        worker.health.probe = (task.id, data.attempt)
    for name in data.devices if worker.devices else ():
        device = worker.devices.get(name)
        if device is not None and device.guard is Guard.HALF_OPEN and device.probe is None:
            device.probe = (task.id, data.attempt)
    cell.refresh_free(worker)
    cell.hold(task, Status.ASSIGNED)
    cell.set_timer(cell.now + cell.parameters.accept_s_max, "accept", task)


def _current(
    cell: Cell,
    record: Recorded,
    index: int,
    attempt: tuple[TaskId, int, WorkerId],
) -> Task | None:
    """Return the task if this is its live attempt on that worker; else count or refuse."""
    task_id, number, worker_id = attempt
    task = cell.tasks.get(task_id)
    if task is None:
        cell.refuse(record, index, RefusalCode.UNKNOWN_TASK, f"unknown task {task_id}")
        return None
    assigned_here = number < task.attempt or (
        number == task.attempt and task.worker_id == worker_id
    )
    if not assigned_here:
        detail = f"attempt {number} of task {task_id} was never assigned to {worker_id}"
        cell.refuse(record, index, RefusalCode.NOT_ASSIGNED, detail)
        return None
    if number != task.attempt or task.status not in LIVE:
        cell.ignore("stale_attempt")
        return None
    return task


def _started(cell: Cell, data: AttemptStarted, _: Event, record: Recorded, index: int) -> None:
    task = _current(cell, record, index, (data.task_id, data.attempt, data.worker_id))
    if task is None:
        _stop_late(cell, data)
        return
    cell.unaccepted.pop(task.id, None)
    task.started = True
    if task.status is Status.ASSIGNED:
        cell.hold(task, Status.RUNNING)


def _stop_late(cell: Cell, data: AttemptStarted) -> None:
    """An attempt that was given away before it started runs in vain: the worker is to stop it."""
    task = cell.tasks.get(data.task_id)
    given_away = task is not None and (data.attempt < task.attempt or task.status not in LIVE)
    if given_away and data.worker_id in cell.workers:
        cell.strays[data.worker_id, data.task_id, data.attempt] = None


def _finished(cell: Cell, data: AttemptFinished, _: Event, record: Recorded, index: int) -> None:
    task = _current(cell, record, index, (data.task_id, data.attempt, data.worker_id))
    if task is None:
        return
    cell.release_capacity(task)
    task.started = True
    if data.outcome in ("passed", "failed") and (cell.ailing or cell.kinds):
        vouch(cell, task)
    match data.outcome:
        case "passed":
            if task.spec is not None:
                task.fingerprint = fingerprint(task.spec)
                if cell.timeouts == "observed":
                    _took(cell, task, task.spec, data)
            task.spec = None
            cell.end(task, Status.PASSED, None)
        case "failed":
            reason = data.reason or Reason.EXIT_NONZERO
            task.failed_before = True
            if task.cancel or _may_retry(task, reason):
                judge(cell, task, reason)
            else:
                cell.end(task, Status.FAILED, reason)
        case "faulted":
            if data.reason is Reason.CHECKPOINT_DAMAGED:
                task.checkpoint = None  # the next attempt starts anew
            task.memory_bytes_peak = data.memory_bytes_peak or 0
            judge(cell, task, data.reason or Reason.UNKNOWN)
        case "cancelled":
            if task.cancel:
                cell.end(task, Status.CANCELLED, data.reason or Reason.CANCELLED_USER)
            else:  # stopped by the agent for a reason of its own
                judge(cell, task, data.reason or Reason.WORKER_SHUTDOWN)


def _took(cell: Cell, task: Task, spec: TaskQueued, data: AttemptFinished) -> None:
    """Count how long a whole run took of a task for which nobody states a time-out."""
    worker = cell.workers.get(data.worker_id)
    resumed = task.attempt > 1 and task.checkpoint is not None
    smaller = task.remedy is not None and task.remedy.fallback
    if worker is None or spec.timeout_seconds is not None or resumed or smaller:
        return
    key = duration_key(spec, task.hardware, simulated=worker.simulated)
    known = cell.durations.pop(key, None) or Durations()
    while len(cell.durations) >= cell.parameters.durations_max:
        cell.durations.popitem(last=False)
    cell.durations[key] = known
    known.add(
        epoch_s(data.finished_at) - epoch_s(data.started_at),
        count_max=cell.parameters.duration_count_max,
    )


def _may_retry(task: Task, reason: Reason) -> bool:
    return (
        task.spec is not None
        and MEANINGS[reason].retry != "never"
        and task.spec.retry_policy.max_retries > task.retries_used
    )


def judge(cell: Cell, task: Task, reason: Reason) -> None:
    """Leave it to the next decision whether the task is tried again."""
    worker_id = task.worker_id
    if worker_id is not None and reason is not Reason.WORKER_SHUTDOWN:
        others = (name for name in task.avoid if name != worker_id)
        task.avoid = (*others, worker_id)[-cell.parameters.avoid_max :]
    task.reason = reason
    strike(cell, task, reason)
    cell.hold(task, Status.JUDGED)
    cell.judged[task.id] = None
    cell.cancelling.pop(task.id, None)
    cell.unaccepted.pop(task.id, None)


def _give_up(cell: Cell, task: Task, reason: Reason) -> None:
    cell.release_capacity(task)
    judge(cell, task, reason)


def _checkpointed(
    cell: Cell, data: AttemptCheckpointed, _: Event, record: Recorded, index: int
) -> None:
    task = _current(cell, record, index, (data.task_id, data.attempt, data.worker_id))
    if task is None:
        return
    known = task.checkpoint
    if known is not None and (known.attempt, known.number) >= (data.attempt, data.number):
        cell.ignore("checkpoint_out_of_date")
        return
    task.checkpoint = Checkpoint(
        data.attempt,
        data.number,
        data.object_name,
        data.size_bytes,
        data.sha256,
        data.taken_at,
    )


def _not_checkpointed(
    cell: Cell, data: AttemptCheckpointFailed, _: Event, record: Recorded, index: int
) -> None:
    _current(cell, record, index, (data.task_id, data.attempt, data.worker_id))


def _refused(cell: Cell, data: AttemptRefused, _: Event, record: Recorded, index: int) -> None:
    task = _current(cell, record, index, (data.task_id, data.attempt, data.worker_id))
    if task is not None:
        _give_up(cell, task, Reason.NOT_ACCEPTED)


def _released(cell: Cell, data: AttemptReleased, _: Event, record: Recorded, index: int) -> None:
    task = _current(cell, record, index, (data.task_id, data.attempt, data.worker_id))
    if task is not None:
        _give_up(cell, task, data.reason)


def _returned(cell: Cell, data: AttemptReturned, _: Event, __: Recorded, ___: int) -> None:
    task = cell.tasks.get(data.task_id)
    if task is None or task.status is not Status.ASSIGNED or task.attempt != data.attempt:
        cell.ignore("return_out_of_date")
        return
    _give_up(cell, task, data.reason)


def _stop(cell: Cell, data: AttemptStopRequested, _: Event, __: Recorded, ___: int) -> None:
    stray = (data.worker_id, data.task_id, data.attempt)
    if stray in cell.strays:
        del cell.strays[stray]
        return
    task = cell.tasks.get(data.task_id)
    if (
        task is None
        or task.status not in LIVE
        or (task.worker_id, task.attempt) != (data.worker_id, data.attempt)
    ):
        cell.ignore("stop_out_of_date")
        return
    cell.cancelling.pop(task.id, None)
    cell.unaccepted.pop(task.id, None)
    cell.hold(task, Status.STOPPING)


def _testcase(cell: Cell, data: TestcaseFinished, _: Event, record: Recorded, index: int) -> None:
    task = cell.tasks.get(data.task_id)
    if task is None:
        cell.refuse(record, index, RefusalCode.UNKNOWN_TASK, f"unknown task {data.task_id}")
    elif data.attempt > task.attempt or (
        data.attempt == task.attempt and task.worker_id != data.worker_id
    ):
        detail = f"attempt {data.attempt} of task {task.id} was never assigned there"
        cell.refuse(record, index, RefusalCode.NOT_ASSIGNED, detail)


ATTEMPT_FOLDS: Folds = {
    AttemptAssigned: _assigned,
    AttemptStarted: _started,
    AttemptCheckpointed: _checkpointed,
    AttemptCheckpointFailed: _not_checkpointed,
    AttemptFinished: _finished,
    AttemptRefused: _refused,
    AttemptReleased: _released,
    AttemptReturned: _returned,
    AttemptStopRequested: _stop,
    TestcaseFinished: _testcase,
}
