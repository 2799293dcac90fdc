"""Why a task waits: all reasons together, never an empty answer. Pure."""

from collections import Counter
from dataclasses import dataclass

from dtest.events.codec import iso
from dtest.events.task import Remedy
from dtest.scheduling.decider import goes_back_to, kept_room
from dtest.state.cell import Cell
from dtest.state.health import TRYING, Guard, Health, Kind
from dtest.state.matching import Refusal, match
from dtest.state.task import LIVE, TERMINAL, WAITING, Status, Task
from dtest.state.worker import GONE, Worker, WorkerStatus
from dtest.wording import counted

NEAREST_MAX = 5


@dataclass(frozen=True, slots=True)
class WaitingReason:
    """One reason, for machines (``code``) and people (``text``)."""

    code: str
    text: str
    worker_id: str | None = None
    task_id: str | None = None


def explain(cell: Cell, task: Task, now: float) -> list[WaitingReason]:
    """Return why the task does not run now; for one that runs or ended, say just that."""
    if task.status in TERMINAL:
        because = f", {task.reason}" if task.reason is not None else ""
        return [WaitingReason("ended", f"it ended: {task.status}{because}")]
    if task.status in LIVE:
        text = f"attempt {task.attempt} is {task.status} on {task.worker_id}"
        return [WaitingReason("not_waiting", text, task.worker_id)]
    if task.status is Status.JUDGED:
        return [WaitingReason("being_decided", f"its last attempt ended: {task.reason}")]
    reasons = [*_own_reasons(cell, task, now), *_worker_reasons(cell, task)]
    return reasons or [WaitingReason("next_decision", "a worker is free: it starts next")]


def _own_reasons(cell: Cell, task: Task, now: float) -> list[WaitingReason]:
    reasons: list[WaitingReason] = []
    if task.id in cell.doomed:
        upstream = cell.doomed[task.id]
        text = (
            f"{upstream} is {cell.tasks[upstream].status}, so it can never run: it is skipped next"
        )
        reasons.append(WaitingReason("dependency_never", text, task_id=upstream))
    if task.id in cell.expiring:
        text = f"it was not started in time ({cell.expiring[task.id]}): it expires next"
        reasons.append(WaitingReason("expiring", text))
    for upstream in sorted(task.waiting_on or ()):
        status = cell.tasks[upstream].status
        text = f"waits for {upstream}, which is {status}"
        reasons.append(WaitingReason("waiting_dependency", text, task_id=upstream))
    if task.id in cell.held:
        reasons.append(WaitingReason("breaker_open", _breaker(cell.kinds[cell.held[task.id]])))
    if task.remedy is not None and task.waits_for_larger:
        reasons.append(WaitingReason("larger_place", _larger(task, task.remedy)))
    if task.not_before > now and task.status is Status.DELAYED:
        text = f"waits until {iso(task.not_before)} after {task.reason}"
        reasons.append(WaitingReason("backoff_until", text))
    if task.cancel:
        reasons.append(WaitingReason("cancelling", "it is being cancelled"))
    return reasons


def _larger(task: Task, remedy: Remedy) -> str:
    device = f"a device with at least {remedy.min_device_memory_gb:g} GB"
    machine = f"a machine with at least {remedy.min_memory_gb:g} GB of memory"
    wanted = [device] * (remedy.min_device_memory_gb > 0) + [machine] * (remedy.min_memory_gb > 0)
    until = f", or anything else if none takes work after {remedy.until}"
    where = f"{', '.join(task.devices) or 'the machine'} of {task.worker_id}"
    return f"{where} was too small: it waits for {' and '.join(wanted)}{until}"


def _suspect(cell: Cell, task: Task) -> list[WaitingReason]:
    """Name the devices that could run it if nothing spoke against them."""
    return [
        WaitingReason(
            "device_suspect",
            f"{name} of {worker.id} is suspect ({device.reason})"
            + (f" until {iso(device.until)}" if device.until is not None else ""),
            worker.id,
        )
        for worker in cell.workers.values()
        if worker.devices and worker.status not in GONE
        for name, device in sorted(worker.devices.items())
        if worker.bars(name) and name.partition(":")[0] in task.demand.kinds
    ][:NEAREST_MAX]


def _worker_reasons(cell: Cell, task: Task) -> list[WaitingReason]:
    serving = [cell.workers[name] for name in task.demand.servers]
    active = [worker for worker in serving if worker.takes_work]
    reasons = [*_not_taking(serving), *_suspect(cell, task)]
    if not active:
        return [*reasons, *_no_match(cell, task)]
    if task.id in cell.held:
        return reasons
    busy = [worker for worker in active if not _has_room(task, worker)]
    if len(busy) == len(active):
        running = sum(len(worker.running) for worker in active)
        attempts = counted(running, "attempt")
        text = f"{counted(len(active), 'matching worker')}, all busy with {attempts}"
        reasons.append(WaitingReason("all_matching_busy", text))
    ahead = _ahead(cell, task)
    if ahead and task.status in WAITING:
        text = f"behind {counted(ahead, 'task')} that could run in the same places"
        reasons.append(WaitingReason("lower_priority_than", text))
    roomy = [worker for worker in active if worker not in busy]
    reasons += _kept(cell, roomy)
    avoids_all = all(worker.id in task.avoid and not goes_back_to(worker, task) for worker in roomy)
    if busy and roomy and avoids_all:
        text = f"{_avoided(task)}; it waits for another worker"
        reasons.append(WaitingReason("avoided", text))
    if task.avoid and set(task.avoid) >= {worker.id for worker in active}:
        text = f"{_avoided(task)}; nothing else matches"
        reasons.append(WaitingReason("avoided", text))
    return reasons


