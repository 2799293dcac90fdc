"""Run unittest tests that come in by a file, from inside the interpreter under test.

The session stays: modules are imported once, and class and module fixtures run as unittest runs
them. It never imports dtest: the foreign interpreter has Python 3.8 or later, and nothing else.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import json
import os
import sys
import threading
import unittest
from collections import deque
from typing import Any, Deque, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

# ruff: noqa: E402, INP001 - the directory is put on a foreign import path: no package of ours
HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(os.path.dirname(os.path.dirname(HERE)), "pytest_session", "plugin")
"""What all sessions share lies there."""
sys.path.append(SHARED)
from dtest_places import Missing, Places, brief, place_in
from dtest_unittest_names import (
    flat,
    function_of,
    group_of,
    is_stand_in,
    last_line,
    nodeid_of,
)
from dtest_unittest_result import Recorder, Result
from dtest_world import World

LOOK_EVERY_S = 0.002
PATTERN = "test*.py"


class Planned(NamedTuple):
    """One test, and the unit that it came with."""

    unit: str
    number: Optional[int]
    nodeid: str
    test: unittest.TestCase


class Options(NamedTuple):
    """What a caller may say behind the runner's name."""

    pattern: str
    top: Optional[str]


class Finder(unittest.TestLoader):
    """Finds tests as unittest does, and notes the file that each was found by."""

    def __init__(self, recorder: Recorder, options: Options, deadly: List[str]) -> None:
        super().__init__()
        self.by_file: Dict[str, List[unittest.TestCase]] = {}
        self.places: Places[unittest.TestCase] = Places()
        self.broken: List[str] = []
        self.skipped: List[str] = []
        self._recorder = recorder
        self._options = options
        self._deadly = set(deadly)
        self._known: Dict[int, unittest.TestCase] = {}
        self._modules: Set[str] = set()
        self._tops: List[str] = []
        self._top = os.getcwd()

    def find(self, path: str) -> None:
        """Find what a directory or a file holds."""
        if os.path.isdir(path):
            self._enter(path)
            found = self.discover(path, self._options.pattern, self._top)
        else:
            found = self._module_tests(path)
        for test in flat(found):
            if id(test) not in self._known:
                self._not_loaded(test, path)

    def file(self, path: str) -> List[unittest.TestCase]:
        """Return the tests of a file."""
        if path not in self.by_file:
            self.find(path)
        return self.by_file.setdefault(path, [])

    def _module_tests(self, path: str) -> unittest.TestSuite:
        self._enter(os.path.dirname(path) or ".")
        name = os.path.splitext(os.path.relpath(path, self._top))[0].replace(os.sep, ".")
        name = name[: -len(".__init__")] if name.endswith(".__init__") else name
        if not os.path.isfile(path):
            self._recorder.fail(None, "collect", path, "not found: there is no such file here")
            self.broken.append(path)
            return unittest.TestSuite()
        try:
            module = self._get_module_from_name(name)
        except unittest.SkipTest as skip:
            self._told(path, "skipped", str(skip), "")
            return unittest.TestSuite()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self._recorder.failed_import(path, sys.exc_info())
            self.broken.append(path)
            return unittest.TestSuite()
        # As discovery does, so that `load_tests` is told the pattern.
        return self.loadTestsFromModule(module, pattern=self._options.pattern)

    def _enter(self, directory: str) -> None:
        """Have modules be found from the outermost package that the directory is in."""
        top = os.path.abspath(self._options.top or directory)
        here = os.getcwd()
        while (
            self._options.top is None
            and top != here
            and os.path.isfile(os.path.join(top, "__init__.py"))
        ):
            top = os.path.dirname(top)
        self._top = top
        self._top_level_dir = None
        if top not in self._tops:
            self._tops.append(top)
        if top not in sys.path:
            sys.path.insert(0, top)

    def _get_module_from_name(self, name: str) -> Any:
        """Import a module as unittest does, and say so first: its import may end the process."""
        file = self._file_of(name)
        if file in self._deadly:
            raise unittest.SkipTest("its import ended an earlier process")
        self._recorder.write({"kind": "collecting", "files": [file]})
        __import__(name)
        self._recorder.write({"kind": "collecting", "files": []})
        return sys.modules[name]

    def loadTestsFromModule(self, module: Any, *args: Any, **more: Any) -> unittest.TestSuite:  # noqa: N802
        """Note which tests a module holds."""
        suite = super().loadTestsFromModule(module, *args, **more)
        file = os.path.relpath(module.__file__) if getattr(module, "__file__", None) else "?"
        is_new = module.__name__ not in self._modules
        self._modules.add(module.__name__)  # several paths may lead to one module
        for test in flat(suite):
            if id(test) not in self._known and not is_stand_in(test):
                self._known[id(test)] = test
                if is_new:
                    self._hold(file, test)
        return suite

    def _hold(self, file: str, test: unittest.TestCase) -> None:
        self.by_file.setdefault(file, []).append(test)
        self.places.add(test, file=file, function=function_of(test), name=nodeid_of(file, test))

    def _not_loaded(self, test: unittest.TestCase, path: str) -> None:
        """Tell of a stand-in for a module that could not be imported, or skips itself."""
        self._known[id(test)] = test
        if not is_stand_in(test):
            self._hold(path, test)
            return
        file = self._file_of(str(getattr(test, "_testMethodName", "")))
        if file in self._deadly:
            self.broken.append(file)
            return
        if file in self.broken or file in self.skipped:
            return
        told = unittest.TestResult()
        test.run(told)
        for _, reason in told.skipped:
            self._told(file, "skipped", reason, "")
        for _, text in told.errors:
            self._told(file, "error", last_line(text), text)

    def _told(self, file: str, outcome: str, message: str, text: str) -> None:
        (self.broken if outcome == "error" else self.skipped).append(file)
        self._recorder.uncollected(file, outcome, message, text)

    def _file_of(self, name: str) -> str:
        base = os.path.join(self._top, *name.split("."))
        package = os.path.join(base, "__init__.py")
        return os.path.relpath(package if os.path.isfile(package) else f"{base}.py")


