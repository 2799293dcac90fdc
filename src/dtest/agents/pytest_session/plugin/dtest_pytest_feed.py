"""Run the tests that come in by a file, one unit after the other, in one pytest session.

The session stays: modules are imported and wide fixtures are set up once, however many units come.
Only the files of a unit are collected, when it comes. Like the plugin beside it, this imports
nothing but pytest (7.0 or later) and runs on Python 3.8. PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, TypedDict

import pytest
from _pytest.runner import collect_one_node  # what pytest itself collects by, since 2015

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
LOOK_EVERY_S = 0.002
TOGETHER = frozenset({"class", "module", "package"})
"""Scopes of fixtures that are dear enough to keep those tests in one unit who share them."""

DIRECTORIES = tuple(filter(None, (getattr(pytest, "Directory", None), pytest.Package)))
"""Before pytest 8 only packages were directories, and the rest was looked through at once."""

Write = Callable[[Dict[str, Any]], None]


class Part(TypedDict):
    """Tests of one file."""

    file: str
    """Relative to pytest's root directory, as in a node id."""
    tests: list[tuple[int, str]] | None
    """Place in the file and node id of each, or none for the whole file."""


class Unit(TypedDict):
    """Tests whose end is told at once."""

    id: str
    parts: list[Part]


class Done(TypedDict):
    """What an earlier run of pytest in this session has left behind."""

    units: list[str]
    """Ended as a whole."""
    reported: dict[str, list[str]]
    """Node ids with a verdict of each unit that has not ended."""
    files: list[str]
    """Their import ends pytest."""
    singly: bool
    """The import of one of several files ended pytest: it is not known which."""
    cold: bool
    """An import that nobody had asked for ended pytest: none is made ahead any more."""


class Planned(NamedTuple):
    """One test and the unit that it came with."""

    unit: str
    item: pytest.Item


class _Later(pytest.Item):
    """Stands for a test that may still come: it has no fixtures, but belongs to the session."""

    def runtest(self) -> None:
        """Never called."""


