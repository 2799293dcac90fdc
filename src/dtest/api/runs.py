"""Runs: list, show, cancel."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from dtest.api.body import StrictRoute
from dtest.api.context import Context
from dtest.api.finding import find_run
from dtest.api.listing import After, Cursor, Limit, Listing, page
from dtest.api.models import Page, ReasonBody, Requested
from dtest.api.plans import PLANS
from dtest.api.suites import suite_row
from dtest.api.verdict import VerdictAnswer, verdict_of
from dtest.errors import NotFound
from dtest.events.run import RunCancelRequested
from dtest.projections.past import CASES, JSON, PLANNED
from dtest.projections.plain import readable
from dtest.reports.reading import has_ended

JSON_LINES = "application/x-ndjson"
Wait = Annotated[float, Query(ge=0, le=10)]
router = APIRouter(prefix="/api/runs", tags=["runs"], route_class=StrictRoute)

RUNS = Listing(
    "SELECT * FROM (SELECT run_summary.*, printf('%020d/%s', runs.seq, run_id) AS page_key "
    "FROM run_summary JOIN runs USING (run_id))",
    "page_key",
    str,
    frozenset({"labels"}),
)
ONE = "SELECT * FROM run_summary WHERE run_id = ?"
OF_SUITE = (
    *("phase", "divided", "tests", "planned", "predicted_s", "notes", "round"),
    *("cut", "cut_detail", "cut_hint", "exit_code", "counts", "muted"),
)


@router.get("", summary="List runs, newest first")
async def list_runs(
    context: Context,
    name: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    after: After = None,
) -> Page:
    """Return runs with the number of their tasks in each state."""
    filters = {"name = ?": name}
    return await page(context, RUNS, filters, limit=limit, cursor=cursor, after=after)


@router.get("/{run_id}", summary="One run with the sum of its tasks and test cases")
async def show_run(
    context: Context, run_id: str, after: After = None, wait_s: Wait = 0.0
) -> dict[str, Any]:
    """Return the run; ``@last`` names the newest, else the id or a unique beginning.

    With ``wait_s`` as soon as the run has ended, or as it is after so many seconds.
    """
    await context.caught_up(after)
    run = find_run(context, run_id)
    await context.projector.run_ended(run, wait_s=wait_s)
    seq = context.projector.seq
    found = (await context.read(ONE, [run])).records()
    if not found:
        message = f"run {run} is not projected yet"
        raise NotFound(message, hint="ask with ?after=<seq>")
    outcomes = await context.projector.outcomes(run)
    sums = readable(found[0], RUNS.json_columns)
    suite = await suite_row(context, run)
    return {
        **sums,
        "testcases": outcomes,
        # By the same rows: the fold may be ahead of what is written, and the sums would not fit.
        "finished": has_ended(sums, suite),
        "suite": suite and {name: suite[name] for name in OF_SUITE},
        "as_of_seq": seq,
    }


@router.post("/{run_id}/cancel", status_code=202, summary="Cancel all tasks of a run")
async def cancel_run(context: Context, run_id: str, body: ReasonBody | None = None) -> Requested:
    """Record the request."""
    run = find_run(context, run_id)
    reason = body.reason if body is not None else ""
    known, suite = context.projector.cell.runs[run], context.projector.cell.suites.get(run)
    is_over = not known.unfinished and (suite is None or suite.exit_code is not None)
    placed = await context.client.say([RunCancelRequested(run, reason)])
    note = "it has ended already: this changes nothing" if is_over else ""
    return Requested(seq=placed[0].seq, note=note)


@router.get("/{run_id}/plan", summary="What a run is to prove")
async def show_plan(
    context: Context,
    run_id: str,
    limit: Limit = 100,
    cursor: Cursor = None,
    after: After = None,
) -> Page:
    """Return the planned tests, the last ones first; files to be collected have no number."""
    await context.caught_up(after)
    filters = {"run_id = ?": find_run(context, run_id)}
    return await page(context, PLANS, filters, limit=limit, cursor=cursor, after=after)


@router.get(
    "/{run_id}/plan.jsonl",
    summary="What a run is to prove, all of it, one JSON document on each line",
    response_class=StreamingResponse,
)
async def all_of_plan(context: Context, run_id: str, after: After = None) -> StreamingResponse:
    """Return the planned tests in the order of their numbers, as they are at one moment.

    The last line says how many came before it: `{"end": 2}`.
    """
    await context.caught_up(after)
    return StreamingResponse(
        context.lines(PLANNED, [find_run(context, run_id)]), media_type=JSON_LINES
    )


@router.get(
    "/{run_id}/testcases.jsonl",
    summary="All test cases of a run, one JSON document on each line",
    response_class=StreamingResponse,
)
async def all_cases(context: Context, run_id: str, after: After = None) -> StreamingResponse:
    """Return every report of a test, the oldest first, as they are at one moment.

    The last line says how many came before it: `{"end": 2}`.
    """
    await context.caught_up(after)
    return StreamingResponse(
        context.lines(CASES, [find_run(context, run_id)], JSON), media_type=JSON_LINES
    )


@router.get("/{run_id}/verdict", summary="What a run came to, as a gate would say")
async def show_verdict(context: Context, run_id: str, after: After = None) -> VerdictAnswer:
    """Judge all that is known of the run by the function that all reports ask."""
    await context.caught_up(after)
    return await verdict_of(context, find_run(context, run_id))
