"""``dtest test``: a suite of tests on the workers of a cell."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dtest.cli import output
from dtest.cli.api_client import ApiClient, open_api
from dtest.cli.cell_memory import CellMemory
from dtest.cli.local_stack import throw_away_stack
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.reports import known_flaky_tests, write_report
from dtest.cli.shipping import ship_tree
from dtest.cli.submit import recipe_of
from dtest.cli.suite import chosen, shown, units_of
from dtest.cli.suite_history import HistoryFile
from dtest.cli.suite_options import (
    EVERYTHING,
    NO_FILES,
    UNBOUND,
    Bounds,
    ReportFiles,
    Selection,
)
from dtest.cli.suite_run import RunEnd, SuitePlace, SuiteRun, is_remote, usual_sessions
from dtest.cli.suite_runner import PYTEST_RUNS, RunnerOptions
from dtest.errors import DtestError, TooManyFailures, UsageError
from dtest.reports.report import NOTHING_SELECTED, Report, title
from dtest.reports.verdicts import BAD, Result, Verdict

INTERRUPTED = 130
LISTED_MAX = 50
SHOWN: tuple[Verdict, ...] = (
    *("failed", "error", "not_proven", "flaky"),
    *("passed", "skipped", "xfailed", "xpassed"),
)
"""The order of the last line."""
HARDWARE = "cpu"
"""What sessions ask for."""


def test(  # noqa: PLR0913 - one option each
    paths: list[str] | None = None,
    /,
    *,
    workers: int | None = None,
    python: str | None = None,
    ship: bool | None = None,
    environment: str | None = None,
    selection: Selection = EVERYTHING,
    runner: RunnerOptions = PYTEST_RUNS,
    bounds: Bounds = UNBOUND,
    reports: ReportFiles = NO_FILES,
    call: CallOptions = DEFAULTS,
) -> int:
    """Run a suite of tests: in the running cell, or in one that lives for this call.

    Every test gets one verdict; a test that takes its process down is named and the rest runs on.
    The suite is collected once and cut into units, longest first; sessions stay and pull them.
    Ctrl-C cancels the run, ends its processes and tells what is known.

    Examples: `dtest test tests/` · `dtest test --workers 4 --python .venv/bin/python` ·
    `dtest test --runner "node --test --test-reporter=junit tests/"`

    Parameters
    ----------
    paths
        Files, directories or node ids; by default what pytest's own settings say. For another
        runner what that takes: programs, build directories, packages.
    workers
        How many test sessions run at once: by default one for each slot of the running cell's
        workers, or for each processor where the cell lives for this call only.
    python
        Interpreter of the environment that holds the tested project, on each worker.
    ship
        Bring the files of this directory to the workers, as `dtest ship` does; `--no-ship` where
        they see the same files. By default if a worker is on another machine.
    environment
        Build the interpreter's environment on each worker by this recipe, as JSON:
        `{"files": ["requirements.txt"]}`; pytest is to be in it.
    """
    if workers is not None and workers < 1:
        message = f"--workers is {workers}; at least 1 is needed"
        raise UsageError(message)
    bounds.check()
    reports.check()
    by = runner.chosen(selection, python=python)
    by.check_paths(tuple(paths or ()))
    flaky = known_flaky_tests(reports.known_flaky)
    recipe = recipe_of(environment)
    if recipe is not None and python is not None:
        message = "--python and --environment each name an interpreter"
        raise UsageError(message, hint="leave out one of them")
    kept = HistoryFile(Path.cwd())
    with cell_of(call, workers) as api:
        sessions = 1 if by.is_single else workers or usual_sessions(api)
        run = SuiteRun(api, Path.cwd().name or "tests", flaky, as_json=call.json)
        shipped = is_remote(api) if ship is None else ship
        place = SuitePlace(
            "." if shipped else str(Path.cwd()),
            interpreter_of(python, is_here=not shipped)
            if recipe is None and by.uses_python
            else None,
            by.arguments(selection),
            ship_tree(api, Path.cwd(), paths=[]).digest if shipped else None,
            recipe,
            by.document,
        )
        run.start(place, paths or [], bounds, sessions=sessions)
        memory = CellMemory(api, run.name, HARDWARE)
        try:
            found = run.collected(bounds)
        except BaseException as error:
            run.stop(reason=type(error).__name__)
            raise
        found = by.selected(found, selection)
        if found.is_empty:
            run.stop(reason="no tests")
            output.say(f"no tests ran: {by.name} found none")
            return NOTHING_SELECTED
        history = kept.load(HARDWARE).completed_by(memory.answer())
        found = chosen(found, selection, history)
        if not call.json:
            output.say(shown(found))
        units = units_of(found, selection, history, sessions=sessions)
        end = run.carry(found, units, bounds)
    kept.add(end.report, HARDWARE)
    return _concluded(end, reports, as_json=call.json)


def _concluded(end: RunEnd, reports: ReportFiles, *, as_json: bool) -> int:
    """Tell what the run came to, write the reports, and return the exit code."""
    code = _code(end)
    report = replace(end.report, exit_code=code)
    if as_json:
        output.as_json(_document(report, end))
    else:
        _tell(report, end, durations=reports.durations)
    for path, form, _ in reports.files:
        write_report(path, form, report)
    if end.cut is not None and not isinstance(end.cut, TooManyFailures):
        raise end.cut
    return code


def _code(end: RunEnd) -> int:
    match end.cut:
        case None:
            return end.report.exit_code
        case DtestError() as error:
            return error.exit_code
        case SystemExit(code=int(code)):
            return code
        case _:
            return INTERRUPTED


def interpreter_of(python: str | None, *, is_here: bool) -> str | None:
    """Return the interpreter; one on other machines, and none stated, is theirs to find."""
    if python is None:
        return sys.executable if is_here else None
    if not is_here:
        return python
    found = shutil.which(python)
    if found is None:
        message = f"{python} is not an interpreter"
        raise UsageError(message, hint="give the path of the environment's python")
    return str(Path(found).absolute())


@contextmanager
def cell_of(call: CallOptions, workers: int | None) -> Iterator[ApiClient]:
    """Open the running cell, or one that lives as long as the block."""
    settings = call.settings()
    if settings.get("api_url"):
        yield open_api(settings)
        return
    with throw_away_stack(workers=1, slots=workers or os.cpu_count() or 1) as own:
        yield open_api(own)


def _document(report: Report, end: RunEnd) -> dict[str, Any]:
    return {
        "run_id": report.run.run_id,
        "counts": report.counts,
        "testcases": [_case(result) for result in report.results],
        "faults": [
            {"task_id": each.task_id, "name": each.name, "status": each.status}
            | {"reason": each.reason}
            for each in end.faults
        ],
        "seconds": round(end.took_s, 3),
        "predicted_seconds": round(end.predicted_s, 3),
        "exit_code": report.exit_code,
    }


def _case(result: Result) -> dict[str, Any]:
    found = result.deciding
    return {
        "nodeid": result.key.nodeid,
        "outcome": result.verdict,
        "phase": found.phase if found is not None else None,
        "duration_s": found.duration_s if found is not None else None,
        "message": found.message if found is not None else result.cause,
        "file": found.file if found is not None else result.key.nodeid.partition("::")[0],
        "line": found.line if found is not None else None,
        "worker_id": found.worker_id if found is not None else None,
        "tries": len(result.observations),
    }


def _tell(report: Report, end: RunEnd, *, durations: int) -> None:
    several = report.is_matrix
    told = [result for result in report.results if result.verdict in BAD]
    for result in told[:LISTED_MAX]:
        if result.bad[-1].output:
            output.say(f"\n--- {result.verdict.upper()} {title(result.key, several=several)}")
            output.say(result.bad[-1].output)
    if len(told) > LISTED_MAX:
        output.say(f"... and {len(told) - LISTED_MAX} more")
    for group in report.groups:
        if len(group.results) > 1:
            output.say(f"{len(group.results)} x {group.signature}")
    for result in report.results:
        if result.verdict in ("flaky", "not_proven"):
            why = f": {result.cause}" if result.cause else ""
            output.say(f"{result.verdict.upper()} {title(result.key, several=several)}{why}")
    for nodeid, entry in sorted(report.muted.items()):
        output.say(f"MUTED {nodeid} until {entry.expires}: {entry.reason}")
    for fault in end.faults:
        output.say(f"{fault.name}: {fault.status}, {fault.reason}")
    timed = [(found.duration_s, result) for result in report.results if (found := result.deciding)]
    for seconds, result in sorted(timed, key=lambda item: -item[0])[:durations]:
        output.say(f"{seconds:8.2f} s  {title(result.key, several=several)}")
    output.say(f"{end.took_s:.2f} s; predicted {end.predicted_s:.2f} s")
    if isinstance(end.cut, TooManyFailures):
        output.say(end.cut.message)
    counts = report.counts
    shown = [f"{counts[name]} {name.replace('_', ' ')}" for name in SHOWN if name in counts]
    print(", ".join(shown) or "no tests ran")
