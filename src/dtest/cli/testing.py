"""``dtest test``: a pytest suite on the workers of a cell."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from dtest.cli import output
from dtest.cli.api_client import ApiClient, open_api
from dtest.cli.local_stack import throw_away_stack
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.runs import every_task
from dtest.cli.suite import SuiteOptions, collect, task_documents, write_junit
from dtest.cli.watching import Patience, exit_code, watch_run
from dtest.errors import DtestError, NoWorkerMatches, TimedOut, UsageError

NOTHING_SELECTED = 5
INTERRUPTED = 130
STOP_S_MAX = 20.0
"""How long the run may take to end once it is cancelled."""
LISTED_MAX = 50
_VERDICTS = ("passed", "failed")
_ORDER = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")


def test(  # noqa: PLR0913 - one option each
    paths: list[str] | None = None,
    /,
    *,
    workers: int = 2,
    python: str | None = None,
    junit: Path | None = None,
    keyword: Annotated[str | None, Parameter(name=["--keyword", "-k"])] = None,
    marker: Annotated[str | None, Parameter(name=["--marker", "-m"])] = None,
    timeout: float | None = None,
    fail_unmatched: Annotated[bool, Parameter(negative="")] = False,
    call: CallOptions = DEFAULTS,
) -> int:
    """Run a pytest suite: in the running cell, or in one that lives for this call.

    Every test gets one verdict; a test that takes its process down is named and the rest runs on.
    Ctrl-C cancels the run, ends its processes and tells what is known.

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
        Longest wait for the whole run in seconds; then the run is cancelled and the exit code is
        6, or 8 if no worker can ever run the rest.
    fail_unmatched
        Cancel the run with exit code 8 when a task waits that no worker could ever run.
    """
    _check(workers, junit)
    started = time.monotonic()
    extra = [*(("-k", keyword) if keyword else ()), *(("-m", marker) if marker else ())]
    interpreter = _interpreter(python)
    options = SuiteOptions(Path.cwd(), interpreter, tuple(extra))
    found = collect(paths or [], options, wait_s=timeout)
    if not found.files:
        output.say("no tests ran: pytest found none")
        return NOTHING_SELECTED
    if not call.json:
        broken = f", {len(found.broken)} could not be collected" if found.broken else ""
        output.say(f"{found.tests} tests in {len(found.files)} files{broken}")
    with _cell(call, workers) as api:
        left_s = None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
        documents = task_documents(found, paths or [], options, workers=_active(api))
        end = _run(api, documents, Patience(left_s, fail_unmatched), as_json=call.json)
    code = _tell(end, as_json=call.json)
    if junit is not None:
        write_junit(junit, end.run, end.cases, end.faults)
    if end.cut is not None:
        raise end.cut
    return code


@dataclass(frozen=True, slots=True)
class _End:
    """What is known of the run, and what cut it short if something did."""

    run: dict[str, Any]
    cases: list[dict[str, Any]]
    faults: list[dict[str, Any]]
    """Tasks that came to no verdict."""
    cut: BaseException | None = None

    @property
    def code(self) -> int:
        """The exit code."""
        match self.cut:
            case None if not self.faults and all(map(_skips_itself, self.cases)):
                return NOTHING_SELECTED
            case None:
                return exit_code(self.run)
            case DtestError() as error:
                return error.exit_code
            case SystemExit(code=int(code)):
                return code
            case _:
                return INTERRUPTED


def _skips_itself(case: dict[str, Any]) -> bool:
    """Say whether this is a whole file, none of whose tests was collected."""
    return bool(case["outcome"] == "skipped" and case["phase"] == "collect")


def _check(workers: int, junit: Path | None) -> None:
    """Raise UsageError before anything runs."""
    if workers < 1:
        message = f"--workers is {workers}; at least 1 is needed"
        raise UsageError(message)
    if junit is not None and (junit.is_dir() or not junit.absolute().parent.is_dir()):
        message = f"--junit {junit} cannot be written"
        raise UsageError(message, hint="give a file in a directory that exists")


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


def _active(api: ApiClient) -> int:
    return max(1, int(api.get("/api/status")["workers"].get("active", 0)))


def _run(
    api: ApiClient, documents: list[dict[str, Any]], patience: Patience, *, as_json: bool
) -> _End:
    name = Path.cwd().name or "tests"
    answer = api.submit({"name": name, "tasks": documents})
    cut: BaseException | None = None
    try:
        run = watch_run(
            api, answer["run_id"], after=answer["seq"], patience=patience, as_json=as_json
        )
    except (KeyboardInterrupt, SystemExit, TimedOut, NoWorkerMatches) as error:
        cut = error
        run = _stopped(api, answer["run_id"], reason=type(error).__name__)
    cases = verdicts(api, run["run_id"])
    faults = [task for task in every_task(api, run["run_id"]) if task["status"] not in _VERDICTS]
    return _End(run, cases, faults, cut)


def _stopped(api: ApiClient, run_id: str, *, reason: str) -> dict[str, Any]:
    """Cancel a run and wait for its processes to end; return the run as it is then."""
    output.say("cancelling the run")
    seq = api.post(f"/api/runs/{run_id}/cancel", {"reason": reason})["seq"]
    try:
        return watch_run(api, run_id, after=seq, patience=Patience(STOP_S_MAX), as_json=True)
    except (TimedOut, NoWorkerMatches):
        return api.get(f"/api/runs/{run_id}")


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


def _tell(end: _End, *, as_json: bool) -> int:
    counts = Counter(str(case["outcome"]) for case in end.cases)
    if as_json:
        keys = ("nodeid", "outcome", "phase", "duration_s", "message", "file", "line", "worker_id")
        listed = [{key: case[key] for key in keys} for case in end.cases]
        output.as_json(
            {
                "run_id": end.run["run_id"],
                "counts": dict(counts),
                "testcases": listed,
                "faults": [
                    {key: task[key] for key in ("task_id", "name", "status", "reason")}
                    for task in end.faults
                ],
                "exit_code": end.code,
            }
        )
        return end.code
    for case in [case for case in end.cases if case["outcome"] in ("failed", "error")][:LISTED_MAX]:
        if case["output"]:
            output.say(f"\n--- {case['outcome'].upper()} {case['nodeid']}")
            output.say(case["output"])
    for task in end.faults:
        output.say(f"{task['name']}: {task['status']}, {task['reason']}")
    shown = [f"{counts[name]} {name}" for name in _ORDER if counts[name]]
    print(", ".join(shown) or "no tests ran")
    return end.code
