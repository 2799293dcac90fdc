"""``dtest breaker``: which workers get no work for now, and which kinds of task are held."""

from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.runs import show_items

COLUMNS = ("breaker_id", "guard", "cause", "count", "workers", "probe", "since", "until")


def ls(*, guard: str | None = None, limit: int = 100, call: CallOptions = DEFAULTS) -> int:
    """List the breakers that ever opened, of workers, devices, signatures and revisions.

    Example: `dtest breaker ls --guard open`

    Parameters
    ----------
    guard
        Only breakers in this state: closed, open, half_open, quarantined or probation.
    limit
        Most breakers to list.
    """
    found = open_api(call.settings()).get("/api/breakers", guard=guard, limit=limit)
    show_items(found["items"], COLUMNS, as_json=call.json)
    return 0
