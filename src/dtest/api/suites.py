"""Runs of suites: ask for one, and see how far it is."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header
from pydantic import BaseModel, ConfigDict, Field

from dtest.api.body import StrictRoute
from dtest.api.context import ApiContext, Context
from dtest.api.finding import find_run
from dtest.api.listing import After
from dtest.client import event_ids, parse_suite
from dtest.errors import Conflict, NotFound
from dtest.events.fields import RunId, RunToken
from dtest.journal.queue import packed
from dtest.projections.plain import readable
from dtest.state.suite import SuiteRun

router = APIRouter(prefix="/api", tags=["suites"], route_class=StrictRoute)

READ_BACK_S_MAX = 2.0
ROWS_MAX = 100_000
SUITE = "SELECT * FROM suites WHERE run_id = ?"
JSON_COLUMNS = frozenset({"document", "muted", "notes", "counts"})
POOLS = """
SELECT hardware, queue, asked, cause, applies, max(sessions) AS sessions,
    CAST(sum(last - first + 1) AS BIGINT) AS tests
FROM pools WHERE run_id = ? GROUP BY ALL ORDER BY min(seq), min(idx)
"""
EXAMPLE = {"name": "shop", "cwd": "/home/you/shop", "paths": ["tests"], "reruns": 1}


class SuiteAnswer(BaseModel):
    """A recorded submission of a suite."""

    run_id: str
    seq: int = Field(description="Read with `?after=<seq>` to see its effect.")


class Told(BaseModel):
    """What a client knows of tests on one class of hardware."""

    model_config = ConfigDict(extra="forbid")

    durations: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="Seconds by test."
    )
    failed: list[str] = Field(default_factory=list)


class RecallBody(BaseModel):
    """What a client knows of earlier runs."""

    model_config = ConfigDict(extra="forbid")

    run_id: RunToken
    hardware: dict[str, Told] = Field(default_factory=dict)
    only_stated_fail: bool = Field(
        default=False, description="What failed is as stated here, whatever the cell knows."
    )


@router.post("/suites", status_code=202, summary="Have a suite run")
async def submit(
    context: Context,
    body: Annotated[dict[str, Any], Body(openapi_examples={"one": {"value": EXAMPLE}})],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> SuiteAnswer:
    """Record the document of a run of a suite; the cell carries it to its end."""
    ids = event_ids(idempotency_key, 2)
    spec = parse_suite(body, run_id=RunId(ids[1] if ids else context.new_id()))
    placed = await context.client.say([spec], ids=ids and ids[:1])
    seq = placed[0].seq
    await context.projector.reached(seq, wait_s=READ_BACK_S_MAX)
    refusal = context.projector.rows.refused.get((seq, 0))
    if refusal is not None:
        raise Conflict(f"refused: {refusal.code}: {refusal.detail}", hint="leave out `run_id`")
    return SuiteAnswer(run_id=spec.run_id, seq=seq)


@router.post("/recalls", status_code=202, summary="Say what is known of earlier runs")
async def recall(context: Context, body: RecallBody) -> dict[str, int]:
    """Store it for the plan of a run that is yet to be asked for, with `recalls` true."""
    pieces = await asyncio.to_thread(lambda: packed(body.model_dump()))
    await context.queue(body.run_id).recall(pieces)
    return {"bytes": sum(map(len, pieces))}


@router.get("/suites/{run_id}", summary="How a run of a suite is divided, and how far it is")
async def show(context: Context, run_id: str, after: After = None) -> dict[str, Any]:
    """Return counts; the tests themselves stand in the plan of the run."""
    await context.caught_up(after)
    run = find_run(context, run_id)
    suite = context.projector.rows.cell.suites.get(run)
    row = await suite_row(context, run)
    if suite is None or row is None:
        message = f"the run {run} is no run of a suite"
        raise NotFound(message, hint=f"`dtest run show {run}` shows its tasks")
    pools = (await context.read(POOLS, [run])).records()
    return {
        **row,
        "lanes": [_lane(suite, place) for place in range(len(suite.lanes))],
        "pools": pools,
    }


def _lane(suite: SuiteRun, place: int) -> dict[str, Any]:
    lane = suite.lanes[place]
    found = suite.collected.get(lane.name)
    return {
        "name": lane.name,
        "sessions": lane.sessions,
        "why_not": lane.why_not,
        "digest": found.digest if found is not None else None,
        "tests": found.tests if found is not None else 0,
        "files": found.files if found is not None else 0,
        "broken": found.broken if found is not None else 0,
        "whole": found.whole if found is not None else 0,
    }


async def suite_row(context: ApiContext, run_id: RunId) -> dict[str, Any] | None:
    """Return how a run of a suite stands, none for any other run."""
    if run_id not in context.projector.rows.cell.suites:
        return None
    found = (await context.read(SUITE, [run_id])).records()
    return readable(found[0], JSON_COLUMNS) if found else None
