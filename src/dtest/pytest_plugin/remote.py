"""The tests of one call of pytest in a cell: what ``--dtest`` puts in the place of a test loop."""

import io
import os
import shlex
import uuid
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from dtest.cli.api_client import ApiClient
from dtest.cli.cell_memory import CellMemory, Past
from dtest.cli.fleet import fleet_of, for_suites, is_remote
from dtest.cli.gathering import fresh_observations
from dtest.cli.options import CallOptions
from dtest.cli.recipes import recipe_of
from dtest.cli.reports import known_flaky_tests
from dtest.cli.suite_cell import cell_of, interpreter_of, shipped_here
from dtest.cli.suite_history import HistoryFile
from dtest.cli.suite_lots import Planner, kinds_of, lanes_of
from dtest.cli.suite_options import Bounds, Selection
from dtest.cli.suite_run import RunEnd, SuitePlace, SuiteRun, keys_of
from dtest.cli.suite_settings import suite_settings
from dtest.cli.testing import environment_of
from dtest.errors import (
    DtestError,
    SuiteStopped,
    TimedOut,
    TooManyFailures,
    Unavailable,
    UsageError,
)
from dtest.pytest_plugin import invocation
from dtest.pytest_plugin.feeding import Feeding
from dtest.pytest_plugin.reports import FLAKY, NOT_PROVEN
from dtest.reports.report import FAILED, STOPPED
from dtest.reports.report import NOT_PROVEN as GATE_NOT_PROVEN
from dtest.suites.history import History

EXIT_NOT_PROVEN = 7
"""No test failed, but some could not be run. Neither pytest nor dtest means anything else by it."""
WORDS = "PYTEST_ADDOPTS"


def activate(config: pytest.Config) -> None:
    """Let this call run its tests in a cell. Raises pytest's UsageError for what cannot be."""
    refused = invocation.refusals(lambda name: config.getoption(name, None))
    if refused:
        told = (f"{each.option} does not go with --dtest: {each.why}" for each in refused)
        raise pytest.UsageError("; ".join(told))
    try:
        config.pluginmanager.register(RemoteTests(config), "dtest-remote")
    except UsageError as error:
        raise pytest.UsageError(_worded(error)) from error


