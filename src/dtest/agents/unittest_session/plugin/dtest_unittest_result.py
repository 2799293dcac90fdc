"""Turns what unittest says of a test into one verdict, and writes it as one JSON line."""

from __future__ import annotations

import inspect
import io
import re
import sys
import traceback
import unittest
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple, cast

from dtest_world import World

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
# ruff: noqa: N802 - unittest's own names
OUTPUT_CHARS_MAX = 65_536
MESSAGE_CHARS_MAX = 1_000
_WORST_FIRST = ("error", "failed", "xpassed", "xfailed", "skipped", "passed")
_FIXTURE = re.compile(r"(\w+) \((.*)\)")


class Said(NamedTuple):
    """One thing that unittest said of a test."""

    outcome: str
    message: str = ""
    text: str = ""


class Recorder:
    """Appends records to the session's file."""

    def __init__(self, path: str, reported: Set[str]) -> None:
        self._path = path
        self._reported = reported

    def write(self, record: Dict[str, Any]) -> None:
        """Append a record; a process that a test forked writes nothing."""
        World.put(self._path, record)

    def case(
        self,
        number: Optional[int],
        nodeid: str,
        said: Said,
        *,
        phase: str,
        times: Tuple[float, float],
        line: Any = None,
    ) -> None:
        """Tell a verdict; ``times`` are its start and how long it took."""
        started_at, took_s = times
        self.write(
            {
                "kind": "case",
                "number": number,
                "nodeid": nodeid,
                "outcome": said.outcome,
                "phase": phase,
                "message": one_line(said.message),
                "output": bounded(said.text),
                "at": started_at,
                "duration_s": round(took_s, 6),
                "file": nodeid.partition("::")[0],
                "line": line,
            }
        )

    def fail(self, number: Optional[int], phase: str, nodeid: str, message: str) -> None:
        """Tell an error that belongs to no test that ran."""
        said = Said("error", message, message)
        self.case(number, nodeid, said, phase=phase, times=(World.now(), 0.0))

    def uncollected(self, file: str, outcome: str, message: str, text: str) -> None:
        """Tell of a file that could not be imported or skips itself, once."""
        if file not in self._reported:
            self._reported.add(file)
            said = Said(outcome, message, text)
            self.case(None, file, said, phase="collect", times=(World.now(), 0.0))

    def failed_import(self, file: str, info: Any) -> None:
        """Tell of a file whose import raised."""
        text = "".join(traceback.format_exception(*info))
        self.uncollected(file, "error", "".join(traceback.format_exception_only(*info[:2])), text)