def _avoided(task: Task) -> str:
    asked = set(task.spec.avoid_workers) if task.spec is not None else set()
    faulted = [name for name in task.avoid if name not in asked]
    wished = [name for name in task.avoid if name in asked]
    parts = [f"it faulted on {', '.join(faulted)}"] if faulted else []
    return " and ".join([*parts, *([f"it is to avoid {', '.join(wished)}"] if wished else [])])


def _kept(cell: Cell, roomy: list[Worker]) -> list[WaitingReason]:
    kept = kept_room(cell)
    return [
        WaitingReason(
            "reserved_for",
            f"{worker.id} keeps its room for {kept[worker.id]}, which has waited longer",
            worker.id,
            kept[worker.id],
        )
        for worker in roomy
        if worker.id in kept
    ]


def _has_room(task: Task, worker: Worker) -> bool:
    offer = task.demand.servers[worker.id]
    return any(worker.free.fits(task.demand, kind, fitting) for kind, fitting in offer.items())


def _ahead(cell: Cell, task: Task) -> int:
    mine = (task.order, task.seq, task.index, task.id)
    own = set(task.demand.servers)
    return sum(
        demand.queue.bisect_left(mine)
        for demand in cell.ready.values()
        if not own.isdisjoint(demand.servers)
    )


def _not_taking(serving: list[Worker]) -> list[WaitingReason]:
    reasons = [
        WaitingReason(f"worker_{worker.status}", f"{worker.id} is {worker.status}", worker.id)
        for worker in serving
        if worker.status in (WorkerStatus.DRAINING, WorkerStatus.SUSPECTED)
    ]
    barred = [
        f"{worker.id} {_guard(worker.health)}"
        for worker in serving
        if worker.health is not None
        and worker.status is WorkerStatus.ACTIVE
        and not worker.takes_work
    ]
    if barred:
        named = ", ".join(barred[:NEAREST_MAX])
        text = f"{len(barred)} matching workers get no work for now: {named}"
        reasons.append(WaitingReason("workers_quarantined", text))
    return reasons


def _guard(health: Health) -> str:
    if health.guard in TRYING:
        return "is tried with a single attempt"
    until = f"until {iso(health.until)}" if health.until is not None else "until it is reinstated"
    return f"({health.guard}, {health.cause}) {until}"


def _breaker(kind: Kind) -> str:
    where = f" on {', '.join(kind.workers)}" if kind.workers else ""
    if kind.guard is Guard.HALF_OPEN:
        return f"{kind.key} faulted{where}; {kind.probe or 'one task'} is tried first"
    until = f", one is tried at {iso(kind.until)}" if kind.until is not None else ""
    return f"{kind.key} faulted{where}, so its tasks are held ({kind.cause}){until}"


def _no_match(cell: Cell, task: Task) -> list[WaitingReason]:
    """Say of each worker why not: real ones first, those first that come nearest."""
    present = _present(cell)
    if not present:
        return [WaitingReason("no_match", "no worker is registered")]
    simulated = [] if task.demand.simulable else [each for each in present if each.simulated]
    real = [worker for worker in present if worker not in simulated]
    refusals: list[WaitingReason] = []
    for worker in sorted(real, key=lambda worker: _distance(task, worker)):
        offer = match(task.demand, worker)
        if isinstance(offer, Refusal):
            text = f"{worker.id} {offer.text}"
            refusals.append(WaitingReason("no_match", text, worker.id))
    if simulated:
        text = f"{counted(len(simulated), 'simulated worker')}: for simulated tasks only"
        refusals[NEAREST_MAX - 1 :] = [WaitingReason("no_match", text)]
    return refusals[:NEAREST_MAX]


def _present(cell: Cell) -> list[Worker]:
    return [worker for worker in cell.workers.values() if worker.status not in GONE]


def types_offered(cell: Cell) -> list[str]:
    """Return the types of task that some worker runs."""
    return sorted({name for worker in _present(cell) for name in worker.capability.task_types})


def unserved_types(cell: Cell) -> dict[str, int]:
    """Return how many tasks wait of each type that no worker runs."""
    offered = set(types_offered(cell))
    waiting = Counter[str]()
    for demand in cell.ready.values():
        if demand.type not in offered and len(demand.queue):
            waiting[demand.type] += len(demand.queue)
    return dict(sorted(waiting.items()))


def _distance(task: Task, worker: Worker) -> tuple[bool, bool]:
    """Order workers by what they lack: the right kind of hardware weighs more than its size."""
    demand = task.demand
    other_work = demand.type not in worker.capability.task_types
    return other_work or worker.simulated, worker.kinds.isdisjoint(demand.kinds)
