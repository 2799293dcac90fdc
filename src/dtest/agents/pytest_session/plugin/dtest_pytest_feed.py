"""Run the tests that come in by a file, one unit after the other, in one pytest session.

The session stays: modules are imported and wide fixtures are set up once, however many units come.
Only the files of a unit are collected, when it comes; all of them at once if a plug-in or a
conftest file looks at the suite as a whole. Like the plugin beside it, this imports nothing but
pytest (7.0 or later) and runs on Python 3.8. PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Protocol, TypedDict

import pytest
from _pytest.runner import collect_one_node  # what pytest itself collects by, since 2015
from dtest_places import Missing, Places, place_in
from dtest_pytest_quiet import silence
from dtest_pytest_tests import file_of
from dtest_pytest_whole import complete_on_demand, relies_on_all
from dtest_world import World

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
LOOK_EVERY_S = 0.002
DIRECTORIES = tuple(filter(None, (getattr(pytest, "Directory", None), pytest.Package)))
"""Before pytest 8 only packages were directories, and the rest was looked through at once."""


class Test(TypedDict):
    """One test of a plan."""

    number: int
    """In the plan."""
    function: str
    index: int
    count: int
    names: str
    """See `Place`."""
    name: str
    """Its node id, brief."""


class Part(TypedDict):
    """Tests of one file."""

    file: str
    """Relative to pytest's root directory."""
    tests: Optional[List[Test]]
    """None for the whole file."""


class Unit(TypedDict):
    """Tests whose end is told at once."""

    id: str
    parts: List[Part]


class Done(TypedDict):
    """What an earlier run of pytest in this session has left behind."""

    units: List[str]
    """Ended as a whole."""
    reported: Dict[str, List[Any]]
    """What has a verdict of each unit that has not ended: numbers, and node ids of the others."""
    files: List[str]
    """Their import ends pytest."""
    singly: bool
    """The import of one of several files ended pytest: it is not known which."""
    cold: bool
    """An import that nobody had asked for ended pytest: none is made ahead any more."""


class Planned(NamedTuple):
    """One test and the unit that it came with."""

    unit: str
    number: Optional[int]
    item: pytest.Item


class Teller(Protocol):
    """Who writes the records."""

    places: Places[pytest.Item]
    uncollected: dict[str, str]

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""

    def fail(self, number: int | None, phase: str, nodeid: str, problem: str) -> None:
        """Write an error that no report tells."""

    def expect(self, number: int | None, nodeid: str) -> None:
        """Take the number of the test that comes next."""

    def know(self, items: list[pytest.Item]) -> None:
        """Take in where tests stand."""

    def stop(self, why: str) -> None:
        """Keep why the suite itself ended the session."""

    def tell_collected(self, session: pytest.Session) -> None:
        """Say what was collected."""


class _Later(pytest.Item):
    """Stands for a test that may still come: it has no fixtures, but belongs to the session."""

    def runtest(self) -> None:
        """Never called."""


