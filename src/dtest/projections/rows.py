"""From recorded events to rows: folds them with the leader's own fold and notes what changed.

One implementation of what events mean: a task's state here is the state that the leader decides
on. Pure; the store writes what this collects.
"""

from collections import OrderedDict
from typing import Any

import orjson

from dtest.events.attempt import (
    AttemptAssigned,
    AttemptCheckpointed,
    AttemptCheckpointFailed,
    AttemptFinished,
    AttemptStarted,
)
from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.envelope import Event, Malformed, Recorded
from dtest.events.fields import RunId, TaskId, WorkerId, epoch_s
from dtest.events.leader import LeaderElected
from dtest.events.parameters import Parameters
from dtest.events.reasons import Reason
from dtest.events.run import RunOpened
from dtest.events.suite import SuiteSubmitted
from dtest.events.task import TaskQueued
from dtest.projections.suite_rows import SuiteRows
from dtest.recovery.guards import score
from dtest.state.cell import Cell, PendingRefusal
from dtest.state.fold import apply
from dtest.state.health import (
    DEVICE_PREFIX,
    WORKER_PREFIX,
    Guard,
    Health,
    Kind,
    device_of,
    worker_breaker,
)
from dtest.state.task import LIVE, Run, Task
from dtest.state.worker import Worker

RAW_CHARS_MAX = 65_536
REFUSED_KEPT_MAX = 10_000
Row = tuple[Any, ...]
_Report = AttemptFinished | AttemptStarted | AttemptCheckpointed | AttemptCheckpointFailed
_ENDED_AS: dict[Reason, str] = {
    Reason.WORKER_SHUTDOWN: "released",
    Reason.PREEMPTED: "released",
    Reason.MIGRATED: "released",
    Reason.NOT_ACCEPTED: "returned",
}


