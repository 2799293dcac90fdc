"""``dtest task`` and ``dtest why``."""

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from dtest.caller.api_client import ApiClient
from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.following import follow_output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.runs import show_items
from dtest.cli.task_view import attempt_lines, show_upright, task_lines
from dtest.errors import UsageError

COLUMNS = ("task_id", "name", "type", "status", "reason", "attempt", "worker_id", "since")
ARTIFACT_COLUMNS = ("attempt", "name", "size_bytes", "sha256")


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

    Example: `dtest task show @last`

    Parameters
    ----------
    task
        The task's id, a unique beginning of it, or ``@last``.
    """
    found = open_api(call.settings()).get(f"/api/results/{task}")
    if call.json:
        output.as_json(found)
        return 0
    show_upright(task_lines(found))
    for attempt in found["attempts"]:
        show_upright(attempt_lines(attempt))
    if found["testcases"]:
        output.table(found["testcases"], ("nodeid", "outcome", "duration_s", "message"))
    return 0


def artifacts(
    task: str,
    *,
    attempt: int | None = None,
    to: Path | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """List the files that a task's attempts left as artefacts, or bring them here.

    Examples: `dtest task artifacts @last` · `dtest task artifacts @last --to results`

    Parameters
    ----------
    task
        The task's id, a unique beginning of it, or ``@last``.
    attempt
        Only those of this attempt.
    to
        Write them below this directory, each attempt in one of its own.
    """
    api = open_api(call.settings())
    shown = api.get(f"/api/tasks/{task}")
    found = [
        {"attempt": each["attempt"], **artifact}
        for each in shown["attempts"]
        for artifact in each["artifacts"] or []
        if attempt in (None, each["attempt"])
    ]
    if to is not None:
        for each in found:
            path = place_within(to / f"attempt-{each['attempt']}", each["name"])
            path.parent.mkdir(parents=True, exist_ok=True)
            where = (
                f"/api/tasks/{shown['task_id']}/artifacts/{each['attempt']}/{quote(each['name'])}"
            )
            path.write_bytes(api.content(where))
            each["path"] = str(path)
    if call.json:
        output.as_json({"task_id": shown["task_id"], "artifacts": found})
        return 0
    if not found:
        output.say(f"task {shown['task_id']} left no artefacts")
        return 0
    output.table(found, (*ARTIFACT_COLUMNS, "path") if to is not None else ARTIFACT_COLUMNS)
    return 0


def place_within(directory: Path, name: str) -> Path:
    """Return where a file of this name lies in a directory. Raises UsageError for one outside."""
    path = (directory / name).resolve()
    if not path.is_relative_to(directory.resolve()):
        message = f"the artefact {name!r} would lie outside of {directory}"
        raise UsageError(message, hint="fetch it by its address in the API")
    return path


def logs(
    task: str,
    *,
    attempt: int | None = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    call: CallOptions = DEFAULTS,
) -> int:
    """Print the output of an attempt, byte for byte.

    Example: `dtest task logs @last --follow`

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

    Example: `dtest task cancel @last --reason "not needed"`

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

    Example: `dtest task retry @last`

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

    Example: `dtest why @last`

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
