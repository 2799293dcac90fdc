"""Runs tests of one target by its runner, again without those that took it down.

Every test that was asked for gets a verdict; what is wrong with the run as a whole is an error of
the target's own.
"""

import glob
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from dtest.agents.runner_session.feed import Test
from dtest.agents.runner_session.process import Processes, describe
from dtest.agents.runner_session.records import Records
from dtest.runners.case import (
    BAD,
    Adapter,
    Case,
    Ended,
    Order,
    Progress,
    Reading,
    bounded,
    one_line,
)

RESULTS_BYTES_MAX = 268_435_456
"""Of one process: what writes more is ended."""
RESULT_FILES_MAX = 10_000
ARGUMENT_CHARS_MAX = 100_000
"""Of the names of tests in one command: the system limits one argument to 131,072 bytes."""
KILL_FILE = "kill"
"""Its text is the reason why the agent wants the running test ended."""
Stamp = tuple[int, int, int]


class Run(NamedTuple):
    """One process of a runner, as it ended."""

    reading: Reading
    problem: str
    """What is wrong with it as a whole."""
    running: str | None
    """The test that it was in, if it was ended or died."""
    death: str
    """How it died or why it was ended, if so."""
    said: str


class Targets:
    """Runs targets, one at a time."""

    def __init__(self, order: Order, adapter: Adapter, records: Records, scratch: Path) -> None:
        self._order = order
        self._adapter = adapter
        self._records = records
        self._scratch = scratch
        self.processes = Processes()
        self._count = 0
        self._numbers: dict[str, list[int | None]] = {}
        """Of the tests that are asked for and not told, by name."""
        self.tests_s = 0.0
        """What the tests took that were run so far."""

    def run(self, target: str, tests: Sequence[Test] | None) -> None:
        """Run these tests, or all of it."""
        self._numbers = {}
        for test in tests or ():
            name = test["name"].partition("::")[2]
            self._numbers.setdefault(name, []).append(test["number"])
        if tests is None or "" in self._numbers:
            self._all(target, is_again=tests is not None)
            return
        for batch in _batches(list(self._numbers), self._adapter.tests_max):
            self._named(target, batch)

    def _all(self, target: str, *, is_again: bool) -> None:
        run = self._process(target, None)
        self._tell(target, run.reading.cases)
        if run.running:
            self._tell(target, [Case(run.running, "error", run.death, bounded(run.said))])
        problem = run.problem
        if not (run.reading.cases or problem):
            problem = "it reported no tests"
        if problem:
            self._tell(target, [Case("", "error", one_line(problem), bounded(run.said))])
        elif is_again:  # the error of its own did not come again
            self._tell(target, [Case("", "passed")])

    def _named(self, target: str, names: Sequence[str]) -> None:
        left = list(dict.fromkeys(names))
        while left:
            run = self._process(target, left)
            told = [case for case in run.reading.cases if case.name in left]
            self._tell(target, told)
            reported = {case.name for case in told}
            left = [name for name in left if name not in reported]
            blamed = [run.running] if run.running in left else []
            if left and not told and not blamed:
                blamed = list(self._adapter.blamed(left))
            why = run.death or run.problem or "the runner did not report it"
            for name in blamed:
                if name is not None:
                    self._tell(target, [Case(name, "error", one_line(why), bounded(run.said))])
            if not blamed and run.problem:
                self._tell(target, [Case("", "error", one_line(run.problem), bounded(run.said))])
            left = [name for name in left if name not in blamed]

    def _tell(self, target: str, cases: Sequence[Case]) -> None:
        """Tell verdicts; what the plan has several times under one name has it each time."""
        for case in cases:
            self.tests_s += case.duration_s
            for number in self._numbers.pop(case.name, [None]):
                self._records.case(target, case, number=number)

    def _started(self, target: str) -> Callable[[str], None]:
        return lambda name: self._records.started(target, name)

    # -- one process ------------------------------------------------------------------------------

    def _process(self, target: str, names: Sequence[str] | None) -> Run:
        self._count += 1
        results = self._scratch / f"results-{self._count}"
        command = self._adapter.command(self._order, target, names, str(results))
        progress = self._adapter.progress()
        limit_s = None if self._adapter.limits_tests else self._order.test_timeout_s
        watch = _Watch(progress, self._scratch / KILL_FILE, limit_s, self._started(target))
        before = _stamps(self._order.results)
        in_files = self._order.results is not None or str(results) in " ".join(command)
        is_wanted = progress is not None or not in_files or self._adapter.writes_results
        self._records.started(target, (names[0] if names and len(names) == 1 else ""))
        try:
            end = self.processes.run(
                command,
                take=watch.take if is_wanted else None,
                with_errors=progress is not None,
                look=watch.look,
            )
        except OSError as error:
            problem = f"cannot start {command[0]}: {error.strerror}"
            return Run(Reading(), problem, None, "", "")
        written = _written(self._order.results, before, results)
        results.unlink(missing_ok=True)
        ended = Ended(end.exit_code, bytes(watch.output), written)
        reading = Reading(problem="it wrote no results")
        if written or not in_files or progress is not None or self._adapter.writes_results:
            reading = self._adapter.read(self._order, names, ended, progress)
        death = end.why or (describe(end.exit_code) if end.exit_code < 0 else "")
        running = progress.running() if progress is not None and _was_cut(death, reading) else None
        said = progress.said() if progress is not None else watch.tail()
        problem = _problem(reading, end.exit_code, death)
        return Run(reading, problem, running, death or describe(end.exit_code), said)


