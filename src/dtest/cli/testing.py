"""``dtest test``: a suite of tests on the workers of a cell."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dtest.caller.cell import cell_of
from dtest.caller.keeping import at_terminal, in_ci, keep_s_of
from dtest.caller.known_flaky import known_flaky_tests
from dtest.caller.recipes import recipe_of
from dtest.caller.suite_settings import environment_of, suite_settings
from dtest.cli import output
from dtest.cli.door import tell
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.suite_command import SuiteCommand
from dtest.cli.suite_options import (
    EVERYTHING,
    NO_FILES,
    UNBOUND,
    Bounds,
    ReportFiles,
    Selection,
)
from dtest.cli.suite_runner import PYTEST_RUNS, RunnerOptions
from dtest.errors import UsageError
from dtest.settings import Settings
from dtest.suites.requirement import parse_on

if TYPE_CHECKING:
    from dtest.runtime.first_suite import FirstSuite


def test(  # noqa: PLR0913 - one option each
    paths: list[str] | None = None,
    /,
    *,
    workers: int | None = None,
    python: str | None = None,
    on: str | None = None,
    ship: bool | None = None,
    environment: str | None = None,
    detach: Annotated[bool, Parameter(negative="")] = False,
    keep: float | None = None,
    selection: Selection = EVERYTHING,
    runner: RunnerOptions = PYTEST_RUNS,
    bounds: Bounds = UNBOUND,
    reports: ReportFiles = NO_FILES,
    call: CallOptions = DEFAULTS,
) -> int:
    """Run a suite of tests: in the running cell, or in one that lives for this call.

    Every test gets one verdict; a test that takes its process down is named and the rest runs on.
    The suite is collected once and cut into units, longest first; sessions stay and pull them.
    The run is the cell's: a caller that dies leaves a run that ends by itself. Ctrl-C cancels it,
    waits for its processes and tells what is known; a second one leaves at once.

    Tests that a mark or `[[tool.dtest.requirements]]` gives requirements run where these are met;
    `[tool.dtest.test]` holds defaults of workers, python, environment, on, test_timeout,
    memory_limit, reruns and keep.

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
    detach
        Print the id of the run and leave it to the running cell, which carries it to its end:
        `dtest run watch RUN` follows it, `dtest report build RUN` writes its reports.
    keep
        Where no cell is running: let the one that is made for this call stay for so many seconds,
        for the next call in this directory, which starts at once. It ends earlier when settings,
        environment or dtest itself change, and by `dtest down`. 0: use no cell that was kept. The
        default of the settings counts at a terminal only, and not where `CI` is set.
    """
    settings = call.settings()
    given = suite_settings(settings)
    workers = given.workers if workers is None else workers
    if workers is not None and workers < 1:
        message = f"--workers is {workers}; at least 1 is needed"
        raise UsageError(message)
    limits = given.bounded(bounds.limits)
    limits.check()
    reports.check()
    if detach:
        _check_detached(settings, reports)
    by = runner.chosen(selection, python=python)
    paths = [*(paths or ()), *by.paths]
    by.check_paths(tuple(paths))
    workers = 1 if by.is_single else workers
    on = given.on if on is None else on
    if on is not None:
        parse_on(on)
    flaky = known_flaky_tests(reports.known_flaky, output.say)
    python, recipe = environment_of(python, recipe_of(environment), given)
    wanted = SuiteCommand(
        paths=paths,
        workers=workers,
        python=python,
        recipe=recipe,
        ship=ship,
        on=on or "",
        rules=given.written_rules,
        flaky=flaky,
        by=by,
        selection=selection,
        limits=limits,
        reports=reports,
        detach=detach,
        as_json=call.json,
    )
    keep_s = keep_s_of(keep, given.keep, is_watched=at_terminal() and not in_ci())
    first = None if ship else partial(_first, wanted)
    with cell_of(settings, workers, keep_s=keep_s, first=first, tell=tell) as cell:
        from dtest.cli.suite_call import conduct

        return conduct(cell, wanted)


def _first(wanted: SuiteCommand) -> "FirstSuite":
    """Return what a cell that is made for the call begins with."""
    from dtest.cli.suite_call import first_suite

    return first_suite(wanted)


def _check_detached(settings: Settings, reports: ReportFiles) -> None:
    """Raise UsageError where nobody would carry the run on, or write what is asked for."""
    if not settings.get("api_url"):
        message = "--detach needs a cell that stays, and none is running"
        raise UsageError(message, hint="start one with `dtest up`")
    written = next((option for _, _, option in reports.files), None)
    if written is not None:
        message = f"{written} is written at the end, which --detach does not wait for"
        raise UsageError(message, hint="`dtest report build RUN` writes it later")
