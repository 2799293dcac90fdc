"""Lists with filters and pages, the same way for every table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from dtest.api.context import ApiContext
from dtest.api.models import Page
from dtest.errors import InvalidDocument
from dtest.projections.plain import readable

LIMIT_MAX = 1_000
PAGE_KEY = "page_key"
"""Name of a key that only orders a list; it is not shown."""

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Most items of one page.")]
Cursor = Annotated[
    str | None, Query(max_length=1_000, description="`next` of the page before this one.")
]
After = Annotated[
    int | None,
    Query(ge=0, le=2**53, description="Answer only once this sequence number is reflected."),
]


@dataclass(frozen=True, slots=True)
class Listing:
    """One kind of list: trusted SQL fragments, never a user's text."""

    select: str
    key: str
    """A column or expression that is unique and orders the list, newest first."""
    key_type: type[int] | type[str]
    json_columns: frozenset[str] = frozenset()


async def page(
    context: ApiContext,
    listing: Listing,
    filters: Mapping[str, object | None],
    *,
    limit: int,
    cursor: str | None,
    after: int | None,
) -> Page:
    """Return one page; ``filters`` maps conditions with one ``?`` to values, none means any."""
    await context.caught_up(after)
    conditions = [condition for condition, value in filters.items() if value is not None]
    values: list[object] = [value for value in filters.values() if value is not None]
    if cursor is not None:
        conditions.append(f"{listing.key} < ?")
        values.append(_read_cursor(cursor, listing))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"{listing.select}{where} ORDER BY {listing.key} DESC LIMIT {limit + 1}"
    seq = context.projector.seq
    answer = await context.read(sql, values)
    items = [readable(record, listing.json_columns) for record in answer.records()]
    following = str(items[limit - 1][listing.key]) if len(items) > limit else None
    for item in items:
        item.pop(PAGE_KEY, None)
    return Page(items=items[:limit], next=following, seq=seq)


def _read_cursor(cursor: str, listing: Listing) -> object:
    try:
        value = listing.key_type(cursor)
    except ValueError as error:
        message = f"cursor {cursor!r} is not from a page of this list"
        raise InvalidDocument(message, hint="take `next` from an answer") from error
    if isinstance(value, int) and abs(value) >= 2**63:
        message = f"cursor {cursor!r} is out of range"
        raise InvalidDocument(message, hint="take `next` from an answer")
    return value


def one_of(column: str, values: Sequence[str] | None) -> tuple[str, object | None]:
    """Return a filter for any of several values."""
    return f"list_contains(?, {column})", list(values) if values else None
