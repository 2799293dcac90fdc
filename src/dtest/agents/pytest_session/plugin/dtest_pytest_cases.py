"""Write one JSON line per test case while pytest runs, from inside the interpreter under test.

It neither restarts anything nor decides what a whole session is worth: that is for the script that
started pytest and told this plugin, in a request file, what to select and where to write. It never
imports dtest, because the foreign interpreter has only pytest (7.0 or later) and Python 3.8 or
later. PYTEST_DONT_REWRITE: it has no assertion to explain, so nothing is to be recompiled.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Generator, NamedTuple, Optional, Tuple, TypedDict

import pytest

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
REQUEST_ENV = "DTEST_PYTEST_CASES"
OUTPUT_BYTES_MAX = 64 * 1024
MESSAGE_CHARS_MAX = 500
PHASES = ("setup", "call", "teardown")

Location = Tuple[str, Optional[int], str]
HookWrapper = Generator[None, Any, None]


class Request(TypedDict):
    """What the session asks of this one run of pytest."""

    out: str  # the records are appended here
    scratch: str  # a directory for what only the session reads
    pythonpath: str | None  # the value the tests are to see
    paths: list[str]  # files and directories wanted whole
    nodeids: list[str]  # tests or classes wanted by name
    only: list[str] | None  # after a crash: the tests that are still to run
    reported: list[str]  # node ids that have a record already
    failures_before: int  # failures of earlier runs, for --maxfail


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Take up the request; pytest calls this first, before any conftest file is loaded."""
    request_file = os.environ.pop(REQUEST_ENV, None)
    if request_file is None:
        return
    with open(request_file, encoding="utf-8") as stream:
        request: Request = json.load(stream)
    _restore_import_path(request["pythonpath"])
    if not hasattr(pytest, "version_tuple"):
        message = f"dtest needs pytest >= 7.0 but {sys.executable} has {pytest.__version__}; "
        raise pytest.UsageError(f"{message}run: {sys.executable} -m pip install --upgrade pytest")
    if pluginmanager.is_blocked("cacheprovider"):
        # The session always sets cache_dir, and an unknown setting fails under --strict-config.
        parser.addini("cache_dir", "set by the session, unused without the cache provider")
    pluginmanager.register(Recorder(request), "dtest_pytest_cases_recorder")


def _restore_import_path(pythonpath: str | None) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    if pythonpath is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = pythonpath


@dataclass
class Attempt:
    """A test that has started and has no verdict yet."""

    nodeid: str
    line: int | None
    started_at: float
    reports: list[pytest.TestReport] = field(default_factory=list)
    void: bool = False  # a plugin has dropped this result and runs the test again


class Verdict(NamedTuple):
    """What a finished test comes to."""

    outcome: str
    phase: str
    message: str


