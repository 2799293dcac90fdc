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
    worker = _known(context, worker_id)
    filters = {"worker_id = ?": worker}
    found = await page(context, WORKERS, filters, limit=1, cursor=None, after=None)
    if not found.items:
        message = f"worker {worker} is not projected yet"
        raise NotFound(message, hint="ask with ?after=<seq>")
    known = context.projector.rows.cell.workers[worker]
    loads = (await context.read(LOAD, [worker])).records()
    running = dict(known.running)
    strikes = known.health.strikes if known.health is not None else []
    return {
        **found.items[0],
        "health": _health(context, worker),
        "suspect_devices": _devices(context, worker),
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
    """Record the request; what runs there goes on."""
    worker = _known(context, worker_id)
    reason = body.reason if body is not None else ""
    placed = await context.client.say([WorkerDrainRequested(worker, reason)])
    return Requested(seq=placed[0].seq)


@router.post("/{worker_id}/quarantine", status_code=202, summary="Keep work away from a worker")
async def quarantine(context: Context, worker_id: str, body: ReasonBody | None = None) -> Requested:
    """Record the request; it holds over restarts until the worker is reinstated by hand."""
    worker = _known(context, worker_id)
    reason = body.reason if body is not None else ""
    placed = await context.client.say([WorkerQuarantineRequested(worker, reason)])
    return Requested(seq=placed[0].seq)


@router.post("/{worker_id}/reinstate", status_code=202, summary="Let a worker take work again")
async def reinstate(context: Context, worker_id: str, body: ReasonBody | None = None) -> Requested:
    """Record the request; it ends any quarantine or open breaker, and forgets what led to it."""
    worker = _known(context, worker_id)
    reason = body.reason if body is not None else ""
    placed = await context.client.say([WorkerReinstateRequested(worker, reason)])
    return Requested(seq=placed[0].seq)


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


def _known(context: Context, worker_id: str) -> WorkerId:
    if WorkerId(worker_id) in context.projector.rows.cell.workers:
        return WorkerId(worker_id)
    message = f"no worker is called {worker_id!r}"
    raise NotFound(message, hint="`dtest worker ls` lists the workers")