def _worded(error: DtestError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


class RemoteTests:
    """The hooks that collect nothing here, run everything there, and tell what became of it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._terminal: Any = None
        self._end: RunEnd | None = None
        self._handed = _handed_on(config)
        option = config.getoption
        state = option("dtest_state_dir")
        self._settings = CallOptions(
            cell=option("dtest_cell"),
            api=option("dtest_api"),
            state_dir=Path(state) if state else None,
        ).settings()
        given = suite_settings(self._settings)
        self._rules = given.rules
        self._bounds = given.bounded(
            Bounds(
                timeout=option("dtest_timeout"),
                test_timeout=option("dtest_test_timeout"),
                memory_limit=option("dtest_memory_limit"),
                maxfail=option("maxfail") or None,
                reruns=option("dtest_reruns"),
            )
        )
        self._bounds.check()
        stated: int | None = option("dtest_workers")
        self._workers = given.workers if stated is None else stated
        if self._workers is not None and self._workers < 1:
            message = f"--dtest-workers is {self._workers}; at least 1 is needed"
            raise UsageError(message)
        self._python, self._recipe = environment_of(
            option("dtest_python"), recipe_of(option("dtest_environment")), given
        )
        listed = config.getoption("dtest_known_flaky")
        self._flaky = known_flaky_tests(Path(listed) if listed else None)
        self._feeding = Feeding(config, self._flaky, reruns=bool(self._bounds.reruns))

    # -- instead of collecting and running here ---------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Collect nothing: a session in the cell does."""
        session.items = []
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the suite and tell pytest of every test."""
        self._terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if self._terminal is not None:
            self._terminal.showfspath = False  # tests of several files come side by side
        try:
            with redirect_stderr(_Lines(self._line)), _words_taken(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what dtest does is no matter of the suite
                end = self._run(session)
        except UsageError as error:
            raise pytest.UsageError(_worded(error)) from error
        except DtestError as error:
            pytest.exit(_worded(error), returncode=error.exit_code)
        self._end = end
        if end is None:
            return True
        if isinstance(end.cut, SuiteStopped):
            pytest.exit(end.cut.message, returncode=int(pytest.ExitCode.INTERRUPTED))
        if end.cut is not None and not isinstance(end.cut, TooManyFailures):
            if isinstance(end.cut, DtestError):
                pytest.exit(_worded(end.cut), returncode=end.cut.exit_code)
            raise end.cut
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        return True

    def _run(self, session: pytest.Session) -> RunEnd | None:
        here = Path.cwd()
        kept = HistoryFile(here)
        with cell_of(self._settings, self._workers) as api:
            fleet = for_suites(fleet_of(api))
            queue = f"q{uuid.uuid4().hex}"
            lanes = lanes_of((), self._rules, fleet, queue=queue, sessions=self._workers)
            run = SuiteRun(api, here.name or "tests", self._flaky, as_json=True)
            run.news = _News(api, run, self._feeding).look
            ship: bool | None = self._config.getoption("dtest_ship")
            place = self._place(api, shipped=is_remote(fleet) if ship is None else ship)
            run.start(place, self._handed.paths, self._bounds, lanes)
            past = CellMemory(api, run.name, kinds_of(lanes), kept=kept)
            try:
                (found,) = run.collected(self._bounds)
                again = self._failed_last_time()
                planner = Planner(
                    self._rules, self._selection(), _KnownFailed(past, again), fleet, self._workers
                )
                shares, notes = planner.shares(lanes, [found])
            except BaseException as error:
                run.stop(reason=type(error).__name__)
                raise
            for note in notes:
                self._line(note)
            none = self._selection().last_failed and not again and self._lfnf == "none"
            if none or all(share.suite.is_empty for share in shares):
                run.stop(reason="no tests")
                return None
            session.testscollected = sum(len(share.suite.tests) for share in shares)
            sessions = sum(lot.sessions for share in shares for lot in share.lots)
            told = f"collected {session.testscollected} items, run {run.id}, {sessions} sessions"
            self._line(f"{told}\n")
            end = run.carry(shares, self._bounds)
        self._feeding.finish(end.report.results, cut=end.cut is not None)
        kept.add(end.report, keys_of(shares))
        return end

    def _place(self, api: ApiClient, *, shipped: bool) -> SuitePlace:
        recipe = self._recipe
        return SuitePlace(
            "." if shipped else str(Path.cwd()),
            None if recipe is not None else interpreter_of(self._python, is_here=not shipped),
            tuple(self._handed.args),
            shipped_here(api) if shipped else None,
            recipe,
        )

    # -- what failed last time, as pytest's own cache knows it ------------------------------------

    @property
    def _lfnf(self) -> str:
        return str(self._config.getoption("last_failed_no_failures", "all"))

    def _selection(self) -> Selection:
        option = self._config.getoption
        return Selection(
            last_failed=bool(option("lf", False)), failed_first=bool(option("failedfirst", False))
        )

    def _failed_last_time(self) -> frozenset[str]:
        """Return the node ids; a file stands among them that could not be collected."""
        cache = getattr(self._config, "cache", None)
        failed: Mapping[str, Any] = cache.get("cache/lastfailed", {}) if cache is not None else {}
        return frozenset(failed)

    # -- how it is shown --------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        if self._terminal is not None and self._config.getoption("verbose") >= 0:
            self._terminal.ensure_newline()
            self._terminal.write_line(text)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Name what only dtest tells apart."""
        if str(report.outcome) == "rerun":
            return "rerun", "R", ("RERUN", {"yellow": True})
        if hasattr(report, FLAKY):
            return "flaky", "f", ("FLAKY", {"yellow": True})
        if hasattr(report, NOT_PROVEN):
            return "not proven", "?", ("NOT PROVEN", {"yellow": True})
        return None

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:  # noqa: ANN401 - not public
        """List what is not proven, what is flaky, and which sessions came to no good end."""
        lines = [f"FLAKY {each.nodeid}" for each in terminalreporter.stats.get("flaky", ())]
        lines += [
            f"NOT PROVEN {each.nodeid}: {getattr(each, NOT_PROVEN)}"
            for each in terminalreporter.stats.get("not proven", ())
        ]
        if self._end is not None:
            lines += [f"{each.name}: {each.text}" for each in self._end.report.faults]
            lines += self._end.report.notes
            unrun = self._end.report.counts.get("not_proven", 0)
            if self._end.cut is not None and unrun:
                lines.append(f"{unrun} tests were not run")
        if lines:
            terminalreporter.section("dtest")
            for line in lines:
                terminalreporter.write_line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Let the verdicts decide where pytest's count of failures cannot."""
        end = self._end
        if end is None or end.cut is not None:
            return
        code, told = end.report.exit_code, session.exitstatus
        if code == FAILED and told == pytest.ExitCode.OK:  # a session says so, and no test
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if told != pytest.ExitCode.TESTS_FAILED:
            return
        if code in {GATE_NOT_PROVEN, STOPPED}:
            session.exitstatus = EXIT_NOT_PROVEN
        elif code == 0:  # what failed in a lost attempt passed in the one that replaced it
            session.exitstatus = pytest.ExitCode.OK


class _News:
    """Asks for what tests came to, whenever the run is looked at."""

    def __init__(self, api: ApiClient, run: SuiteRun, feeding: Feeding) -> None:
        self._api = api
        self._run = run
        self._feeding = feeding
        self._last = (-1, "", 0, 0)

    def look(self) -> None:
        """Tell what is new."""
        try:
            fresh = fresh_observations(self._api, self._run.id, self._last)
        except (Unavailable, TimedOut):  # who watches the run waits for the API, or gives it up
            fresh = []
        for seen in fresh:
            self._last = (seen.seq, seen.task_id, seen.attempt, seen.ordinal)
            self._feeding.live(seen)


class _KnownFailed:
    """How long tests take, as is known; which of them failed, as pytest's own cache says."""

    def __init__(self, past: Past, failed: Collection[str]) -> None:
        self._past = past
        self._failed = failed

    def load(self, *hardware: str) -> History:
        """Return both."""
        return History(self._past.load(*hardware).durations, self._failed)


class _Lines(io.TextIOBase):
    """Puts what dtest says to people between the lines of pytest."""

    def __init__(self, line: Any) -> None:  # noqa: ANN401 - a bound method
        self._line = line

    def write(self, text: str) -> int:
        """Write whole lines, each as one of its own."""
        for line in text.splitlines():
            if line.strip():
                self._line(line.removeprefix("dtest: "))
        return len(text)


def _handed_on(config: pytest.Config) -> invocation.HandedOn:
    """Return what the sessions are told: settings, environment and command line in one."""
    parser: Any = config._parser  # noqa: SLF001 - pytest tells no other way how words belong together
    own = getattr(parser, "optparser", None) or parser._getparser()  # noqa: SLF001 - before pytest 9
    known = invocation.arities(own._option_string_actions)  # noqa: SLF001 - the same
    words = [*config.getini("addopts"), *shlex.split(os.environ.get(WORDS, ""))]
    words += [str(word) for word in config.invocation_params.args]
    return invocation.handed_on(invocation.tokens(words, known))


@contextmanager
def _words_taken() -> Iterator[None]:
    """Keep the environment's words from sessions of a cell that lives for this call."""
    words = os.environ.pop(WORDS, None)
    try:
        yield
    finally:
        if words is not None:
            os.environ[WORDS] = words
