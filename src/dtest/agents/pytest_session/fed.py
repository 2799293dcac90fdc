"""Run units of tests in one lasting pytest session, as they come in by a file.

The agent writes that file, the feed. Records go to another file, as those of ``session``, and
besides: ``collecting``, ``begin``, and ``unit`` once all tests of a unit have their verdict. It
starts pytest again when a test takes it down, ends a test that takes too long or that the agent
wants ended, and says of each what became of it. Run as
``python -I -m dtest.agents.pytest_session.fed``; it needs the standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from typing import Any, Callable, NamedTuple

from dtest.agents.pytest_session.exits import (
    EXIT_CRASHED,
    EXIT_FAILED,
    EXIT_PASSED,
    EXIT_USAGE,
)
from dtest.agents.pytest_session.ledger import Ledger, Order, Record, describe_death, read_json
from dtest.agents.pytest_session.session import (
    Child,
    clear,
    environment,
    lacks_pytest,
    pytest_command,
    say,
)

ABORT_S = 1.0
"""So long pytest may take to print all stacks before it is killed."""
FRUITLESS_MAX = 3
"""Deaths in a row in which no test was started."""
STACKS_BYTES_MAX = 16_384
KILL_FILE = "kill"
"""Its text is the reason why the agent wants the running test ended."""


class FedOrder(NamedTuple):
    """What the caller asks for."""

    order: Order
    feed: str
    test_timeout_s: float | None
    collect: bool
    """Whether to collect all before the first unit, and say what there is."""


class FedLedger(Ledger):
    """What the records say, by unit."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self.ended_units: list[str] = []
        self.by_unit: dict[str, list[str]] = {}
        self.collect_cases: list[str] = []
        self.deadly_files: list[str] = []
        self.singly = False
        self.cold = False
        self.has_collected = False
        self._unit = ""
        self._collecting: list[str] = []
        self._ahead = False

    @property
    def running_since(self) -> float | None:
        """Seconds since 1970 UTC when the running test began."""
        return next(iter(self._started_at.values()), None)

    @property
    def failed(self) -> bool:
        """Whether a test did not pass."""
        return bool(self._outcomes & {"failed", "error"})

    def done(self) -> dict[str, Any]:
        """What the next pytest is to leave out."""
        return {
            "units": self.ended_units,
            "reported": self.by_unit,
            "files": self.deadly_files,
            "singly": self.singly,
            "cold": self.cold,
        }

    def blame_import(self, exit_code: int, *, now: float) -> bool:
        """Lay a death at the door of the file that was imported; say whether that was possible."""
        files, self._collecting = self._collecting, []
        if files and self._ahead:
            self.cold = True  # if anybody asks for this file, it will be laid at its door
        elif len(files) > 1:
            self.singly = True  # the next pytest finds out which of them it is
        elif files:
            self.deadly_files.append(files[0])
            verdict = {"outcome": "error", "phase": "collect", "output": ""}
            place = {"started_at": now, "duration_s": 0.0, "file": files[0], "line": None}
            message = f"its import {describe_death(exit_code)}"
            self.append(
                {"kind": "case", "nodeid": files[0], **verdict, **place, "message": message}
            )
        return bool(files)

    def _take(self, record: Record) -> None:
        super()._take(record)
        kind = record["kind"]
        if kind == "begin":
            self._unit = record["unit"]
        elif kind == "case" and record["phase"] == "collect":
            self.collect_cases.append(record["nodeid"])
        elif kind == "case":
            self.by_unit.setdefault(self._unit, []).append(record["nodeid"])
        elif kind == "unit":
            self.ended_units.append(record["unit"])
            self.by_unit.pop(record["unit"], None)
        elif kind == "collecting":
            self._collecting = record["files"]
            self._ahead = record.get("ahead", False)
        elif kind == "collected":
            self.has_collected = True
            self._collecting = []


class Warden:
    """Looks at the running pytest, and ends it when a test takes too long or the agent says so."""

    def __init__(self, fed: FedOrder, ledger: FedLedger) -> None:
        self.why = ""
        """Why pytest was ended, if it was."""
        self._fed = fed
        self._ledger = ledger
        self._abort_at = 0.0
        self._output_bytes = 0

    def look(self, pid: int) -> None:
        """Take in what was recorded, and act."""
        self._ledger.read(alive=True)
        if self.why:
            if time.monotonic() > self._abort_at + ABORT_S:
                _signal_group(pid, signal.SIGKILL)
            return
        ordered = self._ordered()
        since, limit_s = self._ledger.running_since, self._fed.test_timeout_s
        if ordered:
            self.why = ordered
            _signal_group(pid, signal.SIGKILL)
        elif since is not None and limit_s is not None and time.time() - since > limit_s:
            self.why = f"timed out after {limit_s:g} s"
            self._output_bytes = os.fstat(1).st_size
            self._abort_at = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)  # pytest's faulthandler prints all stacks

    def stacks(self) -> str:
        """What pytest said when it was aborted."""
        if not self._abort_at:
            return ""
        try:
            with open("/proc/self/fd/1", "rb") as file:
                file.seek(self._output_bytes)
                return file.read(STACKS_BYTES_MAX).decode("utf-8", "replace")
        except OSError:  # not a file, or another system
            return ""

    def _ordered(self) -> str:
        path = os.path.join(self._fed.order.scratch, KILL_FILE)
        try:
            with open(path, encoding="utf-8") as file:
                why = file.read()
            os.remove(path)
        except FileNotFoundError:
            return ""
        return why


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def main(argv: list[str]) -> int:
    """Run one session; the exit code says what it came to."""
    return conduct(lambda: read_order(argv), lambda fed: run_all(fed, FedLedger(fed.order)))


