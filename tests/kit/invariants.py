"""What must be true of every cell at every moment: its indexes say what its tasks say.

Computes each index again, the slow and plain way. Knows nothing of events.
"""

from collections import Counter
from collections.abc import Iterable

from dtest.state.cell import Cell
from dtest.state.health import Guard, kinds_of
from dtest.state.matching import Refusal, match
from dtest.state.task import LIVE, TERMINAL, WAITING, Status, Task
from dtest.state.worker import GONE, Worker, whole

NEARLY = 1e-6


def check(cell: Cell, *, devices: bool = True) -> None:
    """Assert all of it; ``devices`` only where assignments come from the decider."""
    _queues(cell)
    _counts(cell)
    _pending(cell)
    _dependencies(cell)
    _timers(cell)
    _breakers(cell)
    for worker in cell.workers.values():
        _capacity(cell, worker, devices=devices)
    free = {name for name, worker in cell.workers.items() if _is_free(worker)}
    assert set(cell.free) == free
    assert all(cell.free[name] is cell.workers[name] for name in free)


def _is_free(worker: Worker) -> bool:
    return worker.takes_work and worker.free.slots > 0


def _queues(cell: Cell) -> None:
    standing = [task for task in cell.tasks.values() if task.in_queue]
    entries = [(entry, demand.key) for demand in cell.demands.values() for entry in demand.queue]
    assert sorted(entries, key=str) == sorted(
        (((task.order, task.seq, task.index, task.id), task.demand.key) for task in standing),
        key=str,
    )
    for demand in cell.demands.values():
        assert (demand.key in cell.ready) == bool(demand.queue)
        assert list(demand.queue) == sorted(demand.queue)
    assert all(cell.demands.get(key) is demand for key, demand in cell.ready.items())
    for task in cell.tasks.values():
        if task.status not in TERMINAL:
            assert cell.demands.get(task.demand.key) is task.demand
        if task.in_queue:
            assert task.status in (Status.QUEUED, Status.DELAYED)
            assert not task.cancel
            assert task.id not in cell.expiring
            assert task.spec is not None
        elif task.status is Status.QUEUED:
            assert task.cancel or task.id in cell.expiring or task.id in cell.held


def _counts(cell: Cell) -> None:
    unfinished = [task for task in cell.tasks.values() if task.status not in TERMINAL]
    by_run = Counter(task.run_id for task in unfinished)
    by_demand = Counter(task.demand.key for task in unfinished)
    for run in cell.runs.values():
        assert run.unfinished == by_run[run.id]
        assert run.task_ids == [task.id for task in cell.tasks.values() if task.run_id == run.id]
    for demand in cell.demands.values():
        assert demand.unfinished == by_demand[demand.key]
    ended = Counter(task.status for task in cell.tasks.values() if task.status in TERMINAL)
    assert +cell.ended == ended


def _pending(cell: Cell) -> None:
    tasks = cell.tasks
    assert set(cell.judged) == _named(tasks.values(), Status.JUDGED)
    assert set(cell.cancelling) == {
        task.id
        for task in tasks.values()
        if task.cancel and (task.status in WAITING or task.status in LIVE - {Status.STOPPING})
    } | {name for name in cell.cancelling if tasks[name].status is Status.STOPPING}
    assert all(tasks[name].status is Status.BLOCKED for name in cell.doomed)
    assert all(tasks[name].status in WAITING for name in cell.expiring)
    for name, attempt in cell.unaccepted.items():
        assert (tasks[name].status, tasks[name].attempt) == (Status.ASSIGNED, attempt)
    assert all(cell.workers[name].status not in GONE for name in cell.suspects)
    for worker_id, _, _ in cell.strays:
        assert worker_id in cell.workers


def _named(tasks: Iterable[Task], status: Status) -> set[str]:
    return {task.id for task in tasks if task.status is status}


def _dependencies(cell: Cell) -> None:
    for task in cell.tasks.values():
        if task.status is not Status.BLOCKED:
            continue
        assert task.waiting_on, f"{task.id} is blocked by nothing"
        for upstream_id in task.waiting_on:
            upstream = cell.tasks[upstream_id]
            if upstream.status in TERMINAL:
                assert task.id in cell.doomed
            elif task.id not in cell.doomed:
                assert task.id in (upstream.dependents or ())


def _timers(cell: Cell) -> None:
    set_for = {(kind, name) for _, _, kind, name, _ in cell.timers}
    for task in cell.tasks.values():
        if task.cancel or task.id in cell.expiring:
            continue
        if task.status is Status.DELAYED:
            assert task.in_queue or task.id in cell.held or ("backoff", task.id) in set_for
        if task.status is Status.ASSIGNED:
            assert ("accept", task.id) in set_for or task.id in cell.unaccepted


def _breakers(cell: Cell) -> None:
    assert cell.shut == {key for key, kind in cell.kinds.items() if kind.guard is not Guard.CLOSED}
    assert cell.probes == {kind.probe: key for key, kind in cell.kinds.items() if kind.probe}
    for task_id, key in cell.held.items():
        task = cell.tasks[task_id]
        assert task.status in (Status.QUEUED, Status.DELAYED)
        assert not task.in_queue
        assert not task.cancel
        assert task.id not in cell.expiring
        assert key in cell.shut
        assert task.spec is not None
        assert key in kinds_of(task.spec)
    assert set(cell.ailing) == {
        worker.id
        for worker in cell.workers.values()
        if (worker.health and (worker.health.strikes or worker.health.guard is not Guard.CLOSED))
        or worker.devices
    }
    assert set(cell.enlarged) == {task.id for task in cell.tasks.values() if task.waits_for_larger}
    for worker in cell.workers.values():
        probe = worker.health.probe if worker.health else None
        assert probe is None or worker.running[probe[0]] == probe[1]
        for device in worker.devices.values():
            tried = device.probe
            assert tried is None or worker.running[tried[0]] == tried[1]


def _capacity(cell: Cell, worker: Worker, *, devices: bool) -> None:
    holders = [cell.tasks[name] for name in worker.running]
    assert dict(worker.running) == {
        task.id: task.attempt
        for task in cell.tasks.values()
        if task.status in LIVE and task.worker_id == worker.id
    }
    full = whole(worker.capability)
    takes = [task.demand.resources for task in holders]
    assert worker.free.slots == full.slots - sum(item.slots for item in takes)
    assert abs(worker.free.cpus - full.cpus + sum(item.cpus for item in takes)) < NEARLY
    assert abs(worker.free.memory_gb - full.memory_gb + sum(t.memory_gb for t in takes)) < NEARLY
    if worker.status in GONE:
        assert not worker.running
    if devices:
        taken = [name for task in holders for name in task.devices]
        assert len(taken) == len(set(taken))
        for kind, names in full.devices.items():
            assert worker.free.devices.get(kind, ()) == tuple(
                name for name in names if name not in taken
            )
    for demand in cell.demands.values():
        offer = match(demand, worker)
        if worker.status in GONE or isinstance(offer, Refusal):
            assert worker.id not in demand.servers
        else:
            assert demand.servers[worker.id] == offer
