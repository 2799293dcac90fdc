"""The policies of the cell: shown with their parameters, and chosen."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from dtest.api.body import StrictRoute
from dtest.api.context import Context
from dtest.api.listing import After
from dtest.api.models import PolicyBody, Requested
from dtest.errors import InvalidDocument
from dtest.events.policy import PolicyChanged
from dtest.recovery.policy import DEFAULT_RECOVERY, in_force

router = APIRouter(prefix="/api/policy", tags=["policy"], route_class=StrictRoute)


@router.get("", summary="The policies in force")
async def show_policy(context: Context, after: After = None) -> dict[str, Any]:
    """Return the ranking, the strategy with its parameters, and whether time-outs are observed."""
    await context.caught_up(after)
    cell = context.projector.rows.cell
    return {
        "ranking": cell.ranking,
        "strategy": cell.strategy,
        "timeouts": cell.timeouts,
        "signatures_observed": len(cell.durations),
        "recovery": asdict(in_force(DEFAULT_RECOVERY, cell.strategy)),
        "as_of_seq": context.projector.seq,
    }


@router.post("", status_code=202, summary="Choose policies")
async def choose_policy(context: Context, body: PolicyBody) -> Requested:
    """Record the choice; it holds from the next decision on. What is left out stays."""
    if body.ranking is None and body.strategy is None and body.timeouts is None:
        message = "no ranking, strategy or kind of time-outs is named"
        raise InvalidDocument(message, hint="docs/recovery.md lists the strategies")
    placed = await context.client.say([PolicyChanged(body.ranking, body.strategy, body.timeouts)])
    return Requested(seq=placed[0].seq)
