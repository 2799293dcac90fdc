"""Fold of what clients ask about tasks and runs, and of what was decided about tasks."""

from typing import Any

from dtest.events.codec import fingerprint
from dtest.events.config import config_fault
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import RunId, TaskId, epoch_s
from dtest.events.reasons import RefusalCode
from dtest.events.run import RunCancelRequested, RunOpened
from dtest.events.task import (
    Remedy,
    TaskCancelRequested,
    TaskEnded,
    TaskQueued,
    TaskRetryRequested,
    TaskRetryScheduled,
)
from dtest.state.cell import Cell, Folds
from dtest.state.demand import NO_REMEDY, enlarged
from dtest.state.task import LIVE, TERMINAL, WAITING, Run, Status, Task

DEFAULT_RUN = RunId("adhoc")
"""The run of tasks that name none."""


def admit(cell: Cell, record: Recorded, indexes: list[int]) -> None:
    """Take in the tasks of one message; they may depend on each other in any order."""
    specs: dict[TaskId, tuple[int, TaskQueued]] = {}
    for index in indexes:
        spec: Any = record.events[index]
        spec = spec.data
        known = cell.tasks.get(spec.task_id)
        if known is not None or spec.task_id in specs:
            _repeated(cell, record, index, spec, specs.get(spec.task_id))
            continue
        fault = config_fault(spec.type, spec.config, spec.fallback_config)
        if fault is not None:
            cell.refuse(record, index, RefusalCode.INVALID_DATA, fault)
            continue
        specs[spec.task_id] = (index, spec)
    if any(spec.dependencies for _, spec in specs.values()):
        _drop_unsound(cell, record, specs)
    for index, spec in specs.values():
        _add(cell, record, index, spec)
    for _, spec in specs.values():
        if spec.dependencies:
            _link(cell, cell.tasks[spec.task_id], spec)
        else:
            cell.enqueue(cell.tasks[spec.task_id])


def _repeated(
    cell: Cell,
    record: Recorded,
    index: int,
    spec: TaskQueued,
    in_batch: tuple[int, TaskQueued] | None,
) -> None:
    """The same again is harmless for ever; other content under a known id is refused."""
    known = cell.tasks.get(spec.task_id)
    if known is None:
        same = in_batch is not None and in_batch[1] == spec
    elif known.spec is not None:
        same = known.spec == spec
    else:
        same = known.fingerprint == fingerprint(spec)
    if same:
        cell.ignore("task_known")
    else:
        detail = f"task {spec.task_id} is already known with other content"
        cell.refuse(record, index, RefusalCode.TASK_CONFLICT, detail)


def _drop_unsound(
    cell: Cell, record: Recorded, specs: dict[TaskId, tuple[int, TaskQueued]]
) -> None:
    """Refuse tasks with unknown dependencies or in a cycle, and those that depend on them."""
    unresolved = dict(specs)
    while True:  # peel off what rests on known or peeled tasks; each round removes at least one
        sound = [
            task_id
            for task_id, (_, spec) in unresolved.items()
            if not any(
                upstream in unresolved or (upstream not in cell.tasks and upstream not in specs)
                for upstream in spec.dependencies
            )
        ]
        if not sound:
            break
        for task_id in sound:
            del unresolved[task_id]
    in_message = set(specs)
    for task_id, (index, spec) in unresolved.items():
        unknown = [
            name for name in spec.dependencies if name not in in_message and name not in cell.tasks
        ]
        if unknown:
            code, detail = RefusalCode.UNKNOWN_DEPENDENCY, f"unknown task {unknown[0]}"
        elif _in_cycle(task_id, unresolved):
            code, detail = RefusalCode.DEPENDENCY_CYCLE, f"{task_id} depends on itself"
        else:
            code, detail = RefusalCode.UNKNOWN_DEPENDENCY, "depends on a refused task"
        cell.refuse(record, index, code, detail)
        del specs[task_id]


def _in_cycle(task_id: TaskId, among: dict[TaskId, tuple[int, TaskQueued]]) -> bool:
    seen: set[TaskId] = set()
    stack = list(among[task_id][1].dependencies)
    while stack:
        upstream = stack.pop()
        if upstream == task_id:
            return True
        if upstream in among and upstream not in seen:
            seen.add(upstream)
            stack.extend(among[upstream][1].dependencies)
    return False


def _add(cell: Cell, record: Recorded, index: int, spec: TaskQueued) -> None:
    run_id = spec.run_id or DEFAULT_RUN
    run = cell.runs.get(run_id)
    if run is None:
        run = cell.runs[run_id] = Run(run_id, "", record.stored_at)
    demand = cell.demand_of(spec)
    demand.unfinished += 1
    run.unfinished += 1
    run.task_ids.append(spec.task_id)
    task = Task(
        spec.task_id,
        run.id,
        spec,
        demand,
        record.seq,
        index,
        record.stored_at,
        record.stored_at + spec.priority * cell.parameters.ageing_s_per_level,
        since=record.stored_at,
        avoid=spec.avoid_workers,
    )
    cell.tasks[task.id] = task
    cell.set_limits(task, spec)


def _link(cell: Cell, task: Task, spec: TaskQueued) -> None:
    waiting: set[TaskId] = set()
    doomed_by: TaskId | None = None
    for upstream_id in spec.dependencies:
        upstream = cell.tasks[upstream_id]
        if upstream.status in TERMINAL:
            if upstream.status is not Status.PASSED and spec.dependency_rule == "all_passed":
                doomed_by = doomed_by or upstream_id
                waiting.add(upstream_id)  # for ever: the others' end must not release the task
        elif upstream_id not in waiting:
            waiting.add(upstream_id)
            if upstream.dependents is None:
                upstream.dependents = []
            upstream.dependents.append(task.id)
    if not waiting:
        cell.enqueue(task)
        return
    task.waiting_on = waiting
    cell.hold(task, Status.BLOCKED)
    if doomed_by is not None:
        cell.doomed[task.id] = doomed_by