class Rows:
    """The fold of a journal, with the rows that changed since they were last taken."""

    def __init__(self, cell: Cell, *, events: bool = True) -> None:
        """Begin with a state whose rows are written.

        ``events`` says whether each event has a row, and each test of a list.
        """
        self.cell = cell
        self._keeps_events = events
        self._suites = SuiteRows(cell, self._row, lists=events)
        cell.changed_tasks = set()
        self.refused: OrderedDict[tuple[int, int], PendingRefusal] = OrderedDict()
        """The latest refusals, by sequence number and place in the message."""
        self._new: dict[str, list[Row]] = {}
        self._finished: dict[tuple[TaskId, int], AttemptFinished] = {}
        self._started: dict[tuple[TaskId, int], AttemptStarted] = {}
        self._checkpoints: dict[tuple[TaskId, int], Row] = {}
        """Number, bytes, instant of the latest one, and why there is none later."""
        self._runs: dict[RunId, tuple[RunOpened | SuiteSubmitted | None, str, int]] = {}
        self._workers: set[WorkerId] = set()
        self._breakers: dict[str, Row] = {}
        self._tasks: set[TaskId] = set()
        self._live = {task.id for task in cell.tasks.values() if task.status in LIVE}
        """Tasks with a live attempt."""
        self._attempts: dict[tuple[TaskId, int], tuple[str, str | None]] = {}
        """What became of each attempt that began, moved or ended, and why."""

    def fold(self, record: Recorded) -> None:
        """Fold without collecting rows: they are in the file already."""
        apply(self.cell, record)
        for task_id in self.cell.changed_tasks or ():
            if self.cell.tasks[task_id].status in LIVE:
                self._live.add(task_id)
            else:
                self._live.discard(task_id)
        if self.cell.changed_tasks:
            self.cell.changed_tasks.clear()

    def add(self, record: Recorded, payload: bytes) -> None:
        """Fold a message and note its rows."""
        if record.seq <= self.cell.seq:
            return
        for event in record.events:
            if isinstance(event, Event):
                self._before(event, record)
        parameters = self.cell.parameters
        apply(self.cell, record)
        if self.cell.parameters is not parameters:  # scores follow from them
            found = self.cell.workers.values()
            self._workers |= {worker.id for worker in found if worker.health is not None}
        if self._keeps_events:
            self._events(record, payload)
        for index, event in enumerate(record.events):
            if isinstance(event, Event):
                self._after(event, record, index)
        self._changes()

    def take(self) -> dict[str, list[Row]]:
        """Return the collected rows by statement, and start anew."""
        rows, self._new = self._new, {}
        rows["runs"] = [self._run_row(name) for name in self._runs if name in self.cell.runs]
        tasks = self.cell.tasks
        rows["tasks_changed"] = [_task_change(tasks[name]) for name in sorted(self._tasks)]
        rows["attempts_changed"] = self._attempt_changes()
        rows["checkpoints"] = [(*key, *row) for key, row in self._checkpoints.items()]
        workers = self.cell.workers
        rows["workers"] = [
            _worker_row(workers[name], self.cell.parameters) for name in sorted(self._workers)
        ]
        rows["breakers"] = list(self._breakers.values())
        rows["suites"] = self._suites.take()
        self._tasks.clear()
        self._attempts.clear()
        self._finished.clear()
        self._started.clear()
        self._checkpoints.clear()
        self._runs.clear()
        self._workers.clear()
        self._breakers.clear()
        return {name: content for name, content in rows.items() if content}

    # -- collecting ---------------------------------------------------------------------------

    def _row(self, statement: str, row: Row) -> None:
        self._new.setdefault(statement, []).append(row)

    def _events(self, record: Recorded, payload: bytes) -> None:
        raw = _raw(payload, len(record.events))
        stored_at = micros(record.stored_at)
        for index, event in enumerate(record.events):
            where = (record.seq, index)
            refused = self._refusal(where)
            if isinstance(event, Malformed):
                unread = (*where, None, None, None, record.subject, None, None)
                self._row("events", (*unread, stored_at, None, raw[index], refused))
                continue
            row = (*where, event.id, event.type, event.source, record.subject)
            named = (*row, event.data.entity_id, micros(event.time), stored_at)
            self._row("events", (*named, event.correlation, raw[index], refused))

    def _refusal(self, where: tuple[int, int]) -> str | None:
        pending = self.cell.refusals.get(where)
        if pending is None:
            return None
        self.refused[where] = pending
        while len(self.refused) > REFUSED_KEPT_MAX:
            self.refused.popitem(last=False)
        return f"{pending.code}: {pending.detail}"[:2000]

    def _before(self, event: Event, record: Recorded) -> None:
        """Note what the fold is about to accept: reports of the live attempt, a run's name."""
        data = event.data
        if isinstance(data, RunOpened | SuiteSubmitted):
            run = self.cell.runs.get(data.run_id)
            noted, source, seq = self._runs.get(data.run_id, (None, event.source, record.seq))
            if noted is None and (run is None or not run.name):
                self._runs[data.run_id] = (data, source, seq)
        elif isinstance(data, _Report):
            task = self.cell.tasks.get(data.task_id)
            if (
                task is not None
                and task.attempt == data.attempt
                and task.worker_id == data.worker_id
                and task.status in LIVE
            ):
                self._reported(data, task)

    def _reported(self, data: _Report, task: Task) -> None:
        key = (data.task_id, data.attempt)
        match data:
            case AttemptFinished():
                self._finished.setdefault(key, data)
            case AttemptStarted():
                self._started.setdefault(key, data)
            case AttemptCheckpointed():
                known = task.checkpoint
                if known is None or (known.attempt, known.number) < (data.attempt, data.number):
                    at = micros(epoch_s(data.taken_at))
                    self._checkpoints[key] = (data.number, data.size_bytes, at, None)
            case AttemptCheckpointFailed():
                stored = self._checkpoints.get(key, (None,) * 4)[:3]
                self._checkpoints[key] = (*stored, data.detail)

    def _after(self, event: Event, record: Recorded, index: int) -> None:
        match event.data:
            case TaskQueued() as data:
                self._queued(data, event, record, index)
            case AttemptAssigned() as data:
                self._assigned(data, record)
            case LeaderElected() as data:
                when = micros(record.stored_at)
                row = (record.seq, data.leader_id, data.previous_epoch, data.host, when)
                recorded = _json(data.parameters) if data.parameters else None
                self._row("leaders", (*row, data.rules, recorded))
            case BreakerOpened() | BreakerHalfOpened() | BreakerClosed() as data:
                self._breaker(data.breaker_id, closed=event.data)
                worker_id = data.breaker_id.removeprefix(WORKER_PREFIX)
                if WorkerId(worker_id) in self.cell.workers:
                    self._workers.add(WorkerId(worker_id))
                else:  # strikes of its making were taken back
                    found = self.cell.workers.values()
                    self._workers |= {item.id for item in found if item.health is not None}
            case _:
                self._suites.after(event, record, index)
                worker_id = getattr(event.data, "worker_id", "")
                if event.type.startswith("worker.") and worker_id in self.cell.workers:
                    self._workers.add(WorkerId(worker_id))
                    self._breaker(worker_breaker(WorkerId(worker_id)))

    def _queued(self, data: TaskQueued, event: Event, record: Recorded, index: int) -> None:
        task = self.cell.tasks.get(data.task_id)
        if task is None or (task.seq, task.index) != (record.seq, index):
            return  # refused, or known before
        run = self.cell.runs[task.run_id]
        if not run.name and run.task_ids[0] == task.id:  # this task opened it
            self._runs.setdefault(run.id, (None, event.source, record.seq))
        at = micros(task.queued_at)
        row = (task.id, task.run_id, data.name or task.id, data.type, "queued", None, data.priority)
        rest = (0, None, None, at, at, False, None, event.source, _json(data), record.seq)
        self._row("tasks_new", (*row, *rest))

    def _assigned(self, data: AttemptAssigned, record: Recorded) -> None:
        task = self.cell.tasks.get(data.task_id)
        if task is None or task.attempt != data.attempt or task.worker_id != data.worker_id:
            return
        row = (data.task_id, data.attempt, data.worker_id, data.hardware, ",".join(data.devices))
        given = data.checkpoint
        resumed_from = f"{given.attempt}/{given.number}" if given is not None else None
        rest = ("assigned", None, None, micros(record.stored_at), *(None,) * 9)
        limits = (data.timeout_seconds, data.timeout_observed, data.memory_limit_gb)
        ran = _json(data.config) if data.fallback else None
        self._row("attempts_new", (*row, *rest, resumed_from, *(None,) * 4, *limits, ran))

    def _breaker(self, key: str, closed: object = None) -> None:
        """Note a breaker as it stands after an event about it, if it ever opened."""
        of: Health | Kind | None
        if key.startswith(DEVICE_PREFIX):
            self._device_breaker(key, closed)
            return
        if key.startswith(WORKER_PREFIX):
            worker_id = WorkerId(key.removeprefix(WORKER_PREFIX))
            worker = self.cell.workers.get(worker_id)
            of = worker.health if worker is not None else None
            counted: Row = (of.quarantines if of is not None else 0, worker_id, None)
        else:
            of = self.cell.kinds.get(key)
            counted = (of.count, ",".join(of.workers), of.probe) if of is not None else ()
        if of is not None and of.cause:
            until = micros(of.until) if of.until is not None else None
            row = (key, str(of.guard), of.cause, *counted, micros(of.since), until)
            self._breakers[key] = row

    def _device_breaker(self, key: str, said: object) -> None:
        worker_id, device_id = device_of(key)
        worker = self.cell.workers.get(worker_id)
        known = worker.devices.get(device_id) if worker is not None else None
        now = micros(self.cell.now)
        if known is not None and known.guard is not Guard.CLOSED:
            until = micros(known.until) if known.until is not None else None
            cause = known.released or str(known.reason)
            probe = known.probe[0] if known.probe is not None else None
            row = (key, str(known.guard), cause, known.count, worker_id, probe)
            self._breakers[key] = (*row, micros(known.since), until)
        elif isinstance(said, BreakerClosed):
            self._breakers[key] = (key, "closed", said.cause, 0, worker_id, None, now, None)

    # -- what changed -------------------------------------------------------------------------

    def _changes(self) -> None:
        """Note where each changed task stands after one message.

        By the time rows are taken it may be in its next attempt, on another worker.
        """
        changed = self.cell.changed_tasks
        if not changed:
            return
        for task_id in changed:
            task = self.cell.tasks[task_id]
            if task.worker_id is not None:
                self._workers.add(task.worker_id)
            if task.status in LIVE:
                self._live.add(task_id)
                self._attempts[task_id, task.attempt] = (str(task.status), None)
            elif task_id in self._live:
                self._live.remove(task_id)
                self._attempts[task_id, task.attempt] = _ended_as(task)
        self._tasks |= changed
        changed.clear()

    def _run_row(self, run_id: RunId) -> Row:
        opened, source, seq = self._runs[run_id]
        run: Run = self.cell.runs[run_id]
        labels = _json(opened.labels) if opened is not None else "{}"
        return (run_id, run.name or run_id, labels, micros(run.opened_at), source, seq)

    def _attempt_changes(self) -> list[Row]:
        for task_id, attempt in self._started:  # also one that was asked to stop before it began
            live = (str(self.cell.tasks[task_id].status), None)
            self._attempts.setdefault((task_id, attempt), live)
        rows: list[Row] = []
        for key, (status, reason) in self._attempts.items():
            finished = self._finished.get(key)
            told = self._started.get(key) or finished
            started_at = micros(epoch_s(told.started_at)) if told is not None else None
            if finished is not None:
                rows.append(_finished_row(key, started_at, finished))
            else:
                rows.append((*key, status, reason, None, started_at, *(None,) * 8))
        return rows


