"""Write one JSON line per test case while pytest runs, from inside the interpreter under test.

It neither restarts anything nor decides what a whole session is worth: that is for the script that
started pytest and told this plugin, in a request file, what to select and where to write. It never
imports dtest, because the foreign interpreter has only pytest (7.0 or later) and Python 3.8 or
later. PYTEST_DONT_REWRITE: it has no assertion to explain, so nothing is to be recompiled.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import platform
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Generator, Optional, Tuple, TypedDict

import pytest
from dtest_pytest_feed import Done, Feeding, file_of, group_of
from dtest_pytest_marks import MARKER_LINE, marks_of
from dtest_pytest_verdict import (
    PHASES,
    Verdict,
    bounded,
    full_output,
    is_subtest,
    judge,
    one_line,
    reason,
)

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
REQUEST_ENV = "DTEST_PYTEST_CASES"

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
    again: bool  # an earlier run of this session has got so far
    feed: str | None  # a file that says what to run while it runs, in the place of paths
    collect: bool  # with a feed: collect all first and say what there is
    done: Done | None  # of the feed, by earlier runs


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
    atexit.register(_leave_quickly)
    recorder = Recorder(request)
    pluginmanager.register(recorder, "dtest_pytest_cases_recorder")
    if request["feed"] is not None and request["done"] is not None:
        feeding = Feeding(
            request["feed"],
            request["done"],
            recorder.write,
            recorder.fail,
            told=recorder.tell_collected if request["collect"] else None,
        )
        pluginmanager.register(feeding, "dtest_pytest_feed")


def _restore_import_path(pythonpath: str | None) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    if pythonpath is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = pythonpath


def _leave_quickly() -> None:
    """Leave out the search for garbage that follows all functions of ``atexit``.

    It walks through all that the suite has loaded, for some tenths of a second, and finds what
    can no longer matter. Where an extension of nanobind is loaded it is left to run: those count
    what is left, and complain.
    """
    api = ctypes.pythonapi
    try:
        api.PyInterpreterState_Get.restype = ctypes.c_void_p
        api.PyInterpreterState_GetDict.argtypes = [ctypes.c_void_p]
        api.PyInterpreterState_GetDict.restype = ctypes.c_void_p  # borrowed
        place = api.PyInterpreterState_GetDict(api.PyInterpreterState_Get())
    except AttributeError:  # Python 3.8, PyPy
        return
    kept: dict[object, object] = ctypes.cast(place, ctypes.py_object).value
    if not any(str(name).startswith("__nb_internals") for name in kept):
        gc.freeze()


@dataclass
class Attempt:
    """A test that has started and has no verdict yet."""

    nodeid: str
    line: int | None
    started_at: float
    reports: list[pytest.TestReport] = field(default_factory=list)
    void: bool = False  # a plugin has dropped this result and runs the test again


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
        self._uncollected: dict[str, list[str]] = {"error": [], "skipped": []}
        self._failures_max = 0
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
        self._failures_max = int(config.option.maxfail or 0)
        if self._request["feed"] is not None:
            config.option.maxfail = 0  # one session of several: the whole run is counted elsewhere
        elif config.option.maxfail:
            left = config.option.maxfail - self._request["failures_before"]
            config.option.maxfail = max(1, left)
        yield

    def pytest_report_header(self) -> list[str]:
        """Say which option was overruled."""
        return self._header

    def pytest_configure(self, config: pytest.Config) -> None:
        """Make the marker known, for suites that refuse unknown ones."""
        config.addinivalue_line("markers", MARKER_LINE)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Write `session`, once however often pytest is started."""
        if not self._request["again"]:
            versions = {"python": platform.python_version(), "pytest": pytest.__version__}
            self.write({"kind": "session", **versions, "rootdir": str(session.config.rootpath)})

    def pytest_collectstart(self) -> None:
        """Note the time, which the report of a failed collection lacks."""
        self._collecting_since = self._clock()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write the case of a file that could not be imported or skipped itself."""
        if report.passed:
            return
        self._uncollected_files.add(file_of(report.nodeid))
        verdict = Verdict("error" if report.failed else "skipped", "collect", reason(report))
        if report.nodeid in self._reported:
            self._uncollected[verdict.outcome].append(report.nodeid)
            return
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
        """Say what was collected; where tests come by a feed, only who has collected all knows."""
        if self._request["feed"] is None:
            self.tell_collected(session)

    def tell_collected(self, session: pytest.Session) -> None:
        """Write `collected`, and leave the ids where only the session reads them."""
        nodeids = [item.nodeid for item in session.items]
        option = session.config.option
        self._leave("collected.json", {"nodeids": nodeids, "maxfail": option.maxfail})
        if self._request["collect"] or not self._request["again"]:
            files = Counter(file_of(nodeid) for nodeid in nodeids)
            record: dict[str, Any] = {"kind": "collected", "count": len(nodeids), "files": files}
            if self._request["collect"]:
                record["groups"] = [group_of(item) for item in session.items]
                record.update(marks_of(session.items))
                record.update(nodeids=nodeids, maxfail=self._failures_max)
                lost = self._uncollected
                record.update(broken=lost["error"], skipped=lost["skipped"])
            self.write(record)

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

    def fail(self, phase: str, nodeid: str, problem: str) -> None:
        """Write an error that no report tells: a planned test that is not there, a late teardown.

        What could not be collected was told for the whole file.
        """
        told = file_of(nodeid) in self._uncollected_files or nodeid in self._reported
        if not (phase == "collect" and told):
            attempt = Attempt(nodeid, None, self._clock())
            verdict = Verdict("error", phase, one_line(problem))
            self._write_case(attempt, verdict, took_s=0.0, output=problem)

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
        if line is not None and (line < 0 or os.path.normpath(defined_in) != file_of(nodeid)):
            line = None
        at = self._clock()
        self._current = attempt = Attempt(nodeid, None if line is None else line + 1, at)
        self.write({"kind": "started", "nodeid": nodeid, "at": at})
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
        output = "" if verdict.outcome == "passed" else full_output(reports)
        self._write_case(attempt, verdict, took_s=took_s, output=output)

    def _write_case(self, test: Attempt, verdict: Verdict, *, took_s: float, output: str) -> None:
        if verdict.phase == "collect":
            self._uncollected.setdefault(verdict.outcome, []).append(test.nodeid)
        self._reported.add(test.nodeid)
        times = {"started_at": test.started_at, "duration_s": round(took_s, 6)}
        place = {"file": file_of(test.nodeid), "line": test.line}
        case = {**verdict._asdict(), **times, "output": bounded(output), **place}
        self.write({"kind": "case", "nodeid": test.nodeid, **case})

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""
        _put(self._request["out"], record, pid=self._pid, flag=os.O_APPEND)

    def _leave(self, name: str, value: dict[str, Any]) -> None:
        path = os.path.join(self._request["scratch"], name)
        _put(path, value, pid=self._pid, flag=os.O_TRUNC)


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
