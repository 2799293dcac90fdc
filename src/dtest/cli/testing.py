"""``dtest test``: a pytest suite on the workers of a cell."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from dtest.cli import output
from dtest.cli.api_client import ApiClient, open_api
from dtest.cli.local_stack import throw_away_stack
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.runs import every_task
from dtest.cli.suite import Collected, SuiteOptions, collect, task_documents, write_junit
from dtest.cli.watching import exit_code, watch_run
from dtest.errors import UsageError

NOTHING_SELECTED = 5
LISTED_MAX = 50
_ORDER = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")


def test(
    paths: list[str] | None = None,
    /,
    *,
    workers: int = 2,
    python: str | None = None,
    junit: Path | None = None,
    keyword: Annotated[str | None, Parameter(name=["--keyword", "-k"])] = None,
    marker: Annotated[str | None, Parameter(name=["--marker", "-m"])] = None,
    timeout: float | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Run a pytest suite: in the running cell, or in one that lives for this call.

    Every test gets one verdict; a test that takes its process down is named and the rest runs on.

    Examples: `dtest test tests/` · `dtest test --workers 4 --python .venv/bin/python --junit r.xml`

    Parameters
    ----------
    paths
        Files, directories or node ids; by default what pytest's own settings say.
    workers
        Agents of a cell that lives for this call; a running cell has its own.
    python
        Interpreter of the environment that holds the tested project.
    junit
        Write a JUnit XML report to this file.
    keyword
        Only tests whose names match the expression.
    marker
        Only tests whose markers match the expression.
    timeout
        Longest wait for the whole run in seconds; then the exit code is 6.
    """
    extra = [*(("-k", keyword) if keyword else ()), *(("-m", marker) if marker else ())]
    interpreter = _interpreter(python)
    options = SuiteOptions(Path.cwd(), interpreter, tuple(extra))
    found = collect(paths or [], options)
    if not found.files:
        output.say("no tests ran: pytest found none")
        return NOTHING_SELECTED
    if not call.json:
        broken = f", {len(found.broken)} could not be collected" if found.broken else ""
        output.say(f"{found.tests} tests in {len(found.files)} files{broken}")
    with _cell(call, workers) as api:
        run, cases = _run(api, found, paths or [], options, wait_s=timeout, as_json=call.json)
        tasks = every_task(api, run["run_id"])
    if junit is not None:
        write_junit(junit, run, cases)
    return _tell(run, cases, tasks, as_json=call.json)


def _interpreter(python: str | None) -> str:
    if python is None:
        return sys.executable
    found = shutil.which(python)
    if found is None:
        message = f"{python} is not an interpreter"
        raise UsageError(message, hint="give the path of the environment's python")
    return str(Path(found).absolute())


@contextmanager
def _cell(call: CallOptions, workers: int) -> Iterator[ApiClient]:
    settings = call.settings()
    if settings.get("api_url"):
        yield open_api(settings)
        return
    with throw_away_stack(workers=workers, slots=1) as own:
        yield open_api(own)


def _run(
    api: ApiClient,
    found: Collected,
    paths: list[str],
    options: SuiteOptions,
    *,
    wait_s: float | None,
    as_json: bool,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    active = int(api.get("/api/status")["workers"].get("active", 0))
    documents = task_documents(found, paths, options, workers=max(1, active))
    name = options.cwd.name or "tests"
    answer = api.post("/api/tasks/submit", {"name": name, "tasks": documents})
    try:
        run = watch_run(api, answer["run_id"], after=answer["seq"], wait_s=wait_s, as_json=as_json)
    except KeyboardInterrupt:
        api.post(f"/api/runs/{answer['run_id']}/cancel", {"reason": "interrupted"})
        raise
    return run, verdicts(api, answer["run_id"])


def verdicts(api: ApiClient, run_id: str) -> list[dict[str, Any]]:
    """Return the one verdict of each test case of a run: that of its last attempt."""
    latest: dict[str, dict[str, Any]] = {}
    cursor: str | None = None
    while True:
        page = api.get("/api/testcases", run_id=run_id, limit=1000, cursor=cursor)
        for case in page["items"]:
            known = latest.get(case["nodeid"])
            if known is None or case["attempt"] > known["attempt"]:
                latest[case["nodeid"]] = case
        cursor = page["next"]
        if cursor is None:
            return list(latest.values())


def _tell(
    run: dict[str, Any],
    cases: list[dict[str, Any]],
    tasks: list[dict[str, Any]],
    *,
    as_json: bool,
) -> int:
    counts = Counter(str(case["outcome"]) for case in cases)
    faults = [task for task in tasks if task["status"] not in ("passed", "failed")]
    code = NOTHING_SELECTED if not cases and not faults else exit_code(run)
    if as_json:
        keys = ("nodeid", "outcome", "phase", "duration_s", "message", "file", "line", "worker_id")
        listed = [{key: case[key] for key in keys} for case in cases]
        output.as_json(
            {
                "run_id": run["run_id"],
                "counts": dict(counts),
                "testcases": listed,
                "faults": [
                    {key: task[key] for key in ("task_id", "name", "status", "reason")}
                    for task in faults
                ],
                "exit_code": code,
            }
        )
        return code
    for case in [case for case in cases if case["outcome"] in ("failed", "error")][:LISTED_MAX]:
        if case["output"]:
            output.say(f"\n--- {case['outcome'].upper()} {case['nodeid']}")
            output.say(case["output"])
    for task in faults:
        output.say(f"{task['name']}: {task['status']}, {task['reason']}")
    shown = [f"{counts[name]} {name}" for name in _ORDER if counts[name]]
    print(", ".join(shown) or "no tests ran")
    return code
