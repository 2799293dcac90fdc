"""What the records of a session of pytest say so far."""

from __future__ import annotations

import json
import os
import signal
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


class Ledger:
    """What the records say so far, over all runs of pytest in this session."""

    def __init__(self, order: Order) -> None:
        self.collected: list[str] | None = None
        self.reported: set[str] = set()
        self.crashed: list[str] = []
        self.case_count = 0
        self.failures = 0
        self.session_seen = False
        self._outcomes: set[str] = set()
        self._started_at: dict[str, float] = {}
        self._crash_count = 0
        self._failures_max = 0
        self._scratch = order.scratch
        self._out = order.out
        self._offset = 0

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
        collection = read_json(os.path.join(self._scratch, "collected.json"))
        if collection is not None and self.collected is None:
            self.collected = collection["nodeids"]
            self._failures_max = collection["maxfail"]
        return any(record["kind"] in {"started", "case"} for record in records)

    def add_crash(self, exit_code: int, *, now: float, why: str = "", output: str = "") -> None:
        """Record that pytest died, and a case for the test it was in; ``why`` if it was ended."""
        self._crash_count += 1
        in_flight = list(self._started_at.items())
        nodeid = in_flight[-1][0] if in_flight else None
        by_signal = signal_name(-exit_code) if exit_code < 0 else None
        death = {"exit_code": None if by_signal else exit_code, "signal": by_signal}
        phase = "run" if os.path.exists(f"{self._scratch}/collected.json") else "collect"
        self.append({"kind": "crash", "nodeid": nodeid, **death, "phase": phase})
        for nodeid, started_at in in_flight:
            self.crashed.append(nodeid)
            message = why or describe_death(exit_code)
            verdict = {"outcome": "error", "phase": "call", "message": message, "output": output}
            times = {"started_at": started_at, "duration_s": round(now - started_at, 6)}
            place = {"file": nodeid.partition("::")[0], "line": None}
            self.append({"kind": "case", "nodeid": nodeid, **verdict, **times, **place})

    def append(self, record: Record) -> None:
        """Write one record, in one call as the plugin does, and count it."""
        data = json.dumps(record).encode("ascii") + b"\n"
        target = os.open(self._out, os.O_WRONLY | os.O_APPEND)
        try:
            self._offset += os.write(target, data)
        finally:
            os.close(target)
        self._take(record)

    def remaining(self) -> list[str]:
        """The collected tests that have no case record."""
        return [nodeid for nodeid in self.collected or () if nodeid not in self.reported]

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
            self._started_at[record["nodeid"]] = record["at"]
        elif kind == "case":
            self.case_count += 1
            self.reported.add(record["nodeid"])
            self._started_at.pop(record["nodeid"], None)
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