def _opened(cell: Cell, data: RunOpened, _: Event, record: Recorded, __: int) -> None:
    run = cell.runs.get(data.run_id)
    if run is None:
        cell.runs[data.run_id] = Run(data.run_id, data.name, record.stored_at)
    elif not run.name:
        run.name = data.name
    else:
        cell.ignore("run_known")


def _run_cancel(
    cell: Cell, data: RunCancelRequested, _: Event, record: Recorded, index: int
) -> None:
    run = cell.runs.get(data.run_id)
    if run is None:
        cell.refuse(record, index, RefusalCode.UNKNOWN_TASK, f"unknown run {data.run_id}")
        return
    suite = cell.suites.get(data.run_id)
    if suite is not None:
        suite.cancelled = True
    for task_id in run.task_ids:
        _cancel_task(cell, cell.tasks[task_id])


def _cancel(cell: Cell, data: TaskCancelRequested, _: Event, record: Recorded, index: int) -> None:
    task = cell.tasks.get(data.task_id)
    if task is None:
        cell.refuse(record, index, RefusalCode.UNKNOWN_TASK, f"unknown task {data.task_id}")
    else:
        _cancel_task(cell, task)


def _cancel_task(cell: Cell, task: Task) -> None:
    if task.status in TERMINAL or task.cancel:
        cell.ignore("cancel_of_ended_task" if task.status in TERMINAL else "cancel_repeated")
        return
    task.cancel = True
    cell.dequeue(task)
    if task.status in WAITING or task.status in LIVE:
        cell.cancelling[task.id] = None


def _retry(cell: Cell, data: TaskRetryRequested, _: Event, record: Recorded, index: int) -> None:
    task = cell.tasks.get(data.task_id)
    if task is None:
        cell.refuse(record, index, RefusalCode.UNKNOWN_TASK, f"unknown task {data.task_id}")
        return
    if task.status not in TERMINAL or task.spec is None:
        detail = f"task {task.id} is {task.status}; only an ended task that did not pass can be"
        cell.refuse(record, index, RefusalCode.NOT_RETRYABLE, f"{detail} retried")
        return
    cell.ended[task.status] -= 1
    cell.runs[task.run_id].unfinished += 1
    task.demand = cell.demand_of(task.spec)
    task.demand.unfinished += 1
    task.failed_before = task.failed_before or task.status is Status.FAILED
    task.retries_used = task.faults_used = task.refusals_used = task.preemptions_used = 0
    task.timeout_factor, task.remedy = 1.0, None
    task.cancel, task.reason, task.upstream = False, None, None
    task.avoid = task.spec.avoid_workers
    task.waiting_on = None
    task.retried_at, task.started = cell.now, False
    cell.enqueue(task)
    cell.set_limits(task, task.spec)


def _may_wait(cell: Cell, task: Task, data: TaskRetryScheduled) -> bool:
    if task.status is Status.JUDGED:
        return True
    return data.budget == "none" and data.remedy is not None and task.id in cell.enlarged


def _remedy(cell: Cell, task: Task, remedy: Remedy) -> None:
    """Have the task wait for a place of another size."""
    cell.enlarged.pop(task.id, None)
    task.remedy = None if remedy == NO_REMEDY else remedy
    if task.spec is None:
        return
    if remedy.until is not None:
        cell.alarm(epoch_s(remedy.until))
    demand = cell.demand_of(enlarged(task.spec, remedy))
    task.demand.unfinished -= 1
    demand.unfinished += 1
    task.demand = demand


def _retry_scheduled(
    cell: Cell, data: TaskRetryScheduled, _: Event, __: Recorded, ___: int
) -> None:
    task = cell.tasks.get(data.task_id)
    if task is None or task.attempt != data.attempt or not _may_wait(cell, task, data):
        cell.ignore("retry_out_of_date")
        return
    cell.judged.pop(task.id, None)
    cell.dequeue(task)
    if data.budget == "user":
        task.retries_used += 1
    elif data.budget == "infrastructure":
        task.faults_used += 1
    elif data.budget == "refusal":
        task.refusals_used += 1
    elif data.budget == "preemption":
        task.preemptions_used += 1
    if data.timeout_factor is not None:
        task.timeout_factor = data.timeout_factor
    if data.remedy is not None:
        _remedy(cell, task, data.remedy)
    if task.remedy is not None and task.remedy.until is not None:
        cell.enlarged[task.id] = None
    until = epoch_s(data.not_before)
    if until <= cell.now:
        cell.enqueue(task)
    else:
        cell.delay(task, until)
    if task.spec is not None:
        cell.set_limits(task, task.spec)


def _ended(cell: Cell, data: TaskEnded, _: Event, __: Recorded, ___: int) -> None:
    task = cell.tasks.get(data.task_id)
    if task is None or task.status in TERMINAL or task.status in LIVE:
        cell.ignore("end_out_of_date")
        return
    cell.dequeue(task)
    task.upstream = data.upstream
    cell.end(task, Status(data.status), data.reason)


TASK_FOLDS: Folds = {
    RunOpened: _opened,
    RunCancelRequested: _run_cancel,
    TaskCancelRequested: _cancel,
    TaskRetryRequested: _retry,
    TaskRetryScheduled: _retry_scheduled,
    TaskEnded: _ended,
}
