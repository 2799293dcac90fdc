"""GoogleTest programs: listed, run in parts by a filter, followed by what they print.

What is printed says which test a crash took down, and what ended before; the XML report, which a
crashed program does not write, says more of each test.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from dtest.runners import junit
from dtest.runners.case import (
    BAD,
    OUTPUT_CHARS_MAX,
    Case,
    Ended,
    Listing,
    Order,
    Outcome,
    Progress,
    Reading,
    bounded,
    count,
    one_line,
    seconds,
)

DISABLED = "DISABLED_"
ALSO_DISABLED = "--gtest_also_run_disabled_tests"
LINE_BYTES_MAX = 65_536
"""Of a line that does not end: what is beyond is cut."""
_SUITE = re.compile(r"(\S+)\.(?:  # .*)?")
_TEST = re.compile(r"  (\S+)(?:  # .*)?")
_RUN = re.compile(r"\[ RUN      \] (\S+)$")
_END = re.compile(
    r"\[(       OK |  FAILED  |  SKIPPED )\] ([^\s,]+)(?:, where .*)? \(([0-9]+) ms\)$"
)
_OUTCOMES: dict[str, Outcome] = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}
_WHY = re.compile(r"^.+:\d+: (?:Failure|Skipped)$", re.MULTILINE)
_PLACE = re.compile(r".+:\d+(?:: (?:Failure|Skipped))?$")


class GoogleTest:
    """The adapter. A path is a program."""

    listed_by: Literal["command", "paths"] = "command"
    writes_results = True
    limits_tests = False
    tests_max = 500

    def targets(self, order: Order) -> Listing:
        """Only a program can say what it holds."""
        if order.paths:
            return Listing()
        return Listing(problem="name the test programs: `--runner gtest build/a_test`")

    def list_command(self, order: Order, path: str) -> tuple[str, ...]:
        """Ask the program."""
        return (_program(path), *order.arguments, "--gtest_list_tests")

    def listed(self, order: Order, path: str, ended: Ended) -> Listing:
        """Read the list: a suite a line, its tests indented below."""
        suite = ""
        found: list[tuple[str, str, str]] = []
        for line in ended.output.decode("utf-8", "replace").splitlines():
            if (test := _TEST.fullmatch(line)) is not None and suite:
                found.append((path, f"{suite}.{test[1]}", ""))
            elif (named := _SUITE.fullmatch(line)) is not None:
                suite = named[1]
        if ended.exit_code:
            return Listing(problem=f"it did not list its tests: exit status {ended.exit_code}")
        if not found:
            return Listing(problem="it lists no tests: is it a GoogleTest program?")
        return Listing(tuple(found))

    def command(
        self, order: Order, target: str, names: Sequence[str] | None, results: str
    ) -> tuple[str, ...]:
        """Name the tests exactly; the caller's own filter has done its work in the list."""
        words = [word for word in order.arguments if not word.startswith("--gtest_filter")]
        words = words if names is not None else list(order.arguments)
        chosen = () if names is None else (f"--gtest_filter={':'.join(names)}",)
        return (_program(target), *words, *chosen, f"--gtest_output=xml:{results}")

    def progress(self) -> Progress | None:
        """Follow what it prints."""
        return Printed()

    def blamed(self, left: Sequence[str]) -> Sequence[str]:
        """Blame the suite of the first test: the program ended when it was set up."""
        suite = left[0].rpartition(".")[0]
        return [name for name in left if name.rpartition(".")[0] == suite]

    def read(
        self, order: Order, names: Sequence[str] | None, ended: Ended, progress: Progress | None
    ) -> Reading:
        """Read the report, or what was printed where there is none.

        A disabled test that was asked for by name need not stand in either.
        """
        reading = self._told(ended, progress)
        told = {case.name for case in reading.cases}
        disabled = [
            Case(name, "skipped", "disabled")
            for name in names or ()
            if name not in told and is_disabled(order, name)
        ]
        return replace(reading, cases=(*reading.cases, *disabled))

    def _told(self, ended: Ended, progress: Progress | None) -> Reading:
        printed = {case.name: case for case in progress.cases()} if progress is not None else {}
        if not ended.results:
            return Reading(tuple(printed.values()), "it wrote no report")
        found, problem = junit.elements(ended.results[0][1])
        cases = dict(printed)
        for element in found:
            name = f"{element.get('classname')}.{element.get('name')}"
            cases[name] = _case(name, element, printed.get(name))
        return Reading(tuple(cases.values()), problem)


def is_disabled(order: Order, name: str) -> bool:
    """Say whether a test is only listed."""
    return ALSO_DISABLED not in order.arguments and any(
        part.startswith(DISABLED) for part in re.split(r"[./]", name)
    )


def _program(path: str) -> str:
    """Return a path that is not looked up among the programs of the system."""
    return path if "/" in path else f"./{path}"


def _case(name: str, element: junit.Element, printed: Case | None) -> Case:
    outcome, message, text = junit.verdict(element)
    if printed is not None and printed.outcome == "failed":
        outcome = "failed"  # a report that says less than the program is not believed
    said = printed.output if printed is not None else text
    return Case(
        name,
        outcome,
        _message(message or text) if outcome != "passed" else "",
        said if outcome in BAD else "",
        seconds(element.attributes.get("time")),
        element.get("file"),
        count(element.attributes.get("line")),
    )


def _message(text: str) -> str:
    """Return the first line that is not only a place in the source."""
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line("\n".join([line for line in lines if not _PLACE.fullmatch(line)] or lines))


class Printed:
    """What a program printed so far."""

    def __init__(self) -> None:
        self._cases: list[Case] = []
        self._running: str | None = None
        self._rest = b""
        self._head = ""
        self._tail = ""

    def feed(self, data: bytes) -> None:
        """Take what was printed next."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip("\r"))

    def running(self) -> str | None:
        """Name the test that has started and not ended."""
        return self._running

    def said(self) -> str:
        """Return what was printed since the latest test started, head and tail."""
        return bounded(self._head + self._tail + self._rest.decode("utf-8", "replace"))

    def cases(self) -> tuple[Case, ...]:
        """Return the tests that have ended."""
        return tuple(self._cases)

    def _line(self, line: str) -> None:
        started = _RUN.search(line)
        if started is not None:
            self._running, self._head, self._tail = started[1], "", ""
            return
        ended = _END.search(line)
        name = self._running
        if ended is None or name is None or ended[2] != name:
            self._keep(f"{line}\n")
            return
        if ended.start():  # what the test printed last had no end of line
            self._keep(f"{line[: ended.start()]}\n")
        outcome = _OUTCOMES[ended[1].strip()]
        said = bounded(self._head + self._tail) if outcome != "passed" else ""
        why = _WHY.search(said)
        message = _message(said[why.start() :] if why is not None else said)
        self._cases.append(Case(name, outcome, message, said, int(ended[3]) / 1000))
        self._running, self._head, self._tail = None, "", ""

    def _keep(self, text: str) -> None:
        room = OUTPUT_CHARS_MAX - len(self._head)
        self._head += text[:room]
        self._tail = (
            (self._tail + text[room:])[-OUTPUT_CHARS_MAX:] if len(text) > room else self._tail
        )
