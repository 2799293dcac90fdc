"""``dtest test``: a suite of tests on the workers of a cell."""

import os
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dtest.cli import output
from dtest.cli.api_client import ApiClient, open_api
from dtest.cli.cell_memory import CellMemory
from dtest.cli.fleet import fleet_of, is_remote
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.recipes import recipe_of
from dtest.cli.reports import known_flaky_tests, write_report
from dtest.cli.suite import shown
from dtest.cli.suite_history import HistoryFile
from dtest.cli.suite_lots import Planner, Share, kinds_of, lanes_of, refuse_unmatched
from dtest.cli.suite_options import (
    EVERYTHING,
    NO_FILES,
    UNBOUND,
    Bounds,
    ReportFiles,
    Selection,
)
from dtest.cli.suite_run import RunEnd, SuitePlace, SuiteRun
from dtest.cli.suite_runner import PYTEST_RUNS, RunnerOptions
from dtest.cli.suite_settings import SuiteSettings, suite_settings
from dtest.errors import NOTHING_SELECTED, DtestError, TooManyFailures, UsageError
from dtest.settings import Settings
from dtest.suites.requirement import in_words, parse_on

INTERRUPTED = 130


def test(  # noqa: PLR0913 - one option each
    paths: list[str] | None = None,
    /,
    *,
    workers: int | None = None,
    python: str | None = None,
    on: str | None = None,
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

    Tests that a mark or `[[tool.dtest.requirements]]` gives requirements run where these are met;
    `[tool.dtest.test]` holds defaults of workers, python, environment, on, test_timeout,
    memory_limit and reruns.

    Examples: `dtest test tests/` · `dtest test --on "cuda | rocm" --html matrix.html` ·
    `dtest test --workers 4 --python .venv/bin/python` ·
    `dtest test --runner "node --test --test-reporter=junit tests/"`

    Parameters
    ----------
    paths
        Files, directories or node ids; by default what pytest's own settings say. For another
        runner what that takes: programs, build directories, packages.
    workers
        How many test sessions run at once, of each requirement and class of hardware: by default
        one for each slot of the running cell's workers that can run them, or for each processor
        where the cell lives for this call only.
    on
        Run the suite once for each class of hardware, as `"cuda | rocm"`; within one, `&` joins
        what a machine must have: `"cuda & min_device_memory_gb=24 | cpu & browser=firefox"`.
    python
        Interpreter of the environment that holds the tested project, on each worker.
    ship
        Bring the files of this directory to the workers, as `dtest ship` does; `--no-ship` where
        they see the same files. By default if a worker is on another machine.
    environment
        Build the interpreter's environment on each worker by this recipe, as JSON:
        `{"files": ["requirements.txt"]}`; pytest is to be in it.
    """
    settings = call.settings()
    given = suite_settings(settings)
    workers = given.workers if workers is None else workers
    if workers is not None and workers < 1:
        message = f"--workers is {workers}; at least 1 is needed"
        raise UsageError(message)
    bounds = given.bounded(bounds)
    bounds.check()
    reports.check()
    by = runner.chosen(selection, python=python)
    by.check_paths(tuple(paths or ()))
    workers = 1 if by.is_single else workers
    on = given.on if on is None else on
    classes = parse_on(on) if on is not None else ()
    flaky = known_flaky_tests(reports.known_flaky)
    python, recipe = environment_of(python, recipe_of(environment), given)
    kept = HistoryFile(Path.cwd())
    with cell_of(settings, workers) as api:
        fleet = fleet_of(api)
        queue = f"q{uuid.uuid4().hex}"
        lanes = lanes_of(classes, given.rules, fleet, queue=queue, sessions=workers)
        for lane in lanes:
            if lane.why_not:
                output.say(f"{lane.name}: {lane.why_not}")
        if bounds.fail_unmatched:
            refuse_unmatched((lane.name, lane.why_not) for lane in lanes)
        run = SuiteRun(api, Path.cwd().name or "tests", flaky, as_json=call.json)
        shipped = is_remote(fleet) if ship is None else ship
        place = SuitePlace(
            "." if shipped else str(Path.cwd()),
            interpreter_of(python, is_here=not shipped)
            if recipe is None and by.uses_python
            else None,
            by.arguments(selection),
            shipped_here(api) if shipped else None,
            recipe,
            by.document,
        )
        run.start(place, paths or [], bounds, lanes)
        past = CellMemory(api, run.name, kinds_of(lanes), kept=kept)
        try:
            found = [suite and by.selected(suite, selection) for suite in run.collected(bounds)]
            planner = Planner(given.rules, selection, past, fleet, workers)
            shares = planner.shares(lanes, found)
            if bounds.fail_unmatched:
                refuse_unmatched(
                    (each.nodeid, each.cause) for s in shares for each in s.unrun if each.applies
                )
        except BaseException as error:
            run.stop(reason=type(error).__name__)
            raise
        if all(share.suite.is_empty for share in shares):
            run.stop(reason="no tests")
            output.say(f"no tests ran: {by.name} found none")
            return NOTHING_SELECTED
        if not call.json:
            _tell_plan(shares)
        end = run.carry(shares, bounds)
    kept.add(end.report)
    return _concluded(end, reports, as_json=call.json)


def environment_of(
    python: str | None, recipe: dict[str, Any] | None, given: SuiteSettings
) -> tuple[str | None, dict[str, Any] | None]:
    """Return interpreter or recipe: by the command line, else by the settings.

    Raises UsageError.
    """
    if recipe is not None and python is not None:
        message = "--python and --environment each name an interpreter"
        raise UsageError(message, hint="leave out one of them")
    if python is None and recipe is None:
        return given.python, given.environment
    return python, recipe


def _tell_plan(shares: Sequence[Share]) -> None:
    """Tell how much there is, and what of it asks for machines of its own."""
    for share in shares:
        suite, name = share.suite, share.lane.name
        output.say(f"{name}: {shown(suite)}" if name else shown(suite))
        for lot in share.lots:
            if lot.is_early:
                output.say(f"  {len(lot.nodeids)} ask for {in_words(lot.requirements)}")
        elsewhere = sum(not each.applies for each in share.unrun)
        if elsewhere:
            output.say(f"  {elsewhere} are not for {name or 'these machines'}")
        for cause, count in Counter(each.cause for each in share.unrun if each.applies).items():
            if cause != share.lane.why_not:
                output.say(f"  {count} cannot run: {cause}")


def _concluded(end: RunEnd, reports: ReportFiles, *, as_json: bool) -> int:
    """Tell what the run came to, write the reports, and return the exit code."""
    from dtest.cli.suite_end import as_document, tell

    code = _code(end)
    report = replace(end.report, exit_code=code)
    if as_json:
        output.as_json(as_document(report, end))
    else:
        tell(report, end, durations=reports.durations)
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


def shipped_here(api: ApiClient) -> str:
    """Ship the tree of this directory; return its name. Raises as ``ship_tree``."""
    from dtest.cli.shipping import ship_tree

    return ship_tree(api, Path.cwd(), paths=[]).digest


@contextmanager
def cell_of(settings: Settings, workers: int | None) -> Iterator[ApiClient]:
    """Open the running cell, or one that lives as long as the block."""
    if settings.get("api_url"):
        yield open_api(settings)
        return
    from dtest.cli.local_stack import throw_away_stack

    with throw_away_stack(workers=1, slots=workers or os.cpu_count() or 1) as own:
        yield open_api(own)
