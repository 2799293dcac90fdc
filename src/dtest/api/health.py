"""Health, status, queries and metrics."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from dtest.api.body import StrictRoute
from dtest.api.context import ApiContext, Context
from dtest.api.listing import After
from dtest.api.metrics import registry_of
from dtest.api.models import QueryAnswer, QueryBody
from dtest.errors import DtestError
from dtest.journal.room import Filling
from dtest.scheduling.why import types_offered, unserved_types

router = APIRouter(prefix="/api", tags=["health"], route_class=StrictRoute)

JOURNAL_S_MAX = 2.0
"""Metrics do not wait longer for the journal; they go without its figures then."""
LEADERS = "SELECT * EXCLUDE (parameters) FROM leaders ORDER BY epoch DESC LIMIT 10"
TASKS = "SELECT status, count(*) AS count FROM tasks GROUP BY 1 ORDER BY 1"
WORKERS = "SELECT status, count(*) AS count FROM workers GROUP BY 1 ORDER BY 1"
SIZES = "SELECT table_name, estimated_size FROM duckdb_tables() ORDER BY 1"


@router.get("/health", summary="Says that the process lives; needs no token")
async def health() -> dict[str, str]:
    """Return a constant."""
    return {"status": "alive"}


@router.get("/health/db", summary="The read model and how far it is behind the journal")
async def health_db(context: Context) -> dict[str, Any]:
    """Return the projection's position and the journal's."""
    bounds = await context.journal.bounds()
    return {
        "status": "ok",
        "projected_seq": context.projector.seq,
        "journal_seq": bounds.last,
        "lag_messages": bounds.last - context.projector.seq,
        "file_bytes": context.store.path.stat().st_size if context.store.path.exists() else 0,
        "rows": dict((await context.read(SIZES)).rows),
    }


@router.get("/health/resources", summary="The use of this API's machine")
async def health_resources(context: Context) -> dict[str, float]:
    """Return processor, memory and disk figures; ratios from 0 to 1, sizes in bytes.

    The processors' is that since the request before this one.
    """
    return context.machine.figures()


@router.get("/status", summary="The cell in one view")
async def status(context: Context, after: After = None) -> dict[str, Any]:
    """Return leadership, tasks, workers and positions."""
    await context.caught_up(after)
    bounds = await context.journal.bounds()
    filling = await context.room.filling(unfinished=context.unfinished())
    cell = context.projector.rows.cell
    async with context.projector.lock:  # queues are read whole
        unserved, types = unserved_types(cell), types_offered(cell)
    return {
        "cell": context.cell,
        "epoch": cell.epoch,
        "leader_id": cell.leader_id or None,
        "standbys": context.standbys(),
        "leaders": (await context.read(LEADERS)).records(),
        "tasks": dict((await context.read(TASKS)).rows),
        "workers": dict((await context.read(WORKERS)).rows),
        "runs": len(cell.runs),
        "ignored": dict(cell.ignored),
        "refused": cell.refused,
        "journal": {
            "last_seq": bounds.last,
            "messages": bounds.messages,
            "created": bounds.created,
            "state": filling.state,
            "used_bytes": filling.used_bytes,
            "max_bytes": filling.max_bytes,
            "reserve_bytes": filling.reserve_bytes,
        },
        "unfinished": context.unfinished(),
        "unserved": unserved,
        "types": types,
        "projected_seq": context.projector.seq,
        "connected": context.is_connected(),
    }


@router.post("/query", summary="Ask the read model by SQL")
def query(context: Context, body: QueryBody) -> QueryAnswer:
    """Run one SELECT; files, extensions and other statements are out of reach."""
    answer = context.store.query_untrusted(body.sql)
    return QueryAnswer(
        columns=list(answer.columns),
        rows=[list(row) for row in answer.rows],
        truncated=answer.truncated,
    )


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
async def metrics(context: Context) -> Response:
    """Return the exposition format of Prometheus."""
    filling, journal_seq = await _journal_now(context)
    async with context.projector.lock:  # queues are read whole
        text = generate_latest(registry_of(context, journal_seq, filling))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _journal_now(context: ApiContext) -> tuple[Filling | None, int | None]:
    """Return how full the journal is and where it ends; none while that cannot be known."""
    try:
        async with asyncio.timeout(JOURNAL_S_MAX):
            filling = await context.room.filling(unfinished=context.unfinished())
            return filling, (await context.journal.bounds()).last
    except (TimeoutError, DtestError):
        return None, None
