"""``dtest worker``: list, show, drain, quarantine and reinstate workers."""

from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.runs import show_items

COLUMNS = (
    *("worker_id", "status", "health", "guard", "simulated", "running", "slots"),
    *("hardware", "memory_gb", "host"),
)
GUARD = ("guard", "guard_cause", "guard_until", "quarantines")
SHED = ("sampled_at", "facts_waiting", "telemetry_shed", "output_dropped_bytes")


def ls(*, status: str | None = None, limit: int = 100, call: CallOptions = DEFAULTS) -> int:
    """List workers.

    Example: `dtest worker ls --status active`

    Parameters
    ----------
    status
        Only workers in this state.
    limit
        Most workers to list.
    """
    found = open_api(call.settings()).get("/api/workers", status=status, limit=limit)
    show_items(sorted(found["items"], key=_name), COLUMNS, as_json=call.json)
    return 0


def _name(item: dict[str, object]) -> str:
    return str(item["worker_id"])


def show(worker: str, *, call: CallOptions = DEFAULTS) -> int:
    """Show what a worker has, what was declared rather than detected, and what runs there.

    Example: `dtest worker show local-1`

    Also what waits to be told, and what was given up because the broker was away, slow or full.

    Parameters
    ----------
    worker
        The worker's name.
    """
    found = open_api(call.settings()).get(f"/api/workers/{worker}")
    if call.json:
        output.as_json(found)
        return 0
    output.table([found], COLUMNS)
    has = found["capability"]
    rows = [{"what": name, "value": value} for name, value in has.items() if value not in ("", [])]
    for row in rows:
        row["declared"] = row["what"] in has.get("declared", [])
    output.table(rows, ("what", "declared", "value"))
    if found["guard"] != "closed":
        output.table([found], GUARD)
    if found["suspect_devices"]:
        output.table(found["suspect_devices"], ("device", "reason", "guard", "until", "openings"))
    if found["faults"]:
        output.table(found["faults"], ("task_id", "reason", "at", "verdicts_since"))
    if found["load"]:
        output.table([found["load"]], SHED)
    if found["attempts"]:
        output.table(found["attempts"], ("task_id", "attempt"))
    return 0


def drain(worker: str, *, reason: str = "", call: CallOptions = DEFAULTS) -> int:
    """Let a worker take no new work; what runs there goes on. `dtest worker reinstate` undoes it.

    Example: `dtest worker drain lab-07 --reason "a new card"`

    Parameters
    ----------
    worker
        The worker's name.
    reason
        Why, for those who ask later.
    """
    return _request(worker, "drain", reason, call)


def quarantine(worker: str, *, reason: str = "", call: CallOptions = DEFAULTS) -> int:
    """Keep work away from a worker, over its restarts, until it is reinstated.

    What runs there goes on. Example: `dtest worker quarantine lab-07 --reason "loose cable"`

    Parameters
    ----------
    worker
        The worker's name.
    reason
        Why, for those who ask later.
    """
    return _request(worker, "quarantine", reason, call)


def reinstate(worker: str, *, reason: str = "", call: CallOptions = DEFAULTS) -> int:
    """Let a worker take work again: ends a drain, a quarantine or an open breaker of any origin.

    Says which of these there were. Example: `dtest worker reinstate lab-07`

    Parameters
    ----------
    worker
        The worker's name.
    reason
        Why, for those who ask later.
    """
    return _request(worker, "reinstate", reason, call)


def _request(worker: str, verb: str, reason: str, call: CallOptions) -> int:
    answer = open_api(call.settings()).post(f"/api/workers/{worker}/{verb}", {"reason": reason})
    if call.json:
        output.as_json(answer)
    else:
        output.say(answer["note"] or f"recorded at {answer['seq']}")
    return 0
