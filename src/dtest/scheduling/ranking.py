"""Which of several free workers takes a task: the smallest rank is chosen. Pure.

Says nothing of whether a worker may take the task; only those that may are ranked.
"""

from collections.abc import Callable

from dtest.events.fields import WorkerId
from dtest.events.policy import Ranking
from dtest.state.demand import Demand
from dtest.state.worker import Capacity, Worker

Rank = tuple[int, float, WorkerId]
"""``(how special, preference, who)``; the name makes equal ranks decide the same everywhere."""
Rule = Callable[[Worker, Capacity, Demand], Rank]


def spread(worker: Worker, capacity: Capacity, demand: Demand) -> Rank:
    """Prefer the least loaded worker: attempts disturb each other least."""
    return (_unused_kinds(worker, demand), _load(worker, capacity), worker.id)


def pack(worker: Worker, capacity: Capacity, demand: Demand) -> Rank:
    """Prefer the most loaded worker: others stay free for large tasks, or may be switched off."""
    return (_unused_kinds(worker, demand), -_load(worker, capacity), worker.id)


def _unused_kinds(worker: Worker, demand: Demand) -> int:
    """Return how many kinds of accelerators would idle: a plain task goes to a plain worker."""
    return len(worker.kinds) - 1 if demand.kinds == ("cpu",) else 0


def _load(worker: Worker, capacity: Capacity) -> float:
    return 1.0 - capacity.slots / worker.capability.slots


RANKINGS: dict[Ranking, Rule] = {"spread": spread, "pack": pack}
