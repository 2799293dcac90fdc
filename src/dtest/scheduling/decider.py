"""Decide who runs what: urgent tasks first, each on the least special and least loaded worker.

Looks only at the heads of the queues of demands that some free worker can meet; nothing here
grows with the number of queued tasks. Decides nothing about retries, losses or cancellation.

A task that needs more than is ever free at once would wait for ever behind a stream of small ones.
Once it has waited for a while, what is free on the worker that comes nearest is kept for it, and
less urgent tasks go elsewhere. The shortage there can only shrink: nothing is remembered between
decisions, and yet the task gets its room. (Slurm reserves for the first job of its queue in the
same way; backfilling by predicted durations is not done here.)
"""

import heapq
from collections.abc import Iterator

from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import TaskId, WorkerId
from dtest.scheduling.limits import adjusted, is_as_stated
from dtest.scheduling.ranking import RANKINGS, Rank
from dtest.state.cell import Cell
from dtest.state.demand import Demand
from dtest.state.health import LOSSES
from dtest.state.task import Task
from dtest.state.worker import Capacity, Worker

Choice = tuple[Worker, str]
Candidate = tuple[int, Rank]
"""``(place of its hardware among the kinds that will do, rank of the worker)``."""


def decide_assignments(cell: Cell) -> list[AttemptAssigned]:
    """Return the assignments that can be made now."""
    if not cell.ready or not cell.free:
        return []
    return list(_Round(cell).assignments())


def kept_room(cell: Cell) -> dict[WorkerId, TaskId]:
    """Return on which workers the next decision keeps room, and for which task."""
    plan = _Round(cell)
    for _ in plan.assignments():
        pass
    return plan.kept


def goes_back_to(worker: Worker, task: Task) -> bool:
    """Say whether a task goes back to a worker that it avoids rather than wait for another.

    It does where the worker took the latest attempt with it, and has come back: that begins anew,
    and may be all the room that there is.
    """
    is_lost = task.reason in LOSSES and task.avoid[-1:] == (worker.id,)
    return is_lost and not worker.is_tried


class _Round:
    """One decision: capacity is planned here, and taken when the decision is folded."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.parameters = cell.parameters
        self.rule = RANKINGS[cell.ranking]
        self.planned: dict[WorkerId, Capacity] = {}
        self.kept: dict[WorkerId, TaskId] = {}

    def assignments(self) -> Iterator[AttemptAssigned]:
        """Plan the round."""
        heads: list[tuple[float, int, int, TaskId, int]] = []
        lanes = [
            (demand, iter(demand.queue), ranked)
            for demand in self.cell.ready.values()
            if (ranked := self._candidates(demand)) or any(self._free_servers(demand))
        ]
        for number, (_, queue, _) in enumerate(lanes):
            heads.append((*next(queue), number))
        heapq.heapify(heads)
        count = 0
        passed_over = [0] * len(lanes)
        while heads and count < self.parameters.assignments_max:
            *_, task_id, number = heads[0]
            demand, queue, ranked = lanes[number]
            task = self.cell.tasks[task_id]
            waited_s = self.cell.now - task.since
            if not ranked and waited_s >= self.parameters.keep_room_after_s:
                self._keep_room(demand, task)
            chosen = self._choose(demand, ranked, task)
            if chosen is not None:
                yield self._assign(task, chosen)
                count += 1
            else:
                passed_over[number] += 1
            goes_on = ranked and passed_over[number] < self.parameters.passed_over_max
            following = next(queue, None) if goes_on else None
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (*following, number))

    def _free_servers(self, demand: Demand) -> Iterator[Worker]:
        return (self.cell.free[name] for name in demand.servers.keys() & self.cell.free.keys())

    def _candidates(self, demand: Demand) -> list[Candidate]:
        ranked = [
            self._rank(worker, demand, kind)
            for worker in self._free_servers(demand)
            if (kind := self._kind(worker, demand))
        ]
        heapq.heapify(ranked)
        return ranked

    def _capacity(self, worker: Worker) -> Capacity:
        return self.planned.get(worker.id) or worker.free

    def _kind(self, worker: Worker, demand: Demand) -> str:
        """Return the preferred kind of hardware that is free there, or nothing."""
        capacity = self._capacity(worker)
        for kind, fitting in demand.servers[worker.id].items():
            if capacity.fits(demand, kind, fitting):
                return kind
        return ""

    def _rank(self, worker: Worker, demand: Demand, kind: str) -> Candidate:
        return demand.kinds.index(kind), self.rule(worker, self._capacity(worker), demand)

    def _choose(self, demand: Demand, ranked: list[Candidate], task: Task) -> Choice | None:
        """Take the best candidate; candidates that are full are dropped for this round."""
        passed_over: list[Candidate] = []
        chosen: Choice | None = None
        while ranked and chosen is None:
            rank = ranked[0]
            worker = self.cell.free[rank[1][2]]
            kind = self._kind(worker, demand)
            if not kind:
                heapq.heappop(ranked)
            elif (current := self._rank(worker, demand, kind)) != rank:
                heapq.heapreplace(ranked, current)
            elif self._spares(worker, task) and self._has_other(demand, task, worker):
                passed_over.append(heapq.heappop(ranked))
            else:
                chosen = (worker, kind)
        for rank in passed_over:
            worker = self.cell.free[rank[1][2]]
            if chosen is None and goes_back_to(worker, task):
                chosen = (worker, self._kind(worker, demand))
            heapq.heappush(ranked, rank)
        return chosen

    def _keep_room(self, demand: Demand, task: Task) -> None:
        """Keep what is free where the least is missing, for less urgent tasks not to take it."""
        _, name, kind = min(
            (self._capacity(worker).shortage(demand, kind, fitting), worker.id, kind)
            for worker in self._free_servers(demand)
            for kind, fitting in demand.servers[worker.id].items()
        )
        self._plan(self.cell.free[name]).keep(demand, kind, demand.servers[name][kind])
        self.kept.setdefault(name, task.id)

    def _plan(self, worker: Worker) -> Capacity:
        if worker.id not in self.planned:
            self.planned[worker.id] = worker.free.copy()
        return self.planned[worker.id]

    def _spares(self, worker: Worker, task: Task) -> bool:
        """Say whether the task had better not go there.

        A worker that is tried gets none that has few attempts left to lose.
        """
        return worker.id in task.avoid or (worker.is_tried and task.faults_used > 0)

    def _has_other(self, demand: Demand, task: Task, but: Worker) -> bool:
        """Say whether a worker that the task need not avoid could take it, now or later."""
        return any(
            name != but.id and name not in task.avoid and self.cell.workers[name].takes_work
            for name in demand.servers
        )

    def _assign(self, task: Task, chosen: Choice) -> AttemptAssigned:
        worker, kind = chosen
        devices = self._plan(worker).take(task.demand, kind, task.demand.servers[worker.id][kind])
        if worker.is_tried:
            self.planned[worker.id].slots = 0  # a single attempt
        spec = task.spec
        if spec is None:  # a queued task always has its document
            message = f"task {task.id} is queued without its document"
            raise AssertionError(message)
        stated = AttemptAssigned(
            task.id,
            task.attempt + 1,
            worker.id,
            worker.incarnation,
            kind,
            spec.type,
            task.run_id,
            spec.config,
            devices,
            spec.timeout_seconds,
            spec.idle_timeout_seconds,
            spec.grace_seconds,
            spec.memory_limit_gb,
            task.checkpoint,
        )
        if is_as_stated(self.cell, task):
            return stated
        return adjusted(self.cell, task, stated, simulated=worker.simulated)
