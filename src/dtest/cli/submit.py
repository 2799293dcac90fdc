"""``dtest submit``: task documents from a file or standard input, or one command."""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
from cyclopts import Parameter

from dtest.caller.api_client import ApiClient
from dtest.caller.cell import ship_tree
from dtest.caller.recipes import recipe_of
from dtest.caller.unmatched import unmatched_of
from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.following import WAIT_S, follow_output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.shipping import tell_shipped
from dtest.cli.watching import UNMATCHED_EVERY_S, Patience, concluded, watch_run
from dtest.errors import TimedOut, UsageError
from dtest.events.config import CONFIGS
from dtest.settings import parse_labels
from dtest.wording import counted

REFUSED = 2


def submit(  # noqa: PLR0913 - one option each
    *file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    name: str = "run",
    wait: Annotated[bool, Parameter(negative="")] = False,
    timeout: float | None = None,
    fail_unmatched: Annotated[bool, Parameter(negative="")] = False,
    idempotency_key: str | None = None,
    ship: Annotated[bool, Parameter(negative="")] = False,
    root: Annotated[Path | None, Parameter(name=["--root", "-C"])] = None,
    environment: str | None = None,
    hardware: Annotated[list[str] | None, Parameter(negative="")] = None,
    priority: int | None = None,
    timeout_seconds: float | None = None,
    retries: int | None = None,
    label: Annotated[list[str] | None, Parameter(negative="")] = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Submit task documents: one JSON object, an array, JSON Lines, or ``{"tasks": [...]}``.

    Or, behind `--`, one command, whose output is shown with --wait. With --ship the tasks run in a
    copy of this directory.

    Examples: `dtest submit task.json --wait` · `make-tasks | dtest submit - --json` ·
    `dtest submit --ship --wait --hardware cuda -- make test`

    Parameters
    ----------
    file
        The file, or `-` for standard input; or, behind `--`, what to run.
    name
        Name of the run.
    wait
        Wait until the run ends; the exit code says how it went, or 2 if a task was refused.
    timeout
        Longest wait in seconds; then the exit code is 6, or 8 if no worker can ever run the rest.
    fail_unmatched
        With --wait: end at once with exit code 8 when a task waits that no worker could ever run.
    idempotency_key
        The same key again submits nothing again.
    ship
        Bring the files of this directory to the cell, as `dtest ship` does, and run tasks in it.
    root
        Ship this directory.
    environment
        The environment of the tasks that name none, as JSON: `{"files": ["requirements.txt"]}`.
    hardware
        Of a command: a kind of hardware that will do; may be repeated, the preferred one first.
    priority
        Of a command: lower is more urgent, by default 5.
    timeout_seconds
        Of a command: how long one attempt may take.
    retries
        Of a command: how often it is run again if it fails.
    label
        Of a command: NAME=VALUE; may be repeated.
    """
    body, is_command = _body(list(file))
    wished = {
        "requirements": {"hardware": hardware} if hardware else None,
        "priority": priority,
        "timeout_seconds": timeout_seconds,
        "retry_policy": {"max_retries": retries} if retries is not None else None,
        "labels": parse_labels(label) if label else None,
    }
    stated = {key: value for key, value in wished.items() if value is not None}
    if is_command:
        body["tasks"][0].update(stated)
    elif stated:
        message = f"{', '.join(sorted(stated))} stand in the documents of tasks"
        raise UsageError(message, hint="options for one task need its command behind `--`")
    body.setdefault("name", name)
    if root is not None and not ship:
        message = "--root says what to ship, and nothing is"
        raise UsageError(message, hint="add --ship")
    recipe = recipe_of(environment)
    api = open_api(call.settings())
    workspace = (
        ship_tree(api, root or Path.cwd(), paths=[], tell=tell_shipped).digest if ship else None
    )
    _complete(body["tasks"], {"workspace": workspace, "environment": recipe})
    answer = api.submit(body, key=idempotency_key)
    refused = [task for task in answer["tasks"] if task["status"] == "refused"]
    if call.json:
        output.as_json(answer)
    else:
        output.say(
            f"run {answer['run_id']}: {counted(len(answer['tasks']), 'task')}, at {answer['seq']}"
        )
        for task in refused:
            output.say(f"  refused {task['task_id']}: {task['code']}: {task['detail']}")
        for note, count in Counter(
            task["note"] for task in answer["tasks"] if task["note"]
        ).items():
            output.say(f"  {counted(count, 'task')}: {note}")
        for task in [] if wait else answer["tasks"]:
            print(task["task_id"])
    if not wait:
        return REFUSED if refused else 0
    patience = Patience(timeout, fail_unmatched)
    is_shown = is_command and not (call.json or refused)
    if is_shown:
        _show_output(lambda: open_api(call.settings()), answer, patience)
    run = watch_run(
        api, answer["run_id"], after=answer["seq"], patience=patience, as_json=call.json or is_shown
    )
    if call.json:
        output.as_json(run)
    code = concluded(api, run, quiet=call.json)
    if is_shown and code:
        task = api.get(f"/api/tasks/{answer['tasks'][0]['task_id']}")
        why = f", {task['reason']}" if task["reason"] else ""
        output.say(f"`dtest task show {task['task_id']}`: {task['status']}{why}")
    return REFUSED if refused else code


def _show_output(
    connect: Callable[[], ApiClient], answer: dict[str, Any], patience: Patience
) -> None:
    """Write the output of a command as it comes.

    Raises TimedOut, or NoWorkerMatches when that is why nothing comes.
    """
    api, (task,) = connect(), answer["tasks"]
    limit_s = patience.wait_s if patience.wait_s is not None else math.inf
    deadline = time.monotonic() + limit_s

    def look() -> float:
        left_s = deadline - time.monotonic()
        if left_s < 0 or patience.fail_unmatched:
            for found in unmatched_of(api, answer["run_id"]):
                raise found.error()
        if left_s < 0:
            message = f"task {task['task_id']} did not end in {limit_s:g} s"
            raise TimedOut(message, hint="it goes on: `dtest task logs --follow` shows it again")
        return min(WAIT_S if not patience.fail_unmatched else UNMATCHED_EVERY_S, left_s)

    api.get(f"/api/runs/{answer['run_id']}", after=answer["seq"])
    follow_output(connect, task["task_id"], attempt=None, to=sys.stdout.buffer, look=look)


def _body(given: list[str]) -> tuple[dict[str, Any], bool]:
    """Return what to submit, and whether it is a command, which stands behind ``--``.

    Raises UsageError.
    """
    words = sys.argv[1:]
    behind = len(words) - words.index("--") - 1 if "--" in words else 0
    files, command = given[: len(given) - behind], given[len(given) - behind :]
    for word in files:
        if word.startswith("-") and word != "-":
            message = f"Unknown option: {word}. A file of this name is given as ./{word}"
            raise UsageError(message, hint="`dtest submit --help`")
    if command and not files:
        return {"tasks": [{"type": "command", "config": {"command": command}}]}, True
    if len(files) == 1 and not command:
        return read_documents(files[0]), False
    message = "one file is needed, or a command behind `--`"
    raise UsageError(
        message, hint="`dtest submit task.json`, or `dtest submit --ship -- make test`"
    )


def _complete(tasks: object, more: dict[str, Any]) -> None:
    """Have tasks of the built-in types say where they run, unless they say it themselves."""
    stated = {key: value for key, value in more.items() if value is not None}
    for task in tasks if isinstance(tasks, list) else []:
        if isinstance(task, dict) and task.get("type") in CONFIGS:
            config = task.setdefault("config", {})
            if isinstance(config, dict):
                task["config"] = {**stated, **config}


def read_documents(file: str) -> dict[str, Any]:
    """Read what was given. Raises UsageError."""
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise UsageError(message) from error
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as whole:
        try:
            content = [orjson.loads(line) for line in text.splitlines() if line.strip()]
        except orjson.JSONDecodeError:
            message = f"{file} is not JSON: {whole}"
            raise UsageError(message, hint="see docs/tasks.md for the form") from whole
    if isinstance(content, dict):
        return content if "tasks" in content else {"tasks": [content]}
    if isinstance(content, list) and content:
        return {"tasks": content}
    message = f"{file} holds no task"
    raise UsageError(message, hint="give an object, or an array of objects")
