"""Decide who runs what: urgent tasks first, each on the least special and least loaded worker.

Looks only at the heads of the queues of demands that some free worker can meet; nothing here
grows with the number of queued tasks. Decides nothing about retries, losses or cancellation.
"""

import heapq
from collections.abc import Iterator

from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import TaskId, WorkerId
from dtest.scheduling.policy import SchedulingPolicy
from dtest.state.cell import Cell
from dtest.state.demand import Demand
from dtest.state.task import Task
from dtest.state.worker import Capacity, Worker

Choice = tuple[Worker, str]
_Ranked = tuple[int, float, WorkerId]
"""``(how special, how loaded, who)``: the smallest is chosen."""


def decide_assignments(cell: Cell, policy: SchedulingPolicy) -> list[AttemptAssigned]:
    """Return the assignments that can be made now."""
    if not cell.ready or not cell.free:
        return []
    return list(_Round(cell).assignments(policy.assignments_max))


class _Round:
    """One decision: capacity is planned here, and taken when the decision is folded."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.planned: dict[WorkerId, Capacity] = {}

    def assignments(self, limit: int) -> Iterator[AttemptAssigned]:
        heads: list[tuple[float, int, int, TaskId, int]] = []
        lanes = [
            (demand, iter(demand.queue), ranked)
            for demand in self.cell.ready.values()
            if (ranked := self._candidates(demand))
        ]
        for number, (_, queue, _) in enumerate(lanes):
            heads.append((*next(queue), number))
        heapq.heapify(heads)
        count = 0
        while heads and count < limit:
            *_, task_id, number = heads[0]
            demand, queue, ranked = lanes[number]
            task = self.cell.tasks[task_id]
            chosen = self._choose(demand, ranked, task)
            if chosen is not None:
                yield self._assign(task, chosen)
                count += 1
            following = next(queue, None) if ranked else None
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (*following, number))

    def _candidates(self, demand: Demand) -> list[_Ranked]:
        free = self.cell.free
        few, many = sorted((demand.servers, free), key=len)
        ranked = [
            _rank(worker, self._capacity(worker), demand)
            for name in few
            if name in many and (worker := free[name])
        ]
        heapq.heapify(ranked)
        return ranked

    def _capacity(self, worker: Worker) -> Capacity:
        return self.planned.get(worker.id) or worker.free

    def _choose(self, demand: Demand, ranked: list[_Ranked], task: Task) -> Choice | None:
        """Take the best candidate; candidates that are full are dropped for this round."""
        passed_over: list[_Ranked] = []
        chosen: Choice | None = None
        while ranked and chosen is None:
            rank = ranked[0]
            worker = self.cell.free[rank[2]]
            capacity = self._capacity(worker)
            offer = demand.servers[worker.id]
            kind = next((k for k, fitting in offer.items() if capacity.fits(demand, k, fitting)), "")
            current = _rank(worker, capacity, demand)
            if not kind:
                heapq.heappop(ranked)
            elif current != rank:
                heapq.heapreplace(ranked, current)
            elif worker.id in task.avoid and self._has_other(demand, task):
                passed_over.append(heapq.heappop(ranked))
            else:
                chosen = (worker, kind)
        for rank in passed_over:
            heapq.heappush(ranked, rank)
        return chosen

    def _has_other(self, demand: Demand, task: Task) -> bool:
        """Say whether a worker that the task need not avoid could take it, now or later."""
        return any(
            name not in task.avoid and self.cell.workers[name].takes_work
            for name in demand.servers
        )

    def _assign(self, task: Task, chosen: Choice) -> AttemptAssigned:
        worker, kind = chosen
        capacity = self.planned.get(worker.id)
        if capacity is None:
            capacity = self.planned[worker.id] = worker.free.copy()
        devices = capacity.take(task.demand, kind, task.demand.servers[worker.id][kind])
        spec = task.spec
        if spec is None:  # a queued task always has its document
            message = f"task {task.id} is queued without its document"
            raise AssertionError(message)
        return AttemptAssigned(
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
        )


def _rank(worker: Worker, capacity: Capacity, demand: Demand) -> _Ranked:
    unused = len(worker.kinds) - 1 if demand.kinds == ("cpu",) else 0
    load = 1.0 - capacity.slots / worker.capability.slots
    return (unused, load, worker.id)
