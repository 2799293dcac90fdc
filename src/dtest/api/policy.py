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

router = APIRouter(prefix="/api/policy", tags=["policy"], route_class=StrictRoute)


@router.get("", summary="The policies in force")
async def show_policy(context: Context, after: After = None) -> dict[str, Any]:
    """Return the policies, the rules of the term, and every parameter.

    `chosen` are the parameters that a client set, `changed_by_strategy` those that the strategy
    changes; the others are as the term recorded them.
    """
    await context.caught_up(after)
    cell = context.projector.rows.cell
    return {
        "ranking": cell.ranking,
        "strategy": cell.strategy,
        "timeouts": cell.timeouts,
        "signatures_observed": len(cell.durations),
        "rules": cell.term.rules,
        "parameters": asdict(cell.parameters),
        "chosen": cell.chosen,
        "changed_by_strategy": dict(cell.term.strategies.get(cell.strategy, {})),
        "as_of_seq": context.projector.seq,
    }


@router.post("", status_code=202, summary="Choose policies and set parameters")
async def choose_policy(context: Context, body: PolicyBody) -> Requested:
    """Record the choice; it holds from the next decision on. What is left out stays."""
    choice = PolicyChanged(
        body.ranking, body.strategy, body.timeouts, body.parameters, tuple(body.reset)
    )
    if choice == PolicyChanged():
        message = "no ranking, strategy, kind of time-outs or parameter is named"
        hint = "docs/recovery.md lists the strategies, docs/parameters.md the parameters"
        raise InvalidDocument(message, hint=hint)
    both = sorted(set(body.parameters) & set(body.reset))
    if both:
        message = f"{', '.join(both)}: set and reset at once"
        raise InvalidDocument(message, hint="give one of the two")
    placed = await context.client.say([choice])
    return Requested(seq=placed[0].seq)