class Feeding:
    """The hooks that replace collection and the loop over all tests."""

    def __init__(self, feed: str, done: Done, teller: Teller, *, collects: bool) -> None:
        self._feed = feed
        self._done = done
        self._teller = teller
        self._collects = collects
        """Whether this session tells the others what there is."""
        self._sees_all = collects
        self._offset = 0
        self._planned: deque[Planned] = deque()
        self._left: dict[str, int] = {}
        self._files: dict[str, list[pytest.Collector]] = {}
        """Those whose tests are not collected yet."""
        self._collected: set[str] = set()
        self._searching = False
        self._current = ""
        self._last: tuple[int | None, str] = (None, "")
        self._later: _Later | None = None
        self._no_more_for_now = False
        self._ended = False
        self._ahead: Iterator[pytest.Module] = iter(())
        """Modules that may be imported until the first unit comes."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take the words from the terminal: nobody looks at one session of several."""
        silence(config)

    # -- what there is ----------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Find the files, and import none of them yet; or all, if that is to be seen or told."""
        if self._collects:
            session.perform_collect()
            self._teller.tell_collected(session)
            return True
        collect: Callable[[Any], Iterator[pytest.Item]] = session.genitems
        own: Any = session
        own.genitems = lambda node: collect(node) if self._sees_all else iter(())
        self._searching = True
        try:
            session.perform_collect()
        finally:
            self._searching = False
            del own.genitems
        if not self._sees_all:
            complete_on_demand(session, self._collect_rest)
            if not self._done["cold"]:
                nodes = [node for some in self._files.values() for node in some]
                self._ahead = iter([node for node in nodes if isinstance(node, pytest.Module)])
        return True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Look through all directories first: their conftest files say what they rely on."""
        if not self._searching or report.nodeid or not report.passed:
            return
        if not self._files:
            for node in report.result:
                self._find_files(node)
            self._sees_all = any(relies_on_all(node.config) for node in report.result[:1])

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Say which file is imported: its import may end the process."""
        if self._sees_all and isinstance(collector, pytest.File):
            ahead = not self._collects
            self._teller.write(
                {"kind": "collecting", "files": [file_of(collector.nodeid)], "ahead": ahead}
            )

    def pytest_collection_finish(self) -> None:
        """Say that nothing is imported any more."""
        if self._sees_all:
            self._teller.write({"kind": "collecting", "files": []})

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> Optional[bool]:
        """Leave out files whose import has ended an earlier process."""
        root = str(config.rootpath)
        deadly = {os.path.join(root, file) for file in self._done["files"]}
        return True if str(collection_path) in deadly else None

    def _find_files(self, node: pytest.Item | pytest.Collector) -> None:
        """Look through directories; the nodes stay, for what conftest files say hangs on them."""
        if isinstance(node, pytest.Collector) and isinstance(node, DIRECTORIES):
            report = collect_one_node(node)
            node.ihook.pytest_collectreport(report=report)
            for inner in report.result if report.passed else ():
                self._find_files(inner)
        elif isinstance(node, pytest.Collector):
            self._files.setdefault(file_of(node.nodeid), []).append(node)

    # -- the loop ---------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run what comes until the file says that nothing more will.

        The last test in hand waits for its successor: which fixtures outlive it depends on that.
        When none comes for now, those of the session do.
        """
        self._later = _Later.from_parent(session, name="more to come")
        while True:
            self._read(session)
            if len(self._planned) > 1 or (self._planned and self._no_more_for_now):
                self._run_one(session)
            elif self._ended and not self._planned:
                self._tear_down(session)
                return True
            elif self._planned or not self._import_ahead(session):
                World.sleep(LOOK_EVERY_S)

    def _import_ahead(self, session: pytest.Session) -> bool:
        """Import a module while the suite is collected elsewhere; say whether there was one.

        Only the import: a file is collected when it is asked for, and then its errors are told.
        """
        for node in self._ahead:
            file = file_of(node.nodeid)
            if file in self._done["files"]:
                continue
            self._teller.write({"kind": "collecting", "files": [file], "ahead": True})
            capture = session.config.pluginmanager.getplugin("capturemanager")
            if capture is not None:
                capture.resume_global_capture()
            try:
                _ = node.obj
            except (Exception, pytest.fail.Exception, pytest.skip.Exception, SystemExit):  # noqa: BLE001, S110
                pass  # whatever it is, the collection will meet it again
            finally:
                if capture is not None:
                    capture.suspend_global_capture()
                    capture.read_global_capture()
            self._teller.write({"kind": "collecting", "files": []})
            return True
        return False

    def _run_one(self, session: pytest.Session) -> None:
        planned = self._planned.popleft()
        following = self._planned[0].item if self._planned else self._later
        self._last = (planned.number, planned.item.nodeid)
        if planned.unit != self._current:
            self._current = planned.unit
            self._teller.write({"kind": "begin", "unit": planned.unit, "at": World.now()})
        self._teller.expect(*self._last)
        planned.item.config.hook.pytest_runtest_protocol(item=planned.item, nextitem=following)
        self._ran(planned.unit)
        if session.shouldfail:
            self._teller.stop(str(session.shouldfail))
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)

    def _tear_down(self, session: pytest.Session) -> None:
        """End the fixtures of the session here, where an error has a test to stand at."""
        self._teller.write({"kind": "closing", "number": self._last[0], "nodeid": self._last[1]})
        try:
            session._setupstate.teardown_exact(None)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever a fixture raises
            self._teller.fail(
                self._last[0], "teardown", self._last[1], f"{type(error).__name__}: {error}"
            )

    def _ran(self, unit: str, count: int = 1) -> None:
        self._left[unit] -= count
        if not self._left[unit]:
            del self._left[unit]
            self._teller.write({"kind": "unit", "unit": unit, "at": World.now()})

    # -- what comes -------------------------------------------------------------------------------

    def _read(self, session: pytest.Session) -> None:
        self._offset, lines = World.lines_after(self._feed, self._offset)
        units: list[Unit] = []
        for line in lines:
            order = World.loads(line)
            if "unit" in order:
                units.append(order["unit"])
                self._no_more_for_now = False
            self._no_more_for_now |= bool(order.get("wait"))
            self._ended |= bool(order.get("end"))
        if units:
            self._add(session, units)

    def _add(self, session: pytest.Session, units: list[Unit]) -> None:
        self._ahead = iter(())
        units = [unit for unit in units if unit["id"] not in self._done["units"]]
        if not self._sees_all:
            self._collect(session, [part["file"] for unit in units for part in unit["parts"]])
        for unit in units:
            self._plan(unit)

    def _collect(self, session: pytest.Session, files: list[str]) -> None:
        new = [
            file
            for file in dict.fromkeys(files)
            if file not in self._collected and file not in self._done["files"]
        ]
        at_once = [[file] for file in new] if self._done["singly"] else [new]
        for some in filter(None, at_once):
            self._teller.write({"kind": "collecting", "files": some})
            self._collect_now(session, some)
            self._teller.write({"kind": "collecting", "files": []})

    def _collect_now(self, session: pytest.Session, files: list[str]) -> None:
        """Collect files; hooks that change tests one by one do so."""
        items: list[pytest.Item] = []
        for file in files:
            self._collected.add(file)
            for node in self._files.pop(file, ()):
                items.extend(session.genitems(node))
        session.config.pluginmanager.check_pending()
        self._teller.know(items)
        session.config.hook.pytest_collection_modifyitems(
            session=session, config=session.config, items=items
        )
        vars(session)["items"].extend(items)
        session.testscollected = len(vars(session)["items"])

    def _collect_rest(self, session: pytest.Session) -> None:
        """Collect what nobody has asked for yet."""
        rest = [file for file in self._files if file not in self._done["files"]]
        if rest:
            self._collect_now(session, rest)

    def _plan(self, unit: Unit) -> None:
        name = unit["id"]
        told = set(self._done["reported"].get(name, ()))
        planned = []
        for part in unit["parts"]:
            for test in part["tests"] or ():
                if test["number"] not in told:
                    found = self._found(part["file"], test)
                    planned += [Planned(name, test["number"], item) for item in found]
            if part["tests"] is None:
                found = self._all_of(part["file"])
                planned += [Planned(name, None, item) for item in found if item.nodeid not in told]
        self._left[name] = len(planned)
        self._planned.extend(planned)
        if not planned:
            self._ran(name, 0)

    def _found(self, file: str, test: Test) -> list[pytest.Item]:
        """Return the test of a plan, or tell why it is not there."""
        try:
            return [self._teller.places.find(file, place_in(test), test["name"])]  # type: ignore[arg-type]
        except Missing as error:
            problem = str(error)
        if file in self._done["files"]:
            problem = "its file ends the process when it is imported"
        elif file in self._teller.uncollected:
            problem = f"its file could not be collected: {self._teller.uncollected[file]}"
        self._teller.fail(test["number"], "collect", test["name"] or file, problem)
        return []

    def _all_of(self, file: str) -> list[pytest.Item]:
        """Return all tests of a file, or tell why there are none."""
        found = self._teller.places.of_file(file)
        if not found and file not in self._done["files"]:
            missing = f"not found: {file} is none of this suite's files here"
            problem = self._teller.uncollected.get(file, missing)
            self._teller.fail(None, "collect", file, problem)
        return found