def _was_cut(death: str, reading: Reading) -> bool:
    """Say whether it may have ended within a test: it died, or ended before its report."""
    return bool(death or reading.problem)


def _problem(reading: Reading, exit_code: int, death: str) -> str:
    """Say what is wrong with a process as a whole."""
    told = [death, reading.problem]
    if exit_code > 0 and not death and not any(case.outcome in BAD for case in reading.cases):
        told.insert(0, f"{describe(exit_code)} though no test failed")
    return "; ".join(filter(None, told))


class _Watch:
    """Looks at a running process: its output, and whether it is to be ended."""

    def __init__(
        self,
        progress: Progress | None,
        kill: Path,
        limit_s: float | None,
        started: Callable[[str], None],
    ) -> None:
        self.output = bytearray()
        self._progress = progress
        self._kill = kill
        self._kill.unlink(missing_ok=True)
        self._limit_s = limit_s
        self._started = started
        self._running: str | None = None
        self._since = time.monotonic()

    def take(self, data: bytes) -> None:
        """Take what it wrote."""
        if self._progress is None:
            self.output += data
            return
        self._progress.feed(data)
        running = self._progress.running()
        if running != self._running:
            self._running, self._since = running, time.monotonic()
            if running is not None:
                self._started(running)

    def look(self) -> str:
        """Say why it is to be ended, if it is."""
        if len(self.output) > RESULTS_BYTES_MAX:
            return f"wrote more than {RESULTS_BYTES_MAX} bytes"
        if self._limit_s is not None and time.monotonic() - self._since > self._limit_s:
            return f"timed out after {self._limit_s:g} s"
        try:
            why = self._kill.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        self._kill.unlink(missing_ok=True)
        return why

    def tail(self) -> str:
        """Return what it wrote, for people."""
        return self.output.decode("utf-8", "replace")


def _batches(names: Sequence[str], tests_max: int) -> list[list[str]]:
    """Part tests so that each command stays within what a system takes."""
    made: list[list[str]] = [[]]
    chars = 0
    for name in names:
        chars += 2 * len(name.encode()) + 2
        if made[-1] and (len(made[-1]) >= tests_max or chars > ARGUMENT_CHARS_MAX):
            made.append([])
            chars = 2 * len(name.encode()) + 2
        made[-1].append(name)
    return [batch for batch in made if batch]


def _stamps(pattern: str | None) -> dict[str, Stamp]:
    """Return what marks each file of results that is there already."""
    found: dict[str, Stamp] = {}
    for path in sorted(glob.glob(pattern, recursive=True))[:RESULT_FILES_MAX] if pattern else ():
        stat = os.stat(path)
        found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


def _written(
    pattern: str | None, before: dict[str, Stamp], own: Path
) -> tuple[tuple[str, bytes], ...]:
    """Read the files of results that the process wrote; those of an earlier run are none."""
    paths = [path for path, stamp in _stamps(pattern).items() if before.get(path) != stamp]
    files = [(path, Path(path)) for path in paths]
    if own.is_file():
        files.append(("its results", own))
    read: list[tuple[str, bytes]] = []
    for name, path in files:
        with path.open("rb") as file:
            read.append((name, file.read(RESULTS_BYTES_MAX)))
    return tuple(read)