def _ended_as(task: Task) -> tuple[str, str | None]:
    """Return how an attempt ended of which no result was accepted."""
    if task.reason is None:
        return "faulted", None
    return _ENDED_AS.get(task.reason, "faulted"), str(task.reason)


def _finished_row(key: tuple[TaskId, int], started_at: int | None, data: AttemptFinished) -> Row:
    reason = str(data.reason) if data.reason is not None else None
    ended = (data.outcome, reason, data.detail or None, started_at)
    measured = (data.exit_code, data.signal, data.cpu_s, data.memory_bytes_peak)
    output = (data.output_bytes, data.output_bytes_dropped)
    artifacts = _json(data.artifacts) if data.artifacts else None
    return (*key, *ended, micros(epoch_s(data.finished_at)), *measured, *output, artifacts)


def _task_change(task: Task) -> Row:
    reason = str(task.reason) if task.reason is not None else None
    row = (task.id, str(task.status), reason, task.attempt, task.worker_id, task.hardware or None)
    return (*row, micros(task.since), task.flaky, task.upstream)


def _worker_row(worker: Worker, parameters: Parameters) -> Row:
    has = worker.capability
    row = (worker.id, worker.incarnation, worker.host, str(worker.status), worker.evidence)
    size = (worker.simulated, has.slots, has.cpus, has.memory_gb, ",".join(sorted(worker.kinds)))
    rest = (has.device_type, _json(has), micros(worker.registered_at), len(worker.running))
    health = worker.health or Health()
    until = micros(health.until) if health.until is not None else None
    points = score(health.strikes, health.noted_at, parameters)
    guard = (len(health.strikes), str(health.guard), health.cause, until, health.quarantines)
    return (*row, *size, *rest, points, *guard)


def _raw(payload: bytes, count: int) -> list[str]:
    """Return the data of each event as the writer wrote it; the text itself if it is no event."""
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return [_text(payload)] * count
    items = content if isinstance(content, list) and len(content) == count else [content]
    return [_data(item) or _text(payload) for item in items]


def _data(item: Any) -> str | None:  # noqa: ANN401 - any JSON
    try:
        data = item["data"] if isinstance(item, dict) and "data" in item else item
        return orjson.dumps(data)[:RAW_CHARS_MAX].decode(errors="ignore")
    except orjson.JSONEncodeError:
        return None  # nested more deeply than can be written again


def _text(payload: bytes) -> str:
    return payload[:RAW_CHARS_MAX].decode(errors="replace")


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def micros(instant_s: float) -> int:
    """Return microseconds since 1970, as the columns are loaded."""
    return round(instant_s * 1e6)
