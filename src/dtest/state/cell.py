"""The whole state of one cell, and the only door through which it changes.

The container is mutable and changed in place (copying 100,000 keys for each event would make a
replay quadratic); determinism is what counts. Indexes (queues, timers, free workers) follow from
the facts and are kept beside them.
"""

import heapq
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dtest.events.envelope import Event, Recorded
from dtest.events.fields import CellId, RunId, TaskId, WorkerId, epoch_s
from dtest.events.parameters import UNRECORDED, Numbers, Parameters, Strategy
from dtest.events.policy import Ranking, Timeouts
from dtest.events.problem import DETAIL_CHARACTERS_MAX
from dtest.events.reasons import Reason, RefusalCode
from dtest.events.task import TaskQueued
from dtest.state.demand import Demand, DemandKey, Entry, key_of
from dtest.state.durations import Durations
from dtest.state.health import Guard, Kind, kinds_of
from dtest.state.matching import Refusal, match
from dtest.state.suite import Listing, SuiteRun
from dtest.state.task import DONE_WITH, WAITING, Run, Status, Task
from dtest.state.term import Term, in_force
from dtest.state.worker import GONE, Worker

IDLE_DEMANDS_MAX = 1_000
"""Number of demands without an unfinished task that are remembered: an index, no fact."""

TimerEntry = tuple[float, int, str, TaskId, int]
"""``(at, tie-break, kind, task, attempt)``."""


@dataclass(frozen=True, slots=True)
class PendingRefusal:
    """A message that is to be refused by the next decision."""

    seq: int
    index: int
    code: RefusalCode
    detail: str
    subject: str


