"""Workers: list, show, load, register, drain, quarantine, reinstate."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import TypeAdapter, ValidationError

from dtest.api.body import StrictRoute
from dtest.api.context import Context
from dtest.api.listing import After, Cursor, Limit, Listing, page
from dtest.api.models import Page, ReasonBody, Requested
from dtest.errors import InvalidDocument, NotFound
from dtest.events import codec, subject
from dtest.events.catalogue import ClientPayload
from dtest.events.codec import iso
from dtest.events.envelope import Event
from dtest.events.fields import EventId, WorkerId
from dtest.events.problem import explain
from dtest.events.worker import (
    WorkerDrainRequested,
    WorkerQuarantineRequested,
    WorkerRegistered,
    WorkerReinstateRequested,
)
from dtest.journal.port import Appended, Outgoing
from dtest.recovery.guards import score
from dtest.state.health import Guard
from dtest.state.term import DRAIN_ENDS_RULES
from dtest.state.worker import GONE, Worker

router = APIRouter(prefix="/api/workers", tags=["workers"], route_class=StrictRoute)

WORKERS = Listing("SELECT * FROM workers", "worker_id", str, frozenset({"capability"}))
LOADS = """
SELECT workers.worker_id, status, running, slots, simulated, telemetry.* EXCLUDE (worker_id, seq)
FROM workers LEFT JOIN (
    SELECT * FROM telemetry
    QUALIFY row_number() OVER (PARTITION BY worker_id ORDER BY seq DESC) = 1
) AS telemetry USING (worker_id)
ORDER BY workers.worker_id
"""
LOAD = "SELECT * FROM telemetry WHERE worker_id = ? ORDER BY seq DESC LIMIT 1"
_REGISTERED: TypeAdapter[WorkerRegistered] = TypeAdapter(WorkerRegistered)
REGISTER_EXAMPLE = {
    "worker_id": "lab-07",
    "incarnation": "2026-11-20T08-00",
    "host": "lab-07",
    "capability": {"slots": 2, "cpus": 8, "memory_gb": 32, "task_types": ["command"]},
}


@router.get("", summary="List workers")
async def list_workers(
    context: Context,
    status: Annotated[str | None, Query(max_length=50)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    after: After = None,
) -> Page:
    """Return workers with what they have."""
    filters = {"status = ?": status}
    found = await page(context, WORKERS, filters, limit=limit, cursor=cursor, after=after)
    for item in found.items:
        item["health"] = _health(context, WorkerId(item["worker_id"]))
        item["suspect_devices"] = _devices(context, WorkerId(item["worker_id"]))
    return found


@router.get("/status", summary="What each worker does now")
async def status(context: Context, after: After = None) -> dict[str, Any]:
    """Return the latest load of each worker; unknown figures are null."""
    await context.caught_up(after)
    return {"items": (await context.read(LOADS)).records(), "as_of_seq": context.projector.seq}


@router.post("/register", status_code=202, summary="Register a worker of a foreign agent")
async def register(
    context: Context,
    body: Annotated[dict[str, Any], Body(examples=[REGISTER_EXAMPLE])],
) -> Requested:
    """Record ``worker.registered`` on behalf of an agent that speaks HTTP only at its start.

    It must beat on NATS afterwards, or it is soon counted as lost.
    """
    try:
        fact = _REGISTERED.validate_python(body)
    except ValidationError as error:
        message = explain(error)
        raise InvalidDocument(message, hint="`dtest event schema worker.registered`") from error
    source = codec.source(context.cell, "agent", fact.worker_id)
    event = Event(EventId(context.new_id()), source, context.now(), fact)
    where = subject.agent(context.cell, fact.worker_id, fact.TYPE)
    result = await context.journal.append(Outgoing(where, codec.encode([event]), event.id))
    if not isinstance(result, Appended):
        raise AssertionError(result)
    return Requested(seq=result.seq)


@router.get("/{worker_id}", summary="One worker with what runs on it")
async def show_worker(context: Context, worker_id: str, after: After = None) -> dict[str, Any]:
    """Return the worker; ``load`` is its latest telemetry, null if there is none."""
    await context.caught_up(after)
    known = _known(context, worker_id)
    filters = {"worker_id = ?": known.id}
    found = await page(context, WORKERS, filters, limit=1, cursor=None, after=None)
    if not found.items:
        message = f"worker {known.id} is not projected yet"
        raise NotFound(message, hint="ask with ?after=<seq>")
    loads = (await context.read(LOAD, [known.id])).records()
    running = dict(known.running)
    strikes = known.health.strikes if known.health is not None else []
    return {
        **found.items[0],
        "health": _health(context, known.id),
        "suspect_devices": _devices(context, known.id),
        "faults": [
            {
                "task_id": strike.task_id,
                "reason": str(strike.reason),
                "at": iso(strike.at),
                "verdicts_since": strike.passes,
            }
            for strike in strikes
        ],
        "attempts": [{"task_id": task_id, "attempt": n} for task_id, n in running.items()],
        "load": loads[0] if loads else None,
        "as_of_seq": found.seq,
    }


@router.post("/{worker_id}/drain", status_code=202, summary="Let a worker take no new work")
async def drain(context: Context, worker_id: str, body: ReasonBody | None = None) -> Requested:
    """Record the request; what runs there goes on. Reinstating the worker undoes it."""
    worker = _known(context, worker_id)
    note = _gone(worker) or ("it drains already: this changes nothing" if worker.drain else "")
    return await _asked(context, WorkerDrainRequested(worker.id, _why(body)), note)


@router.post("/{worker_id}/quarantine", status_code=202, summary="Keep work away from a worker")
async def quarantine(context: Context, worker_id: str, body: ReasonBody | None = None) -> Requested:
    """Record the request; it holds over restarts until the worker is reinstated by hand."""
    worker = _known(context, worker_id)
    return await _asked(context, WorkerQuarantineRequested(worker.id, _why(body)), "")


@router.post("/{worker_id}/reinstate", status_code=202, summary="Let a worker take work again")
async def reinstate(context: Context, worker_id: str, body: ReasonBody | None = None) -> Requested:
    """Record the request: it ends a drain, and every breaker of the worker and its devices.

    What led to them is forgotten. The note says which there were.
    """
    worker = _known(context, worker_id)
    ends_drain = context.projector.rows.cell.term.rules >= DRAIN_ENDS_RULES
    ended = ["its drain ends"] if worker.drain and ends_drain else []
    guard = worker.health.guard if worker.health is not None else Guard.CLOSED
    if guard is not Guard.CLOSED:
        ended.append(f"its breaker, {guard}, closes")
    ended += [f"{item['device']} is no longer suspect" for item in _devices(context, worker.id)]
    note = _gone(worker) or ", ".join(ended) or "nothing kept work away from it"
    return await _asked(context, WorkerReinstateRequested(worker.id, _why(body)), note)


def _why(body: ReasonBody | None) -> str:
    return body.reason if body is not None else ""


async def _asked(context: Context, request: ClientPayload, note: str) -> Requested:
    placed = await context.client.say([request])
    return Requested(seq=placed[0].seq, note=note)


def _gone(worker: Worker) -> str:
    return f"it is {worker.status}, so it gets no work anyway" if worker.status in GONE else ""


def _health(context: Context, worker_id: WorkerId) -> float:
    """Return the score now: the row's was right when something last happened there."""
    cell = context.projector.rows.cell
    health = cell.workers[worker_id].health
    strikes = health.strikes if health is not None else []
    return score(strikes, context.now(), cell.parameters)


def _devices(context: Context, worker_id: WorkerId) -> list[dict[str, Any]]:
    """Return the devices that get no attempt for now, or are tried with one."""
    worker = context.projector.rows.cell.workers[worker_id]
    return [
        {
            "device": name,
            "reason": str(device.reason),
            "guard": str(device.guard),
            "until": iso(device.until) if device.until is not None else None,
            "openings": device.count,
        }
        for name, device in sorted(worker.devices.items())
        if device.guard is not Guard.CLOSED
    ]


def _known(context: Context, worker_id: str) -> Worker:
    worker = context.projector.rows.cell.workers.get(WorkerId(worker_id))
    if worker is not None:
        return worker
    message = f"no worker is called {worker_id!r}"
    raise NotFound(message, hint="`dtest worker ls` lists the workers")