def conduct(read: Callable[[], FedOrder], run: Callable[[FedOrder], int]) -> int:
    """Read an order and run a session by it, in its directory; return the exit code."""
    try:
        fed = read()
        os.makedirs(fed.order.scratch, exist_ok=True)
        open(fed.order.out, "wb").close()
        os.chdir(fed.order.cwd)
    except SystemExit as stop:  # argparse has printed the help, or what is wrong
        return EXIT_USAGE if stop.code else EXIT_PASSED
    except (OSError, UnicodeDecodeError) as error:
        say(str(error))
        return EXIT_USAGE
    code = run(fed)
    clear(fed.order.scratch)
    return code


def read_order(argv: list[str], *, runner: str = "pytest", by_name: bool = True) -> FedOrder:
    """Parse the command line and the file of paths.

    ``by_name`` says whether tests that are named there are told apart from paths.
    """
    own = argv[: argv.index("--")] if "--" in argv else argv
    usage = f"%(prog)s [options] [-- {runner.upper()}_ARGUMENT ...]"
    parser = argparse.ArgumentParser(usage=usage)
    parser.add_argument("--python", required=True, help=f"interpreter that has {runner}")
    parser.add_argument("--cwd", required=True, help=f"directory to run {runner} in")
    parser.add_argument("--out", required=True, help="file of records, written anew")
    parser.add_argument("--feed", required=True, help="file of units, appended to by the agent")
    parser.add_argument("--paths-file", required=True, help="what the suite is collected from")
    parser.add_argument("--test-timeout", type=float, help="seconds that one test may take")
    collect_help = "collect all first, and record what there is"
    parser.add_argument("--collect", action="store_true", help=collect_help)
    options = parser.parse_args(own)
    with open(options.paths_file, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        lines = [line for line in file.read().split("\n") if line]
    python: str = options.python
    order = Order(
        python=os.path.abspath(python) if os.sep in python else python,
        cwd=os.path.abspath(options.cwd),
        out=os.path.abspath(options.out),
        crashes_max=0,
        paths=[line for line in lines if not (by_name and "::" in line)],
        nodeids=[line for line in lines if by_name and "::" in line],
        extra=argv[len(own) + 1 :],
    )
    feed = os.path.abspath(options.feed)
    return FedOrder(order, feed, options.test_timeout, options.collect)


def run_all(fed: FedOrder, ledger: FedLedger) -> int:
    """Run pytest until the feed ends, again after each death."""
    child = Child()
    fruitless = 0
    while True:
        write_request(fed, ledger)
        warden = Warden(fed, ledger)
        before = len(ledger.reported)
        try:
            exit_code = child.run(
                pytest_command(fed.order), environment(fed.order), look=warden.look
            )
        except OSError as error:
            say(f"cannot start {fed.order.python}: {error.strerror}")
            return EXIT_USAGE
        ledger.read()
        if read_json(os.path.join(fed.order.scratch, "ended.json")) is not None:
            return _ended(exit_code, ledger)
        if not ledger.session_seen:
            if exit_code not in {0, 1, 4}:  # else pytest has said why
                say(f"pytest {describe_death(exit_code)} before it began")
            elif exit_code == 1:
                lacks_pytest(fed.order, child)
            return EXIT_USAGE
        now = time.time()
        if ledger.running_since is not None:
            ledger.add_crash(exit_code, now=now, why=warden.why, output=warden.stacks())
        elif not ledger.blame_import(exit_code, now=now):
            fruitless += 1
        fruitless = 0 if len(ledger.reported) > before else fruitless
        if fruitless >= FRUITLESS_MAX:
            return EXIT_CRASHED
        say(f"{warden.why or describe_death(exit_code)}; starting pytest again")


def _ended(exit_code: int, ledger: FedLedger) -> int:
    if exit_code == int(EXIT_FAILED) or ledger.failed:
        return EXIT_FAILED
    if exit_code in {0, 5}:  # 5: nothing came in
        return EXIT_PASSED
    return EXIT_USAGE if exit_code == 4 else EXIT_FAILED  # noqa: PLR2004 - pytest's own


def write_request(fed: FedOrder, ledger: FedLedger) -> None:
    """Tell the plugin what was done already and where to write."""
    clear(fed.order.scratch)
    collect = fed.collect and not ledger.has_collected
    request = {
        "out": fed.order.out,
        "scratch": fed.order.scratch,
        "pythonpath": os.environ.get("PYTHONPATH"),
        "paths": fed.order.paths if collect else [],
        "nodeids": fed.order.nodeids if collect else [],
        "only": None,
        "reported": ledger.collect_cases,
        "failures_before": 0,
        "again": ledger.session_seen,
        "feed": fed.feed,
        "collect": collect,
        "done": ledger.done(),
    }
    with open(os.path.join(fed.order.scratch, "request.json"), "w", encoding="utf-8") as file:
        json.dump(request, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
