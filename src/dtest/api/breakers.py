"""Breakers: which workers get no work for now, and which kinds of task are held."""

from typing import Annotated

from fastapi import APIRouter, Query

from dtest.api.body import StrictRoute
from dtest.api.context import Context
from dtest.api.listing import After, Cursor, Limit, Listing, page
from dtest.api.models import Page

router = APIRouter(prefix="/api/breakers", tags=["breakers"], route_class=StrictRoute)

BREAKERS = Listing("SELECT * FROM breakers", "breaker_id", str)


@router.get("", summary="List breakers")
async def list_breakers(
    context: Context,
    guard: Annotated[str | None, Query(max_length=50)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    after: After = None,
) -> Page:
    """Return every breaker that ever opened, with its state now."""
    filters = {"guard = ?": guard}
    return await page(context, BREAKERS, filters, limit=limit, cursor=cursor, after=after)