@dataclass(slots=True)
class Cell:
    """One journal's state. Read anything; change nothing except through ``dtest.state.fold``."""

    id: CellId
    seq: int = 0
    """The last message folded."""
    now: float = 0.0
    """When the last message was stored: the only clock that the fold knows."""
    resumed_at: float = 0.0
    """When the first message was stored after the last pause of the journal."""
    woken_at: float = 0.0
    """The last instant that ``wake`` was told (no fact)."""
    epoch: int = 0
    leader_id: str = ""
    ranking: Ranking = "spread"
    strategy: Strategy = "progressive"
    timeouts: Timeouts = "declared"
    term: Term = field(default_factory=Term)
    """What the leader recorded of its rules."""
    chosen: Numbers = field(default_factory=dict)
    """Parameters that clients set, until they are reset; they outlive strategies and terms."""
    parameters: Parameters = UNRECORDED
    """Those in force: the term's, under the strategy, with what was chosen (follows from these)."""
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    runs: dict[RunId, Run] = field(default_factory=dict)
    suites: dict[RunId, SuiteRun] = field(default_factory=dict)
    lists: dict[str, Listing] = field(default_factory=dict)
    workers: dict[WorkerId, Worker] = field(default_factory=dict)
    demands: dict[DemandKey, Demand] = field(default_factory=dict)
    ready: dict[DemandKey, Demand] = field(default_factory=dict)
    """Demands with a queued task."""
    free: dict[WorkerId, Worker] = field(default_factory=dict)
    """Workers that take work and have a free slot."""
    kinds: dict[str, Kind] = field(default_factory=dict)
    """Kinds of task of which some faulted."""
    held: OrderedDict[TaskId, str] = field(default_factory=OrderedDict)
    """Tasks that an open breaker keeps out of their queue, and whose breaker it is."""
    probes: dict[TaskId, str] = field(default_factory=dict)
    """Tasks that are being tried, and whose breaker it is."""
    shut: set[str] = field(default_factory=set)
    """Kinds whose breaker is not closed."""
    ailing: dict[WorkerId, None] = field(default_factory=dict)
    """Workers against which, or against whose devices, something speaks."""
    enlarged: dict[TaskId, None] = field(default_factory=dict)
    """Tasks that wait for a larger place than an earlier attempt had."""
    conducted: dict[RunId, None] = field(default_factory=dict)  # suites that have not ended
    durations: OrderedDict[str, Durations] = field(default_factory=OrderedDict)
    """How long tasks of a signature took; kept only while time-outs follow from it."""
    timers: list[TimerEntry] = field(default_factory=list)
    timer_count: int = 0
    # What waits for the next decision, in the order in which it came up:
    judged: OrderedDict[TaskId, None] = field(default_factory=OrderedDict)
    cancelling: OrderedDict[TaskId, None] = field(default_factory=OrderedDict)
    doomed: OrderedDict[TaskId, TaskId] = field(default_factory=OrderedDict)
    expiring: OrderedDict[TaskId, Reason] = field(default_factory=OrderedDict)
    unaccepted: OrderedDict[TaskId, int] = field(default_factory=OrderedDict)
    """Assignments that nobody confirmed in time; see ``return_at``."""
    strays: OrderedDict[tuple[WorkerId, TaskId, int], None] = field(default_factory=OrderedDict)
    suspects: OrderedDict[WorkerId, str] = field(default_factory=OrderedDict)
    rejoining: dict[WorkerId, float] = field(default_factory=dict)
    """Suspected workers that may still come back, and until when."""
    refusals: OrderedDict[tuple[int, int], PendingRefusal] = field(default_factory=OrderedDict)
    # Counters for those who watch:
    changed_tasks: set[TaskId] | None = None
    """Tasks that moved since the set was last emptied; kept only for who sets it."""
    ended: Counter[Status] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    refused: int = 0

    # -- rules --------------------------------------------------------------------------------

    def settle_parameters(self) -> None:
        """Keep the parameters in force true after a change of term, strategy or choice."""
        self.parameters = in_force(self.term, self.strategy, self.chosen)

    # -- queues -------------------------------------------------------------------------------

    def demand_of(self, spec: TaskQueued) -> Demand:
        """Find or open the demand of a task."""
        key = key_of(spec)
        demand = self.demands.get(key)
        if demand is None:
            if len(self.demands) > IDLE_DEMANDS_MAX:
                self._forget_idle_demands()
            simulable = "simulate" in spec.config
            demand = Demand(key, spec.type, spec.requirements, spec.resources, simulable)
            for worker in self.workers.values():
                if worker.status not in GONE:
                    self._introduce(demand, worker)
            self.demands[key] = demand
        return demand

    def _forget_idle_demands(self) -> None:
        for key in [key for key, demand in self.demands.items() if not demand.unfinished]:
            del self.demands[key]

    def _introduce(self, demand: Demand, worker: Worker) -> None:
        offer = match(demand, worker)
        if isinstance(offer, Refusal):
            demand.servers.pop(worker.id, None)
        else:
            demand.servers[worker.id] = offer

    def introduce(self, worker: Worker) -> None:
        """Match a new or changed worker against every demand."""
        for demand in self.demands.values():
            self._introduce(demand, worker)

    def dismiss(self, worker: Worker) -> None:
        """Take a worker that is gone out of every demand."""
        for demand in self.demands.values():
            demand.servers.pop(worker.id, None)

    def enqueue(self, task: Task) -> None:
        """Make a task eligible for assignment; one that is being cancelled stays out."""
        self.hold(task, Status.QUEUED)
        if task.cancel:
            self.cancelling[task.id] = None
        else:
            self._index(task)

    def _index(self, task: Task) -> None:
        if task.in_queue or task.id in self.expiring:
            return
        if self.shut and (key := self._shut_by(task)) is not None:
            self.held[task.id] = key
            return
        task.in_queue = True
        task.demand.queue.add(entry_of(task))
        self.ready[task.demand.key] = task.demand

    def dequeue(self, task: Task) -> None:
        """Take a task out of its queue, if it stands in it."""
        if not task.in_queue:
            self.held.pop(task.id, None)
            return
        task.in_queue = False
        queue = task.demand.queue
        queue.remove(entry_of(task))
        if not queue:
            self.ready.pop(task.demand.key, None)

    def delay(self, task: Task, until: float) -> None:
        """Let a task wait until an instant; ``wake`` makes it eligible."""
        task.not_before = until
        self.hold(task, Status.DELAYED)
        if task.cancel:
            self.cancelling[task.id] = None
        else:
            self.set_timer(until, "backoff", task)

    def refresh_free(self, worker: Worker) -> None:
        """Keep the index of free workers true."""
        if worker.takes_work and worker.free.slots > 0:
            self.free[worker.id] = worker
        else:
            self.free.pop(worker.id, None)

    # -- breakers -----------------------------------------------------------------------------

    def _shut_by(self, task: Task) -> str | None:
        if task.spec is None or task.id in self.probes:
            return None
        return next((key for key in kinds_of(task.spec) if key in self.shut), None)

    def shut_kind(self, key: str) -> None:
        """Take the tasks of a kind out of their queues; those that come later do not get in."""
        self.shut.add(key)
        queued = [self.tasks[entry[3]] for demand in self.ready.values() for entry in demand.queue]
        for task in queued:
            if self._shut_by(task) == key:
                self.dequeue(task)
                self.held[task.id] = key

    def let_go(self, task_ids: list[TaskId]) -> None:
        """Let held tasks into their queues, unless another breaker holds them too."""
        for task_id in task_ids:
            if self.held.pop(task_id, None) is not None:
                self._index(self.tasks[task_id])

    def heed(self, worker: Worker) -> None:
        """Keep the indexes true after something changed that speaks against a worker."""
        health = worker.health
        if health is not None:
            health.noted_at = self.now
        self.index_health(worker)

    def index_health(self, worker: Worker) -> None:
        """Keep the index of workers against which something speaks."""
        health = worker.health
        struck = health is not None and (health.strikes or health.guard is not Guard.CLOSED)
        if struck or worker.devices:
            self.ailing[worker.id] = None
        else:
            self.ailing.pop(worker.id, None)
        self.refresh_free(worker)

    # -- a task's way -------------------------------------------------------------------------

    def hold(self, task: Task, status: Status) -> None:
        """Move a task to a state, without touching any index."""
        task.status = status
        task.since = self.now
        if self.changed_tasks is not None:
            self.changed_tasks.add(task.id)

    def release_capacity(self, task: Task) -> None:
        """Give back what the task's attempt reserved on its worker."""
        worker = self.workers.get(task.worker_id) if task.worker_id is not None else None
        if worker is None or worker.running.get(task.id) != task.attempt:
            return
        del worker.running[task.id]
        if worker.health is not None and worker.health.probe == (task.id, task.attempt):
            worker.health.probe = None
        for device in worker.devices.values():
            if device.probe == (task.id, task.attempt):
                device.probe = None
        there = {device.device_id for device in worker.capability.devices}
        # It may have registered again without some of them.
        devices = tuple(name for name in task.devices if name in there)
        worker.free.give_back(task.demand, task.hardware, devices)
        self.refresh_free(worker)

    def end(self, task: Task, status: Status, reason: Reason | None) -> None:
        """Bring a task to a terminal state and tell those that depend on it."""
        self.hold(task, status)
        task.reason = reason
        self.enlarged.pop(task.id, None)
        if status in DONE_WITH:
            task.checkpoint = None
        task.demand.unfinished -= 1
        self.ended[status] += 1
        self.runs[task.run_id].unfinished -= 1
        for pending in (self.judged, self.cancelling, self.doomed, self.expiring, self.unaccepted):
            pending.pop(task.id, None)
        if (probe_of := self.probes.pop(task.id, None)) is not None:
            self.kinds[probe_of].probe = None
        dependents, task.dependents = task.dependents, None
        for dependent_id in dependents or ():
            self._dependency_ended(self.tasks[dependent_id], task)

    def _dependency_ended(self, task: Task, upstream: Task) -> None:
        if task.status is not Status.BLOCKED or task.waiting_on is None or task.spec is None:
            return
        if upstream.status is not Status.PASSED and task.spec.dependency_rule == "all_passed":
            self.doomed.setdefault(task.id, upstream.id)
            return
        task.waiting_on.discard(upstream.id)
        if not task.waiting_on:
            task.waiting_on = None
            self.enqueue(task)

    # -- time ---------------------------------------------------------------------------------

    def set_limits(self, task: Task, spec: TaskQueued) -> None:
        """Have the task expire if it is not started in time; called whenever it begins to wait.

        What had passed when an operator asked for the task again counts no more.
        """
        if spec.deadline is not None:
            self.set_timer(epoch_s(spec.deadline), "deadline", task)
        if spec.wait_limit_seconds is not None:
            self.set_timer(task.arrived_at + spec.wait_limit_seconds, "wait", task)

    def set_timer(self, at: float, kind: str, task: Task) -> None:
        """Have ``wake`` look at the task at an instant."""
        self.timer_count += 1
        heapq.heappush(self.timers, (at, self.timer_count, kind, task.id, task.attempt))

    def alarm(self, at: float) -> None:
        """Have a decision made at an instant."""
        self.timer_count += 1
        heapq.heappush(self.timers, (at, self.timer_count, "guard", TaskId(""), 0))

    def next_timer_at(self) -> float | None:
        """When ``wake`` has something to do next."""
        due = [*self.rejoining.values(), *(timer[0] for timer in self.timers[:1])]
        returns = (self.return_at(self.tasks[task_id]) for task_id in self.unaccepted)
        return min([*due, *(at for at in returns if at > self.woken_at)], default=None)

    def return_at(self, task: Task) -> float:
        """When an assignment that nobody confirms goes back to the queue.

        It is not held against the worker that the journal was away: the report of a start may be
        waiting for it as well.
        """
        parameters = self.parameters
        due = task.since + parameters.accept_s_max
        heard = self.resumed_at + parameters.accept_again_s if self.now >= due else math.inf
        return max(due, min(heard, task.since + parameters.accept_idle_s_max))

    def wake(self, now: float) -> None:
        """Let time pass: move what became due to where the next decision finds it.

        Touches indexes only; facts come from events alone, so a replay without it folds the same.
        """
        self.woken_at = max(self.woken_at, now)
        for worker_id, until in list(self.rejoining.items()):
            if until <= now:
                del self.rejoining[worker_id]
                self.suspects[worker_id] = self.workers[worker_id].evidence
        while self.timers and self.timers[0][0] <= now:
            at, _, kind, task_id, attempt = heapq.heappop(self.timers)
            task = self.tasks.get(task_id)
            if task is None or task.cancel:
                continue
            if kind == "accept":
                if task.status is Status.ASSIGNED and task.attempt == attempt:
                    self.unaccepted[task.id] = attempt
            elif task.status not in WAITING:
                continue
            elif kind == "backoff":
                if task.status is Status.DELAYED and task.not_before <= now:
                    self._index(task)
            elif _counts(task, at, kind):
                self.dequeue(task)
                reason = Reason.NO_CAPACITY if kind == "wait" else Reason.DEADLINE_EXCEEDED
                self.expiring.setdefault(task.id, reason)

    # -- what was not accepted ----------------------------------------------------------------

    def refuse(self, record: Recorded, index: int, code: RefusalCode, detail: str) -> None:
        """Note that the next decision has to refuse this event."""
        detail = detail[:DETAIL_CHARACTERS_MAX]
        pending = PendingRefusal(record.seq, index, code, detail, record.subject)
        self.refusals[record.seq, index] = pending

    def ignore(self, why: str) -> None:
        """Count an event that no longer applies."""
        self.ignored[why] += 1


Fold = Callable[[Cell, Any, Event, Recorded, int], None]
"""Folds the data of one event; also given: the event, its message, its place in the message."""
Folds = dict[type[Any], Fold]


def _counts(task: Task, at: float, kind: str) -> bool:
    """Say whether a limit that passed at that instant still means something to the task.

    Looks at facts of the journal alone: it must not matter when exactly somebody asked.
    """
    if kind == "deadline":
        return task.retried_at is None or at > task.retried_at
    limit_s = task.spec.wait_limit_seconds if task.spec is not None else None
    return limit_s is not None and not task.started and at >= task.arrived_at + limit_s


def entry_of(task: Task) -> Entry:
    """Return the place of a task among all that stand in queues."""
    return (task.order, task.seq, task.index, task.id)
