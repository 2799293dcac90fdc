"""``dtest test``: a suite of tests on the workers of a cell."""

from typing import Any

from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.recipes import recipe_of
from dtest.cli.reports import known_flaky_tests
from dtest.cli.suite_cell import cell_of
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
from dtest.cli.suite_settings import SuiteSettings, suite_settings
from dtest.errors import UsageError
from dtest.suites.requirement import parse_on


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
    wanted = SuiteCommand(
        paths=paths or (),
        workers=workers,
        python=python,
        recipe=recipe,
        ship=ship,
        classes=classes,
        rules=given.rules,
        flaky=flaky,
        by=by,
        selection=selection,
        bounds=bounds,
        reports=reports,
        as_json=call.json,
    )
    with cell_of(settings, workers, meanwhile=_load) as api:
        from dtest.cli.suite_conduct import conduct

        return conduct(api, wanted)


def _load() -> None:
    """Load what runs a suite."""
    import dtest.cli.suite_conduct  # noqa: F401 - for whoever imports it next


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
