"""Turns what pytest does into records: what there is, what becomes of each test, how it ends.

PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

import os
import platform
import threading
from dataclasses import dataclass, field
from typing import Any, Generator, Optional, Tuple

import pytest
from dtest_places import ID_CHARS_MAX, Places, brief
from dtest_pytest_choice import keep, select_named
from dtest_pytest_groups import grouping_of
from dtest_pytest_listing import listed
from dtest_pytest_marks import MARKER_LINE
from dtest_pytest_options import for_the_whole, judge_no_coverage, keep_coverage, of_a_session
from dtest_pytest_quiet import give_directory, introduce
from dtest_pytest_request import Request
from dtest_pytest_tests import file_of, function_of, home_of
from dtest_pytest_verdict import (
    PHASES,
    Verdict,
    bounded,
    full_output,
    is_subtest,
    judge,
    one_line,
    properties_of,
    reason,
)
from dtest_world import World

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
Location = Tuple[str, Optional[int], str]
HookWrapper = Generator[None, Any, None]
THREADS_MAX = 10
LEEWAY_S = 0.05
"""By so much the phases of a test may seem to take longer than the test: clocks are read apart."""


@dataclass
class Attempt:
    """A test that has started and has no verdict yet."""

    number: int | None
    nodeid: str
    line: int | None
    file: str
    started_at: float
    reports: list[pytest.TestReport] = field(default_factory=list)
    of_suite: list[tuple[str, str]] = field(default_factory=list)
    """Properties that were told while it ran, for the whole suite."""
    void: bool = False  # a plugin has dropped this result and runs the test again


class Recorder:
    """The pytest hooks that turn a run into records."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.places: Places[pytest.Item] = Places()
        """Of all that was collected, before anybody chose among it."""
        self._numbers: dict[int, list[int]] = {}
        """Of the tests that this run of pytest collected for itself, by identity."""
        self._expected: Optional[tuple[int | None, str]] = None
        self._current: Attempt | None = None
        self._collecting_since = 0.0
        self.uncollected: dict[str, str] = {}
        """Files that could not be imported, with the reason."""
        self._told_files: set[str] = set(request["reported"])
        self._lost: dict[str, list[str]] = {"error": [], "skipped": []}
        self._failures_max = 0
        self._interruption = "pytest stopped inside this test"
        self._stopped = ""
        self._internal = ""
        self._exitstatus = int(pytest.ExitCode.INTERNAL_ERROR)
        self._natural = self._exitstatus
        self._notes: list[str] = []
        self._grouping = ""

    # -- before anything runs ---------------------------------------------------------------------

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> HookWrapper:
        """See to what plugins measure before they begin to."""
        if self._request["worker"] is not None:
            keep_coverage(early_config.known_args_namespace)
        yield

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> HookWrapper:
        """Set the options that hold for the whole session."""
        option, worker = config.option, self._request["worker"]
        self._grouping, said = grouping_of(option)
        if said:
            self._notes.append(said)
        if getattr(option, "numprocesses", None) or getattr(option, "tx", None):
            # Spread over worker processes, a crash could not be laid at the door of one test.
            self._notes.append("dtest: runs without xdist workers, one test at a time")
        if hasattr(option, "numprocesses"):
            option.numprocesses, option.dist, option.tx = 0, "no", []
        self._failures_max = int(option.maxfail or 0)
        if self._request["feed"] is not None:
            option.maxfail = 0  # one session of several: the whole run is counted elsewhere
        elif option.maxfail:
            option.maxfail = max(1, option.maxfail - self._request["failures_before"])
        if worker is not None:
            self._notes += for_the_whole(option) + of_a_session(config, worker["id"])
            coverage = config.pluginmanager.get_plugin("_cov")
            if coverage is not None:
                self._notes += judge_no_coverage(coverage, option)
            introduce(config, worker)
            give_directory(config, worker)
        yield

    def pytest_report_header(self) -> list[str]:
        """Say which option was overruled."""
        return self._notes

    def pytest_configure(self, config: pytest.Config) -> None:
        """Make the marker known, for suites that refuse unknown ones."""
        config.addinivalue_line("markers", MARKER_LINE)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Write `session`, once however often pytest is started."""
        if not self._request["again"]:
            versions = {"python": platform.python_version(), "pytest": pytest.__version__}
            self.write({"kind": "session", **versions, "rootdir": str(session.config.rootpath)})

    # -- what there is ----------------------------------------------------------------------------

    def pytest_collectstart(self) -> None:
        """Note the time, which the report of a failed collection lacks."""
        self._collecting_since = World.now()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write the case of a file that could not be imported or skipped itself.

        One session of several tells it if it is the one that collects, or if it is asked for a test
        of that file.
        """
        if report.passed:
            return
        told = reason(report)
        self.uncollected[file_of(report.nodeid)] = told
        if self._request["feed"] is not None and not self._request["collect"]:
            return
        verdict = Verdict("error" if report.failed else "skipped", "collect", told)
        if report.nodeid in self._told_files:
            self._lost[verdict.outcome].append(report.nodeid)
            return
        attempt = self._attempt(None, report.nodeid, None, self._collecting_since)
        took_s = World.now() - attempt.started_at
        self._write_case(attempt, verdict, took_s=took_s, output=full_output([report]))

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> HookWrapper:
        """Select before all others, as a command line does; drop what was run after all others.

        Those others may choose a share of the tests, and must choose the same one after a crash.
        """
        self.know(items)
        if self._request["nodeids"]:
            for nodeid in select_named(
                config, items, self._request["paths"], self._request["nodeids"]
            ):
                silent = file_of(nodeid) in self.uncollected or nodeid in self._told_files
                if not silent and self._tells_all:
                    self.fail(None, "collect", nodeid, "not found: no test of this name")
        yield
        self.know(items)  # of those that somebody added
        if self._request["feed"] is None:
            for number, item in enumerate(items):
                self._numbers.setdefault(id(item), []).append(number)
        if self._request["only"] is not None:
            only = set(self._request["only"])
            keep(config, items, [number in only for number in range(len(items))])
            for numbers in self._numbers.values():
                numbers[:] = [number for number in numbers if number in only]

    def know(self, items: list[pytest.Item]) -> None:
        """Take in where tests stand."""
        for item in items:
            if isinstance(item, pytest.Item):
                file = home_of(item)
                self.places.add(item, file=file, function=function_of(item), name=item.nodeid)

    @property
    def _tells_all(self) -> bool:
        return self._request["feed"] is None or self._request["collect"]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say what was collected; where tests come by a feed, only who has collected all knows."""
        if self._request["feed"] is None:
            self.tell_collected(session)

    def tell_collected(self, session: pytest.Session) -> None:
        """Write `collected`, and leave the number where only the session reads it."""
        items = session.items
        option = session.config.option
        nodeids = [brief(item.nodeid, ID_CHARS_MAX) for item in items]
        self._leave("collected.json", {"nodeids": nodeids, "maxfail": option.maxfail})
        if self._request["collect"] or not self._request["again"]:
            files: dict[str, int] = {}
            for item in items:
                files[home_of(item)] = files.get(home_of(item), 0) + 1
            record: dict[str, Any] = {"kind": "collected", "count": len(items), "files": files}
            if self._request["collect"]:
                lost = {"broken": self._lost["error"], "skipped": self._lost["skipped"]}
                record.update(listed(items, self.places, self._grouping), **lost)
                record.update(maxfail=self._failures_max, notes=self._notes)
            self.write(record)

    # -- what becomes of a test -------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Note which test of those collected here comes next."""
        numbers = self._numbers.get(id(item))
        if numbers:
            self._expected = (numbers.pop(0), item.nodeid)

    def expect(self, number: int | None, nodeid: str) -> None:
        """Take the number of the test that comes next."""
        self._expected = (number, nodeid)

    def pytest_runtest_logstart(self, nodeid: str, location: Location) -> None:
        """Write `started`."""
        self._begin(nodeid, location)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the report of one phase or subtest until the verdict."""
        attempt = self._current
        if attempt is None or attempt.nodeid != brief(report.nodeid, ID_CHARS_MAX):
            attempt = self._begin(report.nodeid, report.location)
        rerun = str(report.outcome) == "rerun"
        if rerun or report.when == "setup":
            attempt.reports.clear()
            attempt.void = rerun
        if not attempt.void:
            attempt.reports.append(report)

    def pytest_runtest_logfinish(self) -> None:
        """Write the case."""
        self._finish(complete=True)

    @pytest.fixture(scope="session")
    def record_testsuite_property(self) -> Any:
        """Record a property of the whole suite, as pytest's own fixture of the name does."""

        def record(name: str, value: object) -> None:
            if self._current is not None:
                self._current.of_suite.append((str(name), str(value)))

        return record

    # -- how it ends ------------------------------------------------------------------------------

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep why pytest stops, for the test it stopped in and for the session."""
        said = one_line(f"{excinfo.typename}: {excinfo.value}").rstrip(": ")
        if isinstance(excinfo.value, pytest.exit.Exception):
            self.stop(f"pytest.exit: {one_line(str(excinfo.value.msg))}")
        elif isinstance(excinfo.value, pytest.Session.Interrupted):
            self.stop(one_line(str(excinfo.value)))
        else:
            self.stop(said)
        self._interruption = self._stopped if "pytest.exit" in self._stopped else said

    def stop(self, why: str) -> None:
        """Keep why the suite itself ended the session before its tests were over."""
        self._stopped = self._stopped or why

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep why pytest stops, for the test it stopped in and for the session."""
        self._internal = self._interruption = one_line(
            f"internal error of pytest: {excinfo.exconly()}"
        )

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> HookWrapper:
        """Take the exit code after all others, which may change it."""
        self._natural = int(exitstatus)
        yield
        self._finish()
        self._exitstatus = int(session.exitstatus)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_unconfigure(self) -> HookWrapper:
        """Tell that pytest ended by itself: it says this even where no session could start."""
        yield
        own = threading.main_thread()
        threads = [
            each.name for each in threading.enumerate() if each is not own and not each.daemon
        ]
        self._leave(
            "ended.json",
            {
                "exitstatus": self._exitstatus,
                "natural": self._natural,
                "stopped": self._stopped,
                "internal": self._internal,
                "threads": threads[:THREADS_MAX],
                "at": World.now(),
            },
        )

    def fail(self, number: int | None, phase: str, nodeid: str, problem: str) -> None:
        """Write an error that no report tells: a test that is not there, a late teardown."""
        attempt = self._attempt(number, nodeid, None, World.now())
        verdict = Verdict("error", phase, one_line(problem))
        self._write_case(attempt, verdict, took_s=0.0, output=problem)

    def _attempt(self, number: int | None, nodeid: str, line: int | None, at: float) -> Attempt:
        nodeid = brief(nodeid, ID_CHARS_MAX)
        return Attempt(number, nodeid, line, file_of(nodeid), at)

    def _begin(self, nodeid: str, location: Location) -> Attempt:
        self._finish(complete=True)
        defined_in, line, _ = location
        # A test inherited from another file has its line there: such a line would mislead.
        if line is not None and (line < 0 or os.path.normpath(defined_in) != file_of(nodeid)):
            line = None
        number = None
        if self._expected is not None and self._expected[1] == nodeid:
            number = self._expected[0]
        line = None if line is None else line + 1
        self._current = attempt = self._attempt(number, nodeid, line, World.now())
        self.write(
            {
                "kind": "started",
                "number": number,
                "nodeid": attempt.nodeid,
                "at": attempt.started_at,
            }
        )
        return attempt

    def _finish(self, *, complete: bool = False) -> None:
        attempt, self._current = self._current, None
        if attempt is None or (complete and attempt.void):
            return
        reports = attempt.reports
        if complete and reports:
            verdict = judge(reports)
        else:
            reached = {report.when for report in reports}
            phase = next((phase for phase in PHASES if phase not in reached), "teardown")
            verdict = Verdict("error", phase, f"interrupted: {self._interruption}")
        took_s = sum(report.duration for report in reports if not is_subtest(report))
        elapsed_s = World.now() - attempt.started_at
        if not (complete and 0 <= took_s <= elapsed_s + LEEWAY_S):
            took_s = elapsed_s  # the suite has its own idea of time
        output = "" if verdict.outcome == "passed" else full_output(reports)
        more: dict[str, Any] = {}
        if attempt.of_suite:
            more["suite_properties"] = attempt.of_suite
        properties = properties_of(reports)
        if properties:
            more["properties"] = properties
        self._write_case(attempt, verdict, took_s=took_s, output=output, more=more)

    def _write_case(
        self,
        test: Attempt,
        verdict: Verdict,
        *,
        took_s: float,
        output: str,
        more: Optional[dict[str, Any]] = None,
    ) -> None:
        if verdict.phase == "collect" and test.number is None:
            self._lost.setdefault(verdict.outcome, []).append(test.nodeid)
            self._told_files.add(test.nodeid)
        times = {"at": test.started_at, "duration_s": round(took_s, 6)}
        place = {"file": test.file, "line": test.line}
        case = {**verdict._asdict(), **times, "output": bounded(output), **place, **(more or {})}
        self.write({"kind": "case", "number": test.number, "nodeid": test.nodeid, **case})

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""
        World.put(self._request["out"], record)

    def _leave(self, name: str, value: dict[str, Any]) -> None:
        World.put(os.path.join(self._request["scratch"], name), value, anew=True)
