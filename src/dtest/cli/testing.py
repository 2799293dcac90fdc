"""``dtest test``: a pytest suite on the workers of a cell."""

import os
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
from dtest.cli.suite import Collecting, SuiteOptions, write_junit
from dtest.cli.suite_run import RunEnd, SessionOptions, SuiteRun, usual_sessions
from dtest.cli.watching import Patience, exit_code
from dtest.errors import DtestError, UsageError
from dtest.suites.history import History

NOTHING_SELECTED = 5
INTERRUPTED = 130
LISTED_MAX = 50
_ORDER = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")


def test(  # noqa: PLR0913 - one option each
    paths: list[str] | None = None,
    /,
    *,
    workers: int | None = None,
    python: str | None = None,
    junit: Path | None = None,
    keyword: Annotated[str | None, Parameter(name=["--keyword", "-k"])] = None,
    marker: Annotated[str | None, Parameter(name=["--marker", "-m"])] = None,
    timeout: float | None = None,
    test_timeout: float | None = None,
    memory_limit: float | None = None,
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
        How many test sessions run at once: by default one for each slot of the running cell's
        workers, or for each processor where the cell lives for this call only.
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
    test_timeout
        Longest time of one test in seconds: it is ended and named, the others run on.
    memory_limit
        Most memory of a session in GB (10^9 bytes): the test that runs then is ended and named.
    fail_unmatched
        Cancel the run with exit code 8 when a task waits that no worker could ever run.
    """
    _check(workers, junit)
    extra = [*(("-k", keyword) if keyword else ()), *(("-m", marker) if marker else ())]
    options = SuiteOptions(Path.cwd(), _interpreter(python), tuple(extra))
    bounds = SessionOptions(test_timeout, memory_limit)
    with Collecting(paths or [], options) as collecting, _cell(call, workers) as api:
        sessions = workers or usual_sessions(api)
        run = SuiteRun(api, Path.cwd().name or "tests", paths or [])
        run.start(options, bounds, sessions=sessions)
        end = _run(run, collecting, sessions, _Wanted(timeout, fail_unmatched, call.json))
    if end is None:
        output.say("no tests ran: pytest found none")
        return NOTHING_SELECTED
    code = _tell(end, as_json=call.json)
    if junit is not None:
        write_junit(junit, end.run, end.cases, end.faults)
    if end.cut is not None:
        raise end.cut
    return code


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How long to wait, for what not, and what to show."""

    timeout_s: float | None
    fail_unmatched: bool
    as_json: bool


def _run(run: SuiteRun, collecting: Collecting, sessions: int, wanted: _Wanted) -> RunEnd | None:
    """Fill the queue with what was collected and watch the run; none if there is nothing."""
    started = time.monotonic()
    try:
        found = collecting.result(wait_s=wanted.timeout_s)
        units = found.units(History(), sessions=sessions)
        if units:
            run.fill(units)
    except BaseException as error:
        run.stop(reason=type(error).__name__)
        raise
    if not units:
        run.stop(reason="no tests")
        return None
    if not wanted.as_json:
        broken = f", {len(found.broken)} could not be collected" if found.broken else ""
        output.say(f"{len(found.tests)} tests in {len(found.files)} files{broken}")
    left_s = wanted.timeout_s
    if left_s is not None:
        left_s = max(0.0, left_s - (time.monotonic() - started))
    return run.watch(Patience(left_s, wanted.fail_unmatched), as_json=wanted.as_json)


def _code(end: RunEnd) -> int:
    match end.cut:
        case None if not end.faults and all(map(_skips_itself, end.cases)):
            return NOTHING_SELECTED
        case None:
            return exit_code(end.run)
        case DtestError() as error:
            return error.exit_code
        case SystemExit(code=int(code)):
            return code
        case _:
            return INTERRUPTED


def _skips_itself(case: dict[str, Any]) -> bool:
    """Say whether this is a whole file, none of whose tests was collected."""
    return bool(case["outcome"] == "skipped" and case["phase"] == "collect")


def _check(workers: int | None, junit: Path | None) -> None:
    """Raise UsageError before anything runs."""
    if workers is not None and workers < 1:
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
def _cell(call: CallOptions, workers: int | None) -> Iterator[ApiClient]:
    settings = call.settings()
    if settings.get("api_url"):
        yield open_api(settings)
        return
    with throw_away_stack(workers=1, slots=workers or os.cpu_count() or 1) as own:
        yield open_api(own)


def _tell(end: RunEnd, *, as_json: bool) -> int:
    code = _code(end)
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
                "exit_code": code,
            }
        )
        return code
    for case in [case for case in end.cases if case["outcome"] in ("failed", "error")][:LISTED_MAX]:
        if case["output"]:
            output.say(f"\n--- {case['outcome'].upper()} {case['nodeid']}")
            output.say(case["output"])
    for task in end.faults:
        output.say(f"{task['name']}: {task['status']}, {task['reason']}")
    shown = [f"{counts[name]} {name}" for name in _ORDER if counts[name]]
    print(", ".join(shown) or "no tests ran")
    return code