class FedSuite(unittest.TestSuite):
    """Hands out tests one by one as they come; unittest runs fixtures between them as ever."""

    _cleanup = False

    def __init__(self, feeding: "Feeding", result: Result) -> None:
        super().__init__()
        self._feeding = feeding
        self._result = result

    def __iter__(self) -> Iterator[unittest.TestCase]:
        """Yield tests until the file says that nothing more will come."""
        for planned in self._feeding.tests():
            self._result.expect(planned.number, planned.nodeid, planned.test)
            yield planned.test
            self._result.conclude()
            self._feeding.ran(planned.unit)


class Feeding:
    """The file of units, and what of it has run."""

    def __init__(self, request: Dict[str, Any], finder: Finder, recorder: Recorder) -> None:
        self._path = request["feed"]
        self._done = request["done"]
        self._finder = finder
        self._recorder = recorder
        self._offset = 0
        self._planned: Deque[Planned] = deque()
        self._left: Dict[str, int] = {}
        self._current = ""
        self._ended = False

    def tests(self) -> Iterator[Planned]:
        """Yield tests as they come."""
        while True:
            self._read()
            if self._planned:
                planned = self._planned.popleft()
                if planned.unit != self._current:
                    self._current = planned.unit
                    begin = {"kind": "begin", "unit": planned.unit, "at": World.now()}
                    self._recorder.write(begin)
                yield planned
            elif self._ended:
                return
            else:
                World.sleep(LOOK_EVERY_S)

    def ran(self, unit: str, count: int = 1) -> None:
        """Count a test, and tell the end of its unit."""
        self._left[unit] -= count
        if not self._left[unit]:
            del self._left[unit]
            self._recorder.write({"kind": "unit", "unit": unit, "at": World.now()})

    def _read(self) -> None:
        self._offset, lines = World.lines_after(self._path, self._offset)
        for line in lines:
            order = World.loads(line)
            if "unit" in order and order["unit"]["id"] not in self._done["units"]:
                self._plan(order["unit"])
            self._ended = self._ended or bool(order.get("end"))

    def _plan(self, unit: Dict[str, Any]) -> None:
        name = unit["id"]
        told = set(self._done["reported"].get(name, ()))
        planned = [
            Planned(name, number, nodeid, test)
            for part in unit["parts"]
            for number, nodeid, test in self._tests(part, told)
        ]
        self._left[name] = len(planned)
        self._planned.extend(planned)
        if not planned:
            self.ran(name, 0)

    def _tests(
        self, part: Dict[str, Any], told: Set[Any]
    ) -> Iterator[Tuple[Optional[int], str, unittest.TestCase]]:
        """Find the tests of a part by their places; tell of those that are not there."""
        file = part["file"]
        deadly = file in self._done["files"]
        tests = [] if deadly else self._finder.file(file)
        if part["tests"] is None:
            named = ((nodeid_of(file, test), test) for test in tests)
            yield from ((None, nodeid, test) for nodeid, test in named if nodeid not in told)
            return
        for planned in part["tests"]:
            number = planned["number"]
            if number in told:
                continue
            try:
                test = self._finder.places.find(file, place_in(planned), planned["name"])
            except Missing as error:
                problem = str(error)
                if deadly:
                    problem = "its file ends the process when it is imported"
                elif file in self._finder.broken:
                    problem = "its file could not be collected here"
                self._recorder.fail(number, "collect", planned["name"] or file, problem)
                continue
            yield number, nodeid_of(file, test), test


