"""``dtest task`` and ``dtest why``."""

import sys
from typing import Annotated

from cyclopts import Parameter

from dtest.caller.api_client import ApiClient
from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.following import follow_output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.runs import show_items

COLUMNS = ("task_id", "name", "type", "status", "reason", "attempt", "worker_id", "since")
ATTEMPT_COLUMNS = (
    *("attempt", "worker_id", "hardware", "devices", "status", "reason", "detail", "exit_code"),
    *("fallback", "timeout_s", "timeout_observed"),
    *("resumed_from", "checkpoint", "checkpoint_problem"),
)


def ls(
    *,
    run: str | None = None,
    status: Annotated[list[str] | None, Parameter(negative="")] = None,
    worker: str | None = None,
    limit: int = 50,
    call: CallOptions = DEFAULTS,
) -> int:
    """List tasks, newest first.

    Example: `dtest task ls --status queued --status running`

    Parameters
    ----------
    run
        Only tasks of this run.
    status
        Only tasks in this state; may be repeated.
    worker
        Only tasks whose latest attempt is on this worker.
    limit
        Most tasks to list.
    """
    api = open_api(call.settings())
    found = api.get("/api/tasks", run_id=run, status=status, worker_id=worker, limit=limit)
    show_items(found["items"], COLUMNS, as_json=call.json)
    return 0


def show(task: str, *, call: CallOptions = DEFAULTS) -> int:
    """Show one task with its attempts and test cases.

    Parameters
    ----------
    task
        The task's id, a unique beginning of it, or ``@last``.
    """
    found = open_api(call.settings()).get(f"/api/results/{task}")
    if call.json:
        output.as_json(found)
        return 0
    output.table([found], COLUMNS)
    output.table(found["attempts"], ATTEMPT_COLUMNS)
    smaller = [
        {"attempt": attempt["attempt"], "config": name, "value": has}
        for attempt in found["attempts"]
        if attempt["fallback"]
        for name, has in attempt["config"].items()
    ]
    if smaller:
        output.table(smaller, ("attempt", "config", "value"))
    if found["testcases"]:
        output.table(found["testcases"], ("nodeid", "outcome", "duration_s", "message"))
    return 0


def logs(
    task: str,
    *,
    attempt: int | None = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    call: CallOptions = DEFAULTS,
) -> int:
    """Print the output of an attempt, byte for byte.

    Parameters
    ----------
    task
        The task's id, a unique beginning of it, or ``@last``.
    attempt
        The attempt's number; by default the latest.
    follow
        Go on as output comes, over further attempts, until the task has ended. Ctrl-C ends only
        this.
    """
    if follow:

        def connect() -> ApiClient:
            return open_api(call.settings())

        follow_output(connect, task, attempt=attempt, to=sys.stdout.buffer)
        return 0
    api = open_api(call.settings())
    sys.stdout.buffer.write(api.content(f"/api/tasks/{task}/logs", attempt=attempt))
    sys.stdout.buffer.flush()
    return 0


def cancel(task: str, *, reason: str = "", call: CallOptions = DEFAULTS) -> int:
    """Cancel a task; a running one is stopped with its whole process tree.

    Parameters
    ----------
    task
        The task's id, a unique beginning of it, or ``@last``.
    reason
        Why, for those who ask later.
    """
    return _request(task, "cancel", reason, call)


def retry(task: str, *, reason: str = "", call: CallOptions = DEFAULTS) -> int:
    """Run an ended task that did not pass once more.

    Parameters
    ----------
    task
        The task's id, a unique beginning of it, or ``@last``.
    reason
        Why, for those who ask later.
    """
    return _request(task, "retry", reason, call)


def _request(task: str, verb: str, reason: str, call: CallOptions) -> int:
    answer = open_api(call.settings()).post(f"/api/tasks/{task}/{verb}", {"reason": reason})
    if call.json:
        output.as_json(answer)
    else:
        output.say(answer["note"] or f"recorded at {answer['seq']}")
    return 0


def why(task: str, *, call: CallOptions = DEFAULTS) -> int:
    """Say why a task does not run now: all reasons together.

    Parameters
    ----------
    task
        The task's id, a unique beginning of it, or ``@last``.
    """
    found = open_api(call.settings()).get(f"/api/tasks/{task}/why")
    if call.json:
        output.as_json(found)
        return 0
    print(f"{found['task_id']} is {found['status']}:")
    for reason in found["reasons"]:
        print(f"  {reason['text']} ({reason['code']})")
    return 0