class Recorder:
    """The pytest hooks that turn a run into records."""

    def __init__(self, request: Request, clock: Callable[[], float] = time.time) -> None:
        self._request = request
        self._clock = clock
        self._pid = os.getpid()
        self._reported: set[str] = set(request["reported"])
        self._current: Attempt | None = None
        self._collecting_since = 0.0
        self._uncollected_files: set[str] = set()
        self._interruption = "pytest stopped inside this test"
        self._exitstatus = int(pytest.ExitCode.INTERNAL_ERROR)
        self._header: list[str] = []

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> HookWrapper:
        """Set the options that hold for the whole session."""
        if getattr(config.option, "numprocesses", None) or getattr(config.option, "tx", None):
            # Spread over worker processes, a crash could not be laid at the door of one test.
            config.option.numprocesses = 0
            self._header.append("dtest: runs without xdist workers, one test at a time")
        if config.option.maxfail:
            left = config.option.maxfail - self._request["failures_before"]
            config.option.maxfail = max(1, left)
        yield

    def pytest_report_header(self) -> list[str]:
        """Say which option was overruled."""
        return self._header

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Write `session`, once however often pytest is started."""
        if self._request["only"] is None:
            versions = {"python": platform.python_version(), "pytest": pytest.__version__}
            self._write({"kind": "session", **versions, "rootdir": str(session.config.rootpath)})

    def pytest_collectstart(self) -> None:
        """Note the time, which the report of a failed collection lacks."""
        self._collecting_since = self._clock()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write the case of a file that could not be imported or skipped itself."""
        if report.passed:
            return
        self._uncollected_files.add(_file_of(report.nodeid))
        if report.nodeid in self._reported:
            return
        verdict = Verdict("error" if report.failed else "skipped", "collect", reason(report))
        attempt = Attempt(report.nodeid, None, self._collecting_since)
        took_s = self._clock() - attempt.started_at
        self._write_case(attempt, verdict, took_s=took_s, output=full_output([report]))

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> HookWrapper:
        """Select before all others, as a command line does; drop what was run after all others.

        Those others may choose a share of the tests, and must choose the same one after a crash.
        """
        if self._request["nodeids"]:
            self._select_named(config, items)
        yield
        if self._request["only"] is not None:
            only = set(self._request["only"])
            _keep(config, items, [item.nodeid in only for item in items])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write `collected`, and leave the ids where only the session reads them."""
        nodeids = [item.nodeid for item in session.items]
        option = session.config.option
        self._leave("collected.json", {"nodeids": nodeids, "maxfail": option.maxfail})
        if self._request["only"] is None:
            files = Counter(_file_of(nodeid) for nodeid in nodeids)
            record = {"kind": "collected", "count": len(nodeids), "files": files}
            self._write({**record, "nodeids": nodeids} if option.collectonly else record)

    def pytest_runtest_logstart(self, nodeid: str, location: Location) -> None:
        """Write `started`."""
        self._begin(nodeid, location)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the report of one phase or subtest until the verdict."""
        attempt = self._current
        if attempt is None or attempt.nodeid != report.nodeid:
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

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep why pytest stops, for the test it stopped in."""
        self._interruption = one_line(f"{excinfo.typename}: {excinfo.value}").rstrip(": ")

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep why pytest stops, for the test it stopped in."""
        self._interruption = one_line(f"internal error of pytest: {excinfo.exconly()}")

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> HookWrapper:
        """Take the exit code after all others, which may change it."""
        yield
        self._finish()
        self._exitstatus = int(session.exitstatus)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_unconfigure(self) -> HookWrapper:
        """Tell that pytest ended by itself: it says this even where no session could start."""
        yield
        self._leave("ended.json", {"exitstatus": self._exitstatus})

    def _select_named(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        start = str(config.invocation_params.dir)
        whole = [os.path.abspath(os.path.join(start, path)) for path in self._request["paths"]]
        # A path that is none on disk is a module name (--pyargs): what it brought in is kept.
        keep_strangers = not all(os.path.exists(path) for path in whole)
        named: dict[tuple[str, str], str] = {}
        for nodeid in self._request["nodeids"]:
            file, _, names = nodeid.partition("::")
            named[os.path.abspath(os.path.join(start, file)), names] = nodeid
        named_files = {file for file, _ in named}
        files = [os.path.abspath(str(item.path)) for item in items]
        kept_files = {
            file
            for file in set(files)
            if any(file == path or file.startswith(path + os.sep) for path in whole)
            or (keep_strangers and file not in named_files)
        }
        found: set[tuple[str, str]] = set()
        wanted = []
        for item, file in zip(items, files):
            matches = {(file, name) for name in _name_prefixes(item.nodeid)} & named.keys()
            found |= matches
            wanted.append(bool(matches) or file in kept_files)
        _keep(config, items, wanted)
        root = str(config.rootpath)
        silent = {os.path.abspath(os.path.join(root, file)) for file in self._uncollected_files}
        missing = Verdict("error", "collect", "not found: no test of this name")
        for key, nodeid in named.items():
            if key not in found and key[0] not in silent and nodeid not in self._reported:
                attempt = Attempt(nodeid, None, self._clock())
                self._write_case(attempt, missing, took_s=0.0, output="")

    def _begin(self, nodeid: str, location: Location) -> Attempt:
        self._finish(complete=True)
        defined_in, line, _ = location
        # A test inherited from another file has its line there: such a line would mislead.
        if line is not None and (line < 0 or os.path.normpath(defined_in) != _file_of(nodeid)):
            line = None
        at = self._clock()
        self._current = attempt = Attempt(nodeid, None if line is None else line + 1, at)
        self._write({"kind": "started", "nodeid": nodeid, "at": at})
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
        took_s = sum(report.duration for report in reports if not _is_subtest(report))
        output = "" if verdict.outcome == "passed" else full_output(reports)
        self._write_case(attempt, verdict, took_s=took_s, output=output)

    def _write_case(self, test: Attempt, verdict: Verdict, *, took_s: float, output: str) -> None:
        self._reported.add(test.nodeid)
        times = {"started_at": test.started_at, "duration_s": round(took_s, 6)}
        place = {"file": _file_of(test.nodeid), "line": test.line}
        case = {**verdict._asdict(), **times, "output": bounded(output), **place}
        self._write({"kind": "case", "nodeid": test.nodeid, **case})

    def _write(self, record: dict[str, Any]) -> None:
        _put(self._request["out"], record, pid=self._pid, flag=os.O_APPEND)

    def _leave(self, name: str, value: dict[str, Any]) -> None:
        path = os.path.join(self._request["scratch"], name)
        _put(path, value, pid=self._pid, flag=os.O_TRUNC)


def judge(reports: list[pytest.TestReport]) -> Verdict:
    """The one verdict on a test from the reports of all its phases and subtests."""
    phases = {str(report.when): report for report in reports if not _is_subtest(report)}
    # A plugin that runs tests in forks names no phase for a test whose fork died: that is a call.
    deciding = phases.get("call") or phases.get("setup") or reports[-1]
    phase = str(deciding.when) if deciding.when in PHASES else "call"
    verdict = Verdict(_standing(deciding), phase, reason(deciding))
    if verdict.outcome == "failed" and phase != "call":
        verdict = verdict._replace(outcome="error")
    broken = [report for report in reports if _is_subtest(report) and report.failed]
    if broken:
        first = f"{getattr(broken[0], 'head_line', '')}: {reason(broken[0])}"
        message = one_line(f"{len(broken)} failed subtest(s), first: {first}")
        verdict = Verdict("failed", "call", message)
    teardown = phases.get("teardown")
    if teardown is None or teardown is deciding or not teardown.failed:
        return verdict
    after = f"teardown: {reason(teardown)}"
    if verdict.outcome in {"failed", "error"}:
        return verdict._replace(message=one_line(f"{verdict.message}; {after}"))
    return Verdict("error", "teardown", one_line(f"{phase} {verdict.outcome}; {after}"))


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why it did not simply pass, in one line; empty when it did."""
    xfail: str | None = getattr(report, "wasxfail", None)
    if xfail is not None and not report.failed:
        return one_line(re.sub("^reason: ", "", xfail))
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return one_line(re.sub("^Skipped: ", "", report.longrepr[2]))
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return one_line(crash.message)
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    marked = [line[1:] for line in lines if line.startswith("E ")]
    return one_line((marked or lines or [""])[-1])


def full_output(reports: list[pytest.TestReport] | list[pytest.CollectReport]) -> str:
    """What pytest would show of a test that did not pass."""
    parts: list[str] = []
    for report in reports:
        if isinstance(report.longrepr, tuple):
            path, line, text = report.longrepr
            parts.append(f"{path}:{line}: {text}")
        elif report.longrepr is not None:
            title = getattr(report, "head_line", "") if _is_subtest(report) else ""
            parts.append(f"{title}\n{report.longreprtext}".lstrip("\n"))
    # The sections of a report hold those of the phases before it, but not those of subtests.
    shown = [report for report in reports[:-1] if _is_subtest(report) and report.failed]
    for report in [*shown, *reports[-1:]]:
        parts.extend(f"---- {name} ----\n{content}" for name, content in report.sections)
    return "\n".join(parts)


def one_line(text: str) -> str:
    """The first line of a text, short enough for a list."""
    line = next(iter(text.strip().splitlines()), "")
    kept = line if len(line) <= MESSAGE_CHARS_MAX else line[: MESSAGE_CHARS_MAX - 3] + "..."
    return kept.encode("utf-8", "backslashreplace").decode("utf-8")


def bounded(text: str, bytes_max: int = OUTPUT_BYTES_MAX) -> str:
    """The text itself, or its head and tail around a note of how much is missing."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= bytes_max:
        return data.decode("utf-8")
    half = (bytes_max - 64) // 2  # 64 bytes are room for the note
    note = f"\n... {len(data) - 2 * half} bytes left out ...\n"
    return data[:half].decode("utf-8", "ignore") + note + data[-half:].decode("utf-8", "ignore")


def _standing(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail") and not report.failed:
        return "xfailed" if report.skipped else "xpassed"
    return report.outcome


def _is_subtest(report: pytest.TestReport | pytest.CollectReport) -> bool:
    # pytest 9 says SubtestReport, the plugin for older ones SubTestReport: none is always there.
    return type(report).__name__.lower() == "subtestreport"


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _name_prefixes(nodeid: str) -> list[str]:
    """The names a test answers to within its file: its own, its class's, without its parameters."""
    full = nodeid.partition("::")[2]
    names = full.partition("[")[0].split("::")
    return [full, *("::".join(names[:depth]) for depth in range(1, len(names) + 1))]


def _keep(config: pytest.Config, items: list[pytest.Item], wanted: list[bool]) -> None:
    dropped = [item for item, keep in zip(items, wanted) if not keep]
    if dropped:
        items[:] = [item for item, keep in zip(items, wanted) if keep]
        config.hook.pytest_deselected(items=dropped)


def _put(path: str, record: dict[str, Any], *, pid: int, flag: int) -> None:
    # A test may fork and its child may come back into pytest: that one must not write.
    if os.getpid() != pid:
        return
    data = json.dumps(record).encode("ascii") + b"\n"
    # Opened for each record, so that tests which close or count descriptors are left in peace;
    # written in one call, so that being killed never leaves half of a record of ours.
    target = os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o644)
    try:
        written = os.write(target, data)
    finally:
        os.close(target)
    if written != len(data):
        raise OSError(f"only {written} of {len(data)} bytes fitted into {path}; is the disk full?")