def main(argv: List[str]) -> int:
    """Collect if that is asked for, then run what comes."""
    with open(argv[0], encoding="utf-8") as stream:
        request = json.load(stream)
    World.own_pid = os.getpid()
    # What `python -m unittest` sees: the directory it was started in.
    own = {HERE, SHARED}
    others = (entry for entry in sys.path if os.path.abspath(entry) not in own)
    sys.path[:] = [os.getcwd(), *others]
    sys.argv[:] = ["python -m unittest"]
    # Processes that tests spawn by `multiprocessing` import the main module anew, unless it is one
    # that `-m` ran.
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("unittest.__main__")
    faulthandler.enable()
    recorder = Recorder(request["out"], set(request["reported"]))
    options = read_options(request["arguments"])
    for path in request["paths"] if request["collect"] else ():
        if not os.path.exists(path.partition("::")[0]):
            sys.stderr.write(f"dtest: there is no {path} here\n")
            return 2
    if not request["again"]:
        recorder.write({"kind": "session", "python": sys.version.split()[0]})
    finder = Finder(recorder, options, request["done"]["files"])
    if request["collect"]:
        collect(finder, request["paths"], recorder)
    result = Result(recorder)
    suite = FedSuite(Feeding(request, finder, recorder), result)
    try:
        suite.run(result)
    except KeyboardInterrupt:  # a stop asks first: what was set up is torn down
        result.interrupted(suite)
    own_thread = threading.main_thread()
    threads = [
        each.name for each in threading.enumerate() if each is not own_thread and not each.daemon
    ]
    ended = {"exitstatus": 0, "natural": 0, "stopped": "", "internal": "", "threads": threads}
    World.put(os.path.join(request["scratch"], "ended.json"), ended, anew=True)
    return 0


def read_options(arguments: List[str]) -> Options:
    """Parse what the caller says; argparse ends the process at what is wrong."""
    parser = argparse.ArgumentParser(prog="unittest", usage="unittest [-p PATTERN] [-t DIRECTORY]")
    parser.add_argument("-p", "--pattern", default=PATTERN, help="of files (default: %(default)s)")
    parser.add_argument("-t", "--top-level-directory", help="that modules are named from")
    options = parser.parse_args(arguments)
    return Options(options.pattern, options.top_level_directory)


def collect(finder: Finder, paths: List[str], recorder: Recorder) -> None:
    """Find all, and tell what there is."""
    named: Dict[str, List[str]] = {}
    for path in paths or ["."]:
        file, _, name = path.partition("::")
        file = os.path.normpath(file)
        if name:
            named.setdefault(file, []).append(path)
        finder.find(file)
    nodeids: List[str] = []
    groups: List[str] = []
    functions: Dict[Tuple[str, str], int] = {}
    listed: List[List[Any]] = []
    places: List[Tuple[int, int, str]] = []
    for file, tests in finder.by_file.items():
        wanted = named.get(file)
        for test in tests:
            nodeid = nodeid_of(file, test)
            if wanted is None or any(
                nodeid == each or nodeid.startswith(f"{each}::") for each in wanted
            ):
                nodeids.append(nodeid)
                groups.append(group_of(file, test))
                _, place = finder.places.of(test)
                key = (file, place.function)
                if key not in functions:
                    functions[key] = len(listed)
                    listed.append([file, place.function, place.count, place.names])
                name = brief(nodeid)
                places.append((functions[key], place.index, name if name != nodeid else ""))
    for each in (each for wanted in named.values() for each in wanted):
        if not any(nodeid == each or nodeid.startswith(f"{each}::") for nodeid in nodeids):
            recorder.fail(None, "collect", each, "not found: no test of this name")
            finder.broken.append(each)
    collected: Dict[str, Any] = {"nodeids": nodeids, "groups": groups, "maxfail": 0}
    collected.update(functions=listed, places=places)
    lost = {
        "broken": list(dict.fromkeys(finder.broken)),
        "skipped": list(dict.fromkeys(finder.skipped)),
    }
    recorder.write({"kind": "collected", **collected, **lost})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
