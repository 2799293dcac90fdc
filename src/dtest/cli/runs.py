"""``dtest run``: list, show, watch and cancel runs."""

from typing import Annotated, Any

from cyclopts import Parameter

from dtest.caller.api_client import ApiClient
from dtest.caller.following import Following
from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.suite_call import concluded as concluded_suite
from dtest.cli.suite_display import shown
from dtest.cli.watching import Patience, concluded, watch_run
from dtest.errors import NOTHING_SELECTED

COLUMNS = ("run_id", "name", "tasks", "passed", "failed", "errored", "waiting", "running")


def ls(*, name: str | None = None, limit: int = 20, call: CallOptions = DEFAULTS) -> int:
    """List runs, newest first.

    Example: `dtest run ls --json | jq .run_id`

    Parameters
    ----------
    name
        Only runs of this name.
    limit
        Most runs to list.
    """
    items = open_api(call.settings()).get("/api/runs", name=name, limit=limit)["items"]
    show_items(items, (*COLUMNS, "opened_at"), as_json=call.json)
    return 0


def show_items(items: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    """Print a list: JSON Lines, or a table."""
    if as_json:
        for item in items:
            output.as_json(item)
    else:
        output.table(items, columns)


def show(run: str = "@last", *, call: CallOptions = DEFAULTS) -> int:
    """Show one run with its tasks; the exit code says how it went.

    Example: `dtest run show @last`

    Parameters
    ----------
    run
        The run's id, a unique beginning of it, or ``@last``.
    """
    api = open_api(call.settings())
    found = api.get(f"/api/runs/{run}")
    tasks = every_task(api, found["run_id"])
    if call.json:
        output.as_json({**found, "task_list": tasks})
    else:
        sums = {name: found[name] for name in COLUMNS}
        output.table([{**sums, "finished": found["finished"]}], (*COLUMNS, "finished"))
        output.table(tasks, ("task_id", "name", "status", "reason", "attempt", "worker_id"))
    return concluded(api, found, quiet=call.json) if found["finished"] else 0


def every_task(api: ApiClient, run_id: str) -> list[dict[str, Any]]:
    """Return all tasks of a run, oldest first."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = api.get("/api/tasks", run_id=run_id, limit=1000, cursor=cursor)
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            return items[::-1]


def watch(
    run: str = "@last",
    *,
    timeout: float | None = None,
    fail_unmatched: Annotated[bool, Parameter(negative="")] = False,
    call: CallOptions = DEFAULTS,
) -> int:
    """Follow a run until it ends; the exit code says how it went.

    Example: `dtest run watch @last`

    A run of a suite is shown as by `dtest test`, which may have been killed or called with
    `--detach`. Ctrl-C cancels such a run; a second one only leaves it.

    Parameters
    ----------
    run
        The run's id, a unique beginning of it, or ``@last``.
    timeout
        Longest wait in seconds; then the exit code is 6, or 8 if no worker can ever run the rest.
    fail_unmatched
        End at once with exit code 8 when a task waits that no worker could ever run.
    """
    api = open_api(call.settings())
    begun = api.get(f"/api/runs/{run}")
    if begun["suite"] is not None:
        with shown(as_json=call.json) as port:
            end = Following(api, begun["run_id"], port, timeout).to_the_end()
        return concluded_suite(end, as_json=call.json)
    if not begun["tasks"]:
        output.say(f"run {begun['run_id']} holds no task")
        return NOTHING_SELECTED
    patience = Patience(timeout, fail_unmatched)
    found = watch_run(api, begun["run_id"], patience=patience, as_json=call.json)
    if call.json:
        output.as_json(found)
    return concluded(api, found, quiet=call.json)


def cancel(run: str, *, reason: str = "", call: CallOptions = DEFAULTS) -> int:
    """Cancel every task of a run that has not ended.

    Example: `dtest run cancel @last --reason "wrong branch"`

    Parameters
    ----------
    run
        The run's id, a unique beginning of it, or ``@last``.
    reason
        Why, for those who ask later.
    """
    answer = open_api(call.settings()).post(f"/api/runs/{run}/cancel", {"reason": reason})
    if call.json:
        output.as_json(answer)
    else:
        output.say(answer["note"] or f"recorded at {answer['seq']}")
    return 0
