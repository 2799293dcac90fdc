"""What must hold of a journal's events by whatever rules they were decided.

Checked on the raw events, before they are folded, for a fold could hide it: requirements are met,
no worker is given more than it has, nothing is live twice, a task ends once.
"""

from collections import Counter
from collections.abc import Callable

from dtest.events.attempt import (
    AttemptAssigned,
    AttemptFinished,
    AttemptRefused,
    AttemptReleased,
    AttemptReturned,
)
from dtest.events.envelope import Correlation, Event, Recorded
from dtest.events.fields import TaskId, WorkerId
from dtest.events.task import TaskEnded
from dtest.events.worker import WorkerLeft, WorkerLost, WorkerRegistered
from dtest.state.cell import Cell
from dtest.state.matching import Refusal, match
from dtest.state.task import LIVE, TERMINAL, Status, Task
from dtest.state.worker import GONE, Capacity, Worker

MAY_BE_ASSIGNED = frozenset({Status.QUEUED, Status.DELAYED})


class Soundness:
    """The books on attempts and ends of one cell, whose state is as of the message before."""

    def __init__(self, cell: Cell, report: Callable[[str], None]) -> None:
        self.attempts = 0
        self.late_reports = 0
        self._cell = cell
        self._report = report
        self._live: dict[TaskId, tuple[int, WorkerId]] = {}
        self._passes: Counter[TaskId] = Counter()
        self._seq = 0
        """Of the message whose events are being checked; it is folded after all of them."""
        self._free: dict[WorkerId, Capacity] = {}
        """What the earlier events of this message left free."""
        self._ended_here: set[TaskId] = set()
        """Tasks that earlier events of this message ended."""

    def before(self, event: Event, record: Recorded) -> None:
        """Check an event that is about to be folded."""
        if record.seq != self._seq:
            self._seq = record.seq
            self._free.clear()
            self._ended_here.clear()
        match event.data:
            case AttemptAssigned() as data:
                self._assigned(data, Correlation.parse(event.correlation), record)
            case AttemptFinished() as data:
                self._finished(data)
            case AttemptReturned() as data:
                task = self._cell.tasks.get(data.task_id)
                if task is not None and task.status is Status.ASSIGNED:  # else it started first
                    self._hand_back(data)
            case AttemptReleased() | AttemptRefused() as data:
                self._hand_back(data)
            case TaskEnded() as data:
                self._ended(data.task_id, f"{data.task_id} is {data.status} at {record.seq}")
            case WorkerRegistered() as data:
                self._registered(data)
            case _:
                pass

    def after(self, event: Event) -> None:
        """Check an event that was folded."""
        if isinstance(event.data, WorkerLost | WorkerLeft):
            worker = self._cell.workers.get(event.data.worker_id)
            if worker is not None and worker.status in GONE:
                self._forget(worker.id, set())

    def finish(self) -> None:
        """Check what the end of the journal shows."""
        for task_id, count in self._passes.items():
            if count > 1:
                self._report(f"{task_id} passed {count} times")
        for task in self._cell.tasks.values():
            if task.status in TERMINAL and task.id in self._live:
                self._report(f"{task.id} is {task.status} while an attempt of it is live")

    # -- attempts -----------------------------------------------------------------------------

    def _assigned(
        self, data: AttemptAssigned, decision: Correlation | None, record: Recorded
    ) -> None:
        self.attempts += 1
        where = f"attempt {data.attempt} of {data.task_id} at {record.seq}"
        task = self._cell.tasks.get(data.task_id)
        worker = self._cell.workers.get(data.worker_id)
        if task is None or worker is None:
            self._report(f"{where}: unknown task or worker")
            return
        if worker.status in GONE or worker.incarnation != data.incarnation:
            return  # it left while this was being recorded: void for it and for the fold
        if data.task_id in self._live:
            self._report(f"{where}: attempt {self._live[data.task_id][0]} is live")
        elif task.status not in MAY_BE_ASSIGNED:
            self._report(f"{where}: the task is {task.status}")
        if data.attempt != task.attempt + 1:
            self._report(f"{where}: the attempt before it is {task.attempt}")
        self._live[data.task_id] = (data.attempt, data.worker_id)
        if decision is None or worker.registered_seq <= decision.basis:
            self._placed(data, task, worker, where)

    def _placed(self, data: AttemptAssigned, task: Task, worker: Worker, where: str) -> None:
        """Check where an attempt goes; the worker is as it was when that was decided."""
        offer = match(task.demand, worker)
        if isinstance(offer, Refusal):
            self._report(f"{where}: {worker.id} {offer.text}")
        elif data.hardware not in offer or not set(data.devices) <= set(offer[data.hardware]):
            self._report(f"{where}: {data.hardware} {data.devices} does not meet the requirements")
        free = self._free.setdefault(worker.id, worker.free.copy())
        if not free.fits(task.demand, data.hardware, data.devices):
            self._report(f"{where}: {worker.id} has no room for it")
        free.take_named(task.demand, data.hardware, data.devices)

    def _finished(self, data: AttemptFinished) -> None:
        if not self._is_live(data.task_id, data.attempt, data.worker_id):
            self.late_reports += 1
            return
        del self._live[data.task_id]
        if data.outcome == "passed":
            self._passes[data.task_id] += 1

    def _hand_back(self, data: AttemptReleased | AttemptRefused | AttemptReturned) -> None:
        if self._is_live(data.task_id, data.attempt, data.worker_id):
            del self._live[data.task_id]

    def _is_live(self, task_id: TaskId, attempt: int, worker_id: WorkerId) -> bool:
        return self._live.get(task_id) == (attempt, worker_id)

    def _registered(self, data: WorkerRegistered) -> None:
        held = {(item.task_id, item.attempt) for item in data.held}
        known = self._cell.workers.get(data.worker_id)
        if known is None or known.incarnation != data.incarnation:
            self._forget(data.worker_id, set())
            return
        handed_over = {
            (name, number)
            for name, number in known.running.items()
            if self._cell.tasks[name].status is Status.ASSIGNED
        }
        self._forget(data.worker_id, held | handed_over)

    def _forget(self, worker_id: WorkerId, but: set[tuple[TaskId, int]]) -> None:
        for task_id, (attempt, owner) in list(self._live.items()):
            if owner == worker_id and (task_id, attempt) not in but:
                del self._live[task_id]

    # -- ends ---------------------------------------------------------------------------------

    def _ended(self, task_id: TaskId, text: str) -> None:
        """Check that a task that is ended has not ended before, nor a live attempt."""
        task = self._cell.tasks.get(task_id)
        if task is None:
            self._report(f"{text}: unknown task")
        elif task_id in self._ended_here:
            self._report(f"{text}: the same message ended it before")
        elif task.status in TERMINAL:
            self._report(f"{text}: it ended before, as {task.status}")
        elif task.status in LIVE:
            self._report(f"{text}: an attempt of it is live")
        self._ended_here.add(task_id)
