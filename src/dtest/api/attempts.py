"""Attempts: which worker ran which task when, and how that ended."""

from typing import Annotated

from fastapi import APIRouter, Query

from dtest.api.body import StrictRoute
from dtest.api.context import Context
from dtest.api.listing import After, Cursor, Limit, Listing, one_of, page
from dtest.api.models import Page

router = APIRouter(prefix="/api", tags=["tasks"], route_class=StrictRoute)

ATTEMPTS = Listing(
    "SELECT * FROM (SELECT attempts.*, tasks.run_id, "
    "printf('%020d/%s/%06d', tasks.seq, task_id, attempts.attempt) AS page_key "
    "FROM attempts JOIN tasks USING (task_id))",
    "page_key",
    str,
    frozenset({"artifacts"}),
)


@router.get("/attempts", summary="List attempts, those of the newest tasks first")
async def list_attempts(
    context: Context,
    run_id: Annotated[str | None, Query(max_length=200)] = None,
    worker_id: Annotated[str | None, Query(max_length=200)] = None,
    status: Annotated[list[str] | None, Query(max_length=20)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    after: After = None,
) -> Page:
    """Return attempts that fit all filters, with their artefacts."""
    filters = {
        "run_id = ?": run_id,
        "worker_id = ?": worker_id,
        **dict([one_of("status", status)]),
    }
    return await page(context, ATTEMPTS, filters, limit=limit, cursor=cursor, after=after)
