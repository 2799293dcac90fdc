"""What the records of a session of pytest say so far."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any, NamedTuple

Record = dict[str, Any]


class Order(NamedTuple):
    """What the caller asks for, with paths made absolute where the child reads them elsewhere."""

    python: str
    cwd: str
    out: str
    crashes_max: int
    paths: list[str]
    nodeids: list[str]
    extra: list[str]

    @property
    def scratch(self) -> str:
        """The directory for what only this script and the plugin read, and for pytest's cache."""
        return self.out + ".work"


class Running(NamedTuple):
    """A test that has started and has no verdict."""

    number: int | None
    """In the plan, or among what was collected."""
    nodeid: str
    since: float
    """By ``time.perf_counter``, which all processes of a machine share."""


class Ledger:
    """What the records say so far, over all runs of pytest in this session."""

    def __init__(self, order: Order) -> None:
        self.collected: list[str] | None = None
        """Node ids of the tests, which are numbered in this order."""
        self.reported: set[int] = set()
        """Numbers of the tests that have a verdict."""
        self.told_files: list[str] = []
        """What could not be collected, and was told."""
        self.crashed: list[str] = []
        self.case_count = 0
        self.failures = 0
        self.session_seen = False
        self._outcomes: set[str] = set()
        self._running: Running | None = None
        self._crash_count = 0
        self._failures_max = 0
        self._scratch = order.scratch
        self._out = order.out
        self._offset = 0

    @property
    def running(self) -> Running | None:
        """The test that has started and has no verdict, if any."""
        return self._running

    def read(self, *, alive: bool = False) -> bool:
        """Take in what pytest has written since; say whether a test was started or reported."""
        with open(self._out, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if (
            len(whole) < len(data) and not alive
        ):  # killed within a write; the next record needs its own line
            os.truncate(self._out, self._offset + len(whole))
        self._offset += len(whole)
        records = [json.loads(line) for line in whole.splitlines()]
        for record in records:
            self._take(record)
        if self.collected is None:  # large, and the same ever after
            collection = read_json(os.path.join(self._scratch, "collected.json"))
            if collection is not None:
                self.collected = collection["nodeids"]
                self._failures_max = collection["maxfail"]
        return any(record["kind"] in {"started", "case"} for record in records)

    def add_crash(self, exit_code: int, *, why: str = "", output: str = "") -> None:
        """Record that pytest died, and a case for the test it was in; ``why`` if it was ended."""
        self._crash_count += 1
        running = self._running
        by_signal = signal_name(-exit_code) if exit_code < 0 else None
        death = {"exit_code": None if by_signal else exit_code, "signal": by_signal}
        phase = "run" if os.path.exists(f"{self._scratch}/collected.json") else "collect"
        nodeid = running.nodeid if running is not None else None
        self.append({"kind": "crash", "nodeid": nodeid, **death, "phase": phase})
        if running is not None:
            self.crashed.append(running.nodeid)
            self.add_error(running, why or describe_death(exit_code), phase="call", output=output)

    def add_error(self, test: Running, message: str, *, phase: str, output: str = "") -> None:
        """Record an error of a test that it could not tell itself."""
        took_s = max(0.0, time.perf_counter() - test.since)
        self.append(
            {
                "kind": "case",
                "number": test.number,
                "nodeid": test.nodeid,
                "outcome": "error",
                "phase": phase,
                "message": message,
                "output": output,
                "at": test.since,
                "duration_s": round(took_s, 6),
                "file": test.nodeid.partition("::")[0],
                "line": None,
            }
        )

    def append(self, record: Record) -> None:
        """Write one record, in one call as the plugin does, and count it."""
        data = json.dumps(record).encode("ascii") + b"\n"
        target = os.open(self._out, os.O_WRONLY | os.O_APPEND)
        try:
            self._offset += os.write(target, data)
        finally:
            os.close(target)
        self._take(record)

    def remaining(self) -> list[int]:
        """Numbers of the collected tests that have no verdict."""
        return [n for n in range(len(self.collected or ())) if n not in self.reported]

    def enough(self, crashes_max: int) -> bool:
        """Whether to stop at this crash: there were too many, or the suite's --maxfail is met."""
        too_many_failures = self._failures_max and self.failures >= self._failures_max
        return self._crash_count > crashes_max or bool(too_many_failures)

    def outcome(self, runner_exit_code: int | None, not_run: list[str]) -> str:
        """What the whole session comes to."""
        if self._crash_count:
            return "crashed"
        if runner_exit_code in {None, 4}:
            return "usage"
        if runner_exit_code not in {0, 1, 5}:
            return "error"
        if not self.session_seen:
            return "usage"
        for outcome in ("failed", "error"):
            if outcome in self._outcomes:
                return outcome
        if runner_exit_code == 0:
            # A test can end pytest with exit code 0 while others wait.
            return "error" if not_run else "passed"
        return "failed" if runner_exit_code == 1 else "no_tests"

    def _take(self, record: Record) -> None:
        kind = record["kind"]
        if kind == "session":
            self.session_seen = True
        elif kind == "started":
            self._running = Running(record["number"], record["nodeid"], record["at"])
        elif kind == "case":
            self.case_count += 1
            if record["number"] is not None:
                self.reported.add(record["number"])
            elif record["phase"] == "collect":
                self.told_files.append(record["nodeid"])
            self._running = None
            self._outcomes.add(record["outcome"])
            self.failures += record["outcome"] in {"failed", "error"}


def describe_death(exit_code: int) -> str:
    """One line on how pytest died."""
    if exit_code < 0:
        return f"crashed: signal {signal_name(-exit_code)}"
    return f"crashed: exit code {exit_code} without finishing, os._exit?"


def signal_name(number: int) -> str:
    """A number again for a signal that has no name."""
    return next((known.name for known in signal.Signals if known == number), str(number))


def read_json(path: str) -> Record | None:
    """A file the plugin may have left; None if it is absent, or was cut short by a kill."""
    try:
        with open(path, "rb") as file:
            value: Record = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return value