class Feeding:
    """The hooks that replace collection and the loop over all tests."""

    def __init__(
        self,
        feed: str,
        done: Done,
        write: Write,
        fail: Callable[[str, str, str], None],
        *,
        told: Optional[Callable[[pytest.Session], None]],
    ) -> None:
        self._collect_all = told is not None
        self._told = told
        self._feed = feed
        self._write = write
        self._fail = fail
        self._done = done
        self._offset = 0
        self._planned: deque[Planned] = deque()
        self._left: dict[str, int] = {}
        self._files: dict[str, list[pytest.Collector]] = {}
        """Those whose tests are not collected yet."""
        self._collected: dict[str, list[pytest.Item]] = {}
        self._searching = False
        self._current = ""
        self._last = ""
        self._later: _Later | None = None
        self._no_more_for_now = False
        self._ended = False
        self._ahead: Iterator[pytest.Module] = iter(())
        """Modules that may be imported until the first unit comes."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take the terminal away, as in a worker of xdist: nobody looks at one session of several.

        It is slow, and so are summaries that plugins write there: they import what no test needs.
        """
        config.pluginmanager.unregister(name="terminalreporter")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Find the files, and import none of them yet; or all, if that is to be told."""
        if self._told is not None:
            session.perform_collect()
            self._told(session)
            for item in session.items:
                self._collected.setdefault(file_of(item.nodeid), []).append(item)
            return True
        self._searching = True
        session.perform_collect(genitems=False)
        self._searching = False
        if not self._done["cold"]:
            nodes = [node for some in self._files.values() for node in some]
            self._ahead = iter([node for node in nodes if isinstance(node, pytest.Module)])
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item] | list[pytest.Collector]
    ) -> None:
        """Take what was found while the session still collects: later conftest files are lost."""
        if self._searching:
            for node in items:
                self._find_files(node)
            items.clear()

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Say which file is imported: its import may end the process."""
        if self._collect_all and isinstance(collector, pytest.File):
            self._write({"kind": "collecting", "files": [file_of(collector.nodeid)]})

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
                time.sleep(LOOK_EVERY_S)

    def _import_ahead(self, session: pytest.Session) -> bool:
        """Import a module while the suite is collected elsewhere; say whether there was one.

        Only the import: a file is collected when it is asked for, and then its errors are told.
        """
        for node in self._ahead:
            file = file_of(node.nodeid)
            if file in self._done["files"]:
                continue
            self._write({"kind": "collecting", "files": [file], "ahead": True})
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
            self._write({"kind": "collecting", "files": []})
            return True
        return False

    def _run_one(self, session: pytest.Session) -> None:
        planned = self._planned.popleft()
        following = self._planned[0].item if self._planned else self._later
        self._last = planned.item.nodeid
        if planned.unit != self._current:
            self._current = planned.unit
            self._write({"kind": "begin", "unit": planned.unit, "at": time.time()})
        planned.item.config.hook.pytest_runtest_protocol(item=planned.item, nextitem=following)
        self._ran(planned.unit)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)

    def _tear_down(self, session: pytest.Session) -> None:
        """End the fixtures of the session here, where an error has a test to stand at."""
        try:
            session._setupstate.teardown_exact(None)  # noqa: SLF001 - pytest has no other way
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever a fixture raises
            self._fail("teardown", self._last, f"{type(error).__name__}: {error}")

    def _ran(self, unit: str, count: int = 1) -> None:
        self._left[unit] -= count
        if not self._left[unit]:
            del self._left[unit]
            self._write({"kind": "unit", "unit": unit, "at": time.time()})

    # -- what comes -------------------------------------------------------------------------------

    def _read(self, session: pytest.Session) -> None:
        """Take whole lines; what follows the last of them is still being written."""
        try:
            if os.stat(self._feed).st_size <= self._offset:
                return
        except FileNotFoundError:
            return
        with open(self._feed, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        units: list[Unit] = []
        for line in whole.splitlines():
            order = json.loads(line)
            if "unit" in order:
                units.append(order["unit"])
                self._no_more_for_now = False
            self._no_more_for_now |= bool(order.get("wait"))
            self._ended |= bool(order.get("end"))
        self._add(session, units)

    def _add(self, session: pytest.Session, units: list[Unit]) -> None:
        self._ahead = iter(()) if units else self._ahead
        units = [unit for unit in units if unit["id"] not in self._done["units"]]
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
            self._write({"kind": "collecting", "files": some})
            self._collected.update((file, []) for file in some)
            for item in self._collected_now(session, some):
                self._collected.setdefault(file_of(item.nodeid), []).append(item)
            self._write({"kind": "collecting", "files": []})

    def _collected_now(self, session: pytest.Session, files: list[str]) -> list[pytest.Item]:
        items: list[pytest.Item] = []
        for file in files:
            if file not in self._files and not self._collect_all:
                self._fail("collect", file, f"not found: {file} is none of this suite's files here")
            for node in self._files.pop(file, ()):
                items.extend(session.genitems(node))
        session.config.pluginmanager.check_pending()
        session.config.hook.pytest_collection_modifyitems(
            session=session, config=session.config, items=items
        )
        session.items.extend(items)
        session.testscollected = len(session.items)
        return items

    def _plan(self, unit: Unit) -> None:
        name = unit["id"]
        skipped = set(self._done["reported"].get(name, ()))
        planned = [
            Planned(name, item)
            for part in unit["parts"]
            if part["file"] not in self._done["files"]
            for item in self._items(part)
            if item.nodeid not in skipped
        ]
        self._left[name] = len(planned)
        self._planned.extend(planned)
        if not planned:
            self._ran(name, 0)

    def _items(self, part: Part) -> Iterator[pytest.Item]:
        """Find the tests by their ids, and where every process makes other ids by their places."""
        items = self._collected.get(part["file"], [])
        if part["tests"] is None:
            yield from items
            return
        places: dict[str, deque[int]] = defaultdict(deque)
        for place, item in enumerate(items):
            places[item.nodeid].append(place)
        wanted = {nodeid for _, nodeid in part["tests"]}
        for planned, nodeid in part["tests"]:
            place = places[nodeid].popleft() if places[nodeid] else planned
            if place < len(items) and (
                items[place].nodeid == nodeid or items[place].nodeid not in wanted
            ):
                yield items[place]
            else:
                others = f"not found: {part['file']} has {len(items)} other tests"
                self._fail("collect", nodeid, others)


def file_of(nodeid: str) -> str:
    """Return the file of a node id."""
    return nodeid.partition("::")[0]


def group_of(item: pytest.Item) -> str:
    """Name what a test has to stay together with: its module, its class, or nothing.

    Fixtures that pytest itself makes of ``setUpClass`` count only if the class has one of its own.
    """
    info: Any = getattr(item, "_fixtureinfo", None)
    scopes = set()
    for name, definitions in (info.name2fixturedefs if info is not None else {}).items():
        scope = str(definitions[-1].scope)
        if scope in TOGETHER and not (name.startswith("_unittest_") and _has_plain_setup(item)):
            scopes.add(scope)
    if scopes & {"module", "package"}:
        return file_of(item.nodeid)
    return item.nodeid.rpartition("::")[0] if "class" in scopes else ""


def _has_plain_setup(item: pytest.Item) -> bool:
    import unittest

    cls = getattr(item, "cls", None)
    return cls is not None and all(
        getattr(getattr(cls, name, None), "__func__", None)
        is getattr(unittest.TestCase, name).__func__
        for name in ("setUpClass", "tearDownClass")
    )
