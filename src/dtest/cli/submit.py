"""``dtest submit``: task documents from a file or standard input."""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
from cyclopts import Parameter

from dtest.cli import output
from dtest.cli.api_client import open_api
from dtest.cli.options import DEFAULTS, CallOptions, StandardInputOrFile
from dtest.cli.watching import Patience, exit_code, watch_run
from dtest.errors import UsageError

REFUSED = 2


def submit(
    file: StandardInputOrFile,
    *,
    name: str = "run",
    wait: Annotated[bool, Parameter(negative="")] = False,
    timeout: float | None = None,
    fail_unmatched: Annotated[bool, Parameter(negative="")] = False,
    idempotency_key: str | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Submit task documents: one JSON object, an array, JSON Lines, or ``{"tasks": [...]}``.

    Examples: `dtest submit task.json --wait` · `make-tasks | dtest submit - --json`

    Parameters
    ----------
    file
        The file, or ``-`` for standard input.
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
    """
    body = read_documents(file)
    body.setdefault("name", name)
    api = open_api(call.settings())
    answer = api.submit(body, key=idempotency_key)
    refused = [task for task in answer["tasks"] if task["status"] == "refused"]
    if call.json:
        output.as_json(answer)
    else:
        output.say(f"run {answer['run_id']}: {len(answer['tasks'])} tasks, at {answer['seq']}")
        for task in refused:
            output.say(f"  refused {task['task_id']}: {task['code']}: {task['detail']}")
        for task in [] if wait else answer["tasks"]:
            print(task["task_id"])
    if not wait:
        return REFUSED if refused else 0
    patience = Patience(timeout, fail_unmatched)
    run = watch_run(
        api, answer["run_id"], after=answer["seq"], patience=patience, as_json=call.json
    )
    if call.json:
        output.as_json(run)
    return REFUSED if refused else exit_code(run)


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
