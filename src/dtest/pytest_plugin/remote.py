"""The tests of one call of pytest in a cell: what ``--dtest`` puts in the place of a test loop."""

import io
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from dtest.caller import invocation
from dtest.caller.api_client import ApiClient
from dtest.caller.cell import cell_of, interpreter_of, shipped_here
from dtest.caller.document import Choice, SuitePlace, suite_document
from dtest.caller.fleet import fleet_of, is_remote, tell_old
from dtest.caller.following import Ended, Following, first_of, hand_in
from dtest.caller.gathering import keys_of
from dtest.caller.history_file import HistoryFile
from dtest.caller.keeping import in_ci, keep_s_of
from dtest.caller.known_flaky import known_flaky_tests
from dtest.caller.recipes import recipe_of
from dtest.caller.suite_settings import Limits, environment_of, suite_settings
from dtest.errors import DtestError, UsageError
from dtest.pytest_plugin.feeding import Feeding
from dtest.pytest_plugin.reports import FLAKY, NOT_PROVEN
from dtest.reports.observation import Observation
from dtest.reports.report import FAILED, STOPPED
from dtest.reports.report import NOT_PROVEN as GATE_NOT_PROVEN
from dtest.runtime.first_suite import FirstSuite
from dtest.runtime.ids import IdSource
from dtest.settings import load_settings
from dtest.wording import counted

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
        self._end: Ended | None = None
        self._handed = _handed_on(config)
        option = config.getoption
        self._settings = load_settings(
            {
                "cell": option("dtest_cell"),
                "api_url": option("dtest_api"),
                "state_dir": option("dtest_state_dir"),
            }
        )
        given = suite_settings(self._settings)
        self._rules = given.written_rules
        self._limits = given.bounded(_limits(option))
        self._limits.check("--dtest-")
        stated: int | None = option("dtest_workers")
        self._workers = given.workers if stated is None else stated
        if self._workers is not None and self._workers < 1:
            message = f"--dtest-workers is {self._workers}; at least 1 is needed"
            raise UsageError(message)
        self._stated_keep_s, self._default_keep_s = option("dtest_keep"), given.keep
        self._keep_s()  # so that a wrong one is told before anything runs
        self._python, self._recipe = environment_of(
            option("dtest_python"), recipe_of(option("dtest_environment")), given
        )
        listed = config.getoption("dtest_known_flaky")
        self._flaky = known_flaky_tests(Path(listed) if listed else None, print_error)
        self.feeding = Feeding(config, self._flaky, reruns=bool(self._limits.reruns))

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
            with redirect_stderr(_Lines(self.line)), _words_taken(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what dtest does is no matter of the suite
                end = self._run(session)
        except UsageError as error:
            raise pytest.UsageError(_worded(error)) from error
        except DtestError as error:
            pytest.exit(_worded(error), returncode=error.exit_code)
        self._end = end
        if end is None:
            return True
        if end.interrupted is not None:
            raise end.interrupted
        cause = end.cut.cause if end.cut is not None else ""
        if cause == "stopped" and end.cut is not None:
            pytest.exit(end.cut.detail, returncode=int(pytest.ExitCode.INTERRUPTED))
        if cause != "failures" and end.error is not None:
            if isinstance(end.error, UsageError):
                raise pytest.UsageError(_worded(end.error))
            pytest.exit(_worded(end.error), returncode=end.error.exit_code)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        return True

    def _run(self, session: pytest.Session) -> Ended | None:
        again = self._failed_last_time()
        if self._chosen("lf") and not again and self._lfnf == "none":
            return None
        here = Path.cwd()
        kept = HistoryFile(here)
        port = _Port(self, session)
        run_id, known = IdSource()(), kept.document(failed=again)
        port.run_id = run_id

        def first() -> FirstSuite:
            return first_of(run_id, self._document(here, None), known)

        with cell_of(
            self._settings,
            self._workers,
            keep_s=self._keep_s(),
            first=None if self._config.getoption("dtest_ship") else first,
            tell=self.line,
        ) as cell:
            seq = cell.first_seq
            if seq is None:
                seq = hand_in(cell.api, run_id, self._asked(cell.api, here), known, port)
            end = Following(cell.api, run_id, port, since=seq).to_the_end()
            if end.cut is not None and end.cut.cause == "empty":
                return None
            cut = end.interrupted is not None or (
                end.cut is not None and end.cut.cause != "cancelled"
            )
            self.feeding.finish(end.report.results, cut=cut)
            kept.add(end.report, keys_of(end.plan))
            if end.is_left and end.interrupted is not None and not cell.outlives_call:
                raise end.interrupted  # the cell is not to stay with a run that nobody wants
        return end

    def _keep_s(self) -> float | None:
        is_watched = bool(getattr(self._terminal, "isatty", False)) and not in_ci()
        return keep_s_of(
            self._stated_keep_s,
            self._default_keep_s,
            is_watched=is_watched,
            option="--dtest-keep",
        )

    def _asked(self, api: ApiClient, here: Path) -> dict[str, Any]:
        fleet = fleet_of(api)
        tell_old(fleet, self.line)
        ship: bool | None = self._config.getoption("dtest_ship")
        is_shipped = is_remote(fleet) if ship is None else ship
        return self._document(here, shipped_here(api, self.line) if is_shipped else None)

    def _document(self, here: Path, shipped: str | None) -> dict[str, Any]:
        choice = Choice(
            self._handed.paths,
            last_failed=self._chosen("lf"),
            failed_first=self._chosen("failedfirst"),
            rules=self._rules,
            sessions=self._workers,
        )
        python = None
        if self._recipe is None:
            python = interpreter_of(self._python, is_here=shipped is None)
        where = "." if shipped else str(here)
        place = SuitePlace(where, python, tuple(self._handed.args), shipped, self._recipe)
        return suite_document(here.name or "tests", place, choice, self._limits, self._flaky)

    # -- what failed last time, as pytest's own cache knows it ------------------------------------

    @property
    def _lfnf(self) -> str:
        return str(self._config.getoption("last_failed_no_failures", "all"))

    def _chosen(self, option: str) -> bool:
        return bool(self._config.getoption(option, False))

    def _failed_last_time(self) -> frozenset[str]:
        """Return the node ids; a file stands among them that could not be collected."""
        cache = getattr(self._config, "cache", None)
        failed: Mapping[str, Any] = cache.get("cache/lastfailed", {}) if cache is not None else {}
        return frozenset(failed)

    # -- how it is shown --------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Write a line between those of pytest."""
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
                lines.append(f"not run: {counted(unrun, 'test')}")
        if lines:
            terminalreporter.section("dtest")
            for line in lines:
                terminalreporter.write_line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Let the verdicts decide where pytest's count of failures cannot."""
        end = self._end
        if end is None or (end.cut is not None and end.cut.cause != "cancelled"):
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


class _Port:
    """Takes what a run has to show to pytest's hooks and terminal."""

    is_quiet = False
    wants_all = True

    def __init__(self, tests: RemoteTests, session: pytest.Session) -> None:
        self._tests = tests
        self._session = session
        self.run_id = ""

    def say(self, text: str) -> None:
        """Say it between the lines of pytest."""
        self._tests.line(text)

    def divided(self, suite: Mapping[str, Any]) -> None:
        """Tell how many tests there are, as pytest tells it."""
        for note in suite["notes"]:
            self.say(note)
        self._session.testscollected = suite["planned"]
        sessions = sum(pool["sessions"] for pool in suite["pools"] if pool["queue"] is not None)
        found, by = counted(suite["planned"], "item"), counted(sessions, "session")
        self.say(f"collected {found}, run {self.run_id}, {by}\n")

    def news(self, fresh: Sequence[Observation]) -> None:
        """Tell what tests came to."""
        for seen in fresh:
            self._tests.feeding.live(seen)

    def progress(self, run: Mapping[str, Any], since_s: float) -> None:
        """Say nothing: pytest shows it by itself."""


def _limits(option: Callable[[str], Any]) -> Limits:
    return Limits(
        option("dtest_timeout"),
        option("dtest_test_timeout"),
        option("dtest_memory_limit"),
        option("maxfail") or None,
        option("dtest_reruns"),
    )


def print_error(text: str) -> None:
    """Say something before pytest's terminal is there."""
    sys.stderr.write(f"{text}\n")


class _Lines(io.TextIOBase):
    """Puts what dtest says to people between the lines of pytest."""

    def __init__(self, line: Any) -> None:  # noqa: ANN401 - a bound method
        self.line = line

    def write(self, text: str) -> int:
        """Write whole lines, each as one of its own."""
        for line in text.splitlines():
            if line.strip():
                self.line(line.removeprefix("dtest: "))
        return len(text)


def _handed_on(config: pytest.Config) -> invocation.HandedOn:
    """Return what the sessions are told: settings, environment and command line in one."""
    known = invocation.arities_of(config)
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