class _Output(io.TextIOBase):
    """Keeps the head and the tail of what a test prints."""

    def __init__(self) -> None:
        super().__init__()
        self._head: List[str] = []
        self._tail = ""
        self._room = OUTPUT_CHARS_MAX // 2
        self._dropped = 0

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Keep what fits."""
        head, rest = text[: self._room], text[self._room :]
        if head:
            self._head.append(head)
            self._room -= len(head)
        if rest:
            self._tail += rest
            beyond = len(self._tail) - OUTPUT_CHARS_MAX // 2
            if beyond > OUTPUT_CHARS_MAX:  # seldom, since each time copies all
                self._cut(beyond)
        return len(text)

    def _cut(self, beyond: int) -> None:
        self._dropped += beyond
        self._tail = self._tail[beyond:]

    def text(self) -> str:
        """Return what was kept."""
        self._cut(max(0, len(self._tail) - OUTPUT_CHARS_MAX // 2))
        note = f"\n... {self._dropped} characters left out ...\n" if self._dropped else ""
        return "".join(self._head) + note + self._tail


class Result(unittest.TestResult):
    """What unittest tells; one verdict for each test that was expected."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._number: Optional[int] = None
        self._nodeid = ""
        self._test: Optional[unittest.TestCase] = None
        self._said: List[Said] = []
        self._has_started = False
        self._unstarted: Optional[Said] = None
        self._began = 0.0
        self._fixtures: Dict[str, Said] = {}
        """Of classes and modules whose set-up came to no good end."""
        self._output = _Output()
        self._streams = (sys.stdout, sys.stderr)

    # -- the suite's side -------------------------------------------------------------------------

    def expect(self, number: Optional[int], nodeid: str, test: unittest.TestCase) -> None:
        """Take the next test; what is torn down first still belongs to the last one."""
        self._next = (number, nodeid, test)
        self._has_started = False
        self._unstarted = None

    def conclude(self) -> None:
        """Give a verdict to a test that was not even started: its class or module is to blame."""
        number, nodeid, test = self._next
        if self._has_started:
            return
        times = (World.now(), 0.0)
        if self._unstarted is not None:
            self._recorder.case(number, nodeid, self._unstarted, phase="call", times=times)
            return
        of_class = f"{type(test).__module__}.{type(test).__qualname__}"
        unknown = Said("error", "unittest did not run it, and did not say why")
        said = self._fixtures.get(of_class) or self._fixtures.get(type(test).__module__) or unknown
        self._number, self._nodeid = number, nodeid
        self._recorder.case(number, nodeid, said, phase="setup", times=times)

    def interrupted(self, suite: unittest.TestSuite) -> None:
        """Tear down what is set up when the run is stopped; whatever that raises is not told."""
        test, own = self._test, cast("Any", suite)
        steps: List[Any] = [] if test is None else [test.tearDown, test.doCleanups]
        steps.append(lambda: own._tearDownPreviousClass(None, self))
        steps.append(lambda: own._handleModuleTearDown(self))
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the run is over, and the rest is to follow
                print(f"dtest: while stopping: {error!r}")
        if test is not None:
            sys.stdout, sys.stderr = self._streams
            said = Said("error", "interrupted: KeyboardInterrupt")
            took_s = World.now() - self._began
            times = (self._began, took_s)
            self._recorder.case(self._number, self._nodeid, said, phase="call", times=times)

    # -- unittest's side --------------------------------------------------------------------------

    def startTest(self, test: unittest.TestCase) -> None:
        """Begin."""
        super().startTest(test)
        self._number, self._nodeid, self._test = self._next
        self._has_started = True
        self._said = []
        self._output = _Output()
        self._streams = (sys.stdout, sys.stderr)
        sys.stdout = sys.stderr = self._output
        self._began = World.now()
        started = {"kind": "started", "number": self._number, "nodeid": self._nodeid}
        self._recorder.write({**started, "at": self._began})

    def stopTest(self, test: unittest.TestCase) -> None:
        """Write the verdict."""
        if self._test is None:
            return
        took_s = World.now() - self._began
        sys.stdout, sys.stderr = self._streams
        self._test = None
        said = judge(self._said)
        printed = self._output.text()
        if said.outcome == "passed":
            said = said._replace(text="")
        elif printed:
            said = said._replace(text=f"{said.text}\n---- output ----\n{printed}".lstrip("\n"))
        times = (self._began, took_s)
        number, line = self._number, _line(test)
        self._recorder.case(number, self._nodeid, said, phase="call", times=times, line=line)
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        """It passed."""
        self._said.append(Said("passed"))

    def addError(self, test: Any, err: Any) -> None:
        """It raised; or a fixture of a class or module did."""
        said = self._raised("error", test, err)
        if self._test is not None:
            self._said.append(said)
        else:
            self._fixture(test, said)

    def addFailure(self, test: Any, err: Any) -> None:
        """An assertion failed."""
        self._said.append(self._raised("failed", test, err))

    def addSkip(self, test: Any, reason: str) -> None:
        """It skipped itself; or only a part of it; or its class or module is skipped."""
        if self._test is None and test is self._next[2]:
            self._unstarted = Said("skipped", reason)  # Python 3.12.1 does not start it
        elif self._test is None:
            self._fixture(test, Said("skipped", reason))
        elif test is self._test:
            self._said.append(Said("skipped", reason))
        else:
            self._said.append(Said("passed", f"a subtest was skipped: {reason}"))

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        """It failed as it was expected to."""
        self._said.append(self._raised("xfailed", test, err))

    def addUnexpectedSuccess(self, test: Any) -> None:
        """It was expected to fail. unittest counts that as a failure of the run."""
        self._said.append(Said("failed", "unexpected success: it is marked with expectedFailure"))

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        """A part of it ended."""
        if err is not None:
            failed = issubclass(err[0], test.failureException)
            said = self._raised("failed" if failed else "error", test, err)
            name = subtest.id()[len(test.id()) :].strip()
            text = f"subtest {name}\n{said.text}"
            self._said.append(Said(said.outcome, f"{name}: {said.message}", text))

    def _raised(self, outcome: str, test: Any, err: Any) -> Said:
        message = "".join(traceback.format_exception_only(*err[:2]))
        return Said(outcome, message, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def _fixture(self, holder: Any, said: Said) -> None:
        """Keep what a set-up came to; a tear-down is an error of its class or module."""
        found = _FIXTURE.fullmatch(holder.id())
        kind, owner = (found[1], found[2]) if found is not None else ("", holder.id())
        if kind.startswith("setUp"):
            before = self._fixtures.get(owner)
            worse = before is None or said.outcome == "error"
            self._fixtures[owner] = said if worse or before is None else before
            return
        file, _, rest = self._nodeid.partition("::")
        of_class = rest.rpartition("::")[0]
        nodeid = f"{file}::{of_class}" if kind == "tearDownClass" and of_class else file
        said = said._replace(message=f"{kind or 'fixture'}: {said.message}")
        self._recorder.case(None, nodeid, said, phase="teardown", times=(World.now(), 0.0))


def judge(said: List[Said]) -> Said:
    """Make one verdict of all that was said of a test: the worst counts."""
    if not said:
        return Said("error", "unittest did not say how it ended")
    worst = min(said, key=lambda each: _WORST_FIRST.index(each.outcome))
    same = [each for each in said if each.outcome in {"error", "failed"}]
    if len(same) < 2:  # noqa: PLR2004 - several
        return worst
    text = "\n".join(each.text for each in same if each.text)
    return Said(worst.outcome, f"{one_line(worst.message)} (and {len(same) - 1} more)", text)


def one_line(text: str) -> str:
    """The first line of a text, short enough for a list."""
    line = next(iter(text.strip().splitlines()), "")
    kept = line if len(line) <= MESSAGE_CHARS_MAX else line[: MESSAGE_CHARS_MAX - 3] + "..."
    return kept.encode("utf-8", "backslashreplace").decode("utf-8")


def bounded(text: str) -> str:
    """The text itself, or its head and tail around a note of how much is missing."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= OUTPUT_CHARS_MAX:
        return text
    half = OUTPUT_CHARS_MAX // 2 - 32
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _line(test: unittest.TestCase) -> Optional[int]:
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
    return code.co_firstlineno if code is not None else None
