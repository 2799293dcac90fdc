"""Run units of unittest tests in one lasting process, as they come in by a file.

Starts the interpreter of the tests, again when a test takes it down; what became of that test is
recorded as for pytest. Run as ``python -I -m dtest.agents.unittest_session.session``; it needs
the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Final

from dtest.agents.pytest_session.ending import ending
from dtest.agents.pytest_session.exits import EXIT_CRASHED, EXIT_USAGE
from dtest.agents.pytest_session.fed import (
    FRUITLESS_MAX,
    FedOrder,
    conclude,
    conduct,
    identity,
    read_order,
)
from dtest.agents.pytest_session.fed_ledger import FedLedger
from dtest.agents.pytest_session.ledger import Order, Record, Running, describe_death, read_json
from dtest.agents.pytest_session.session import Child, clear, say
from dtest.agents.pytest_session.warden import Warden

EXIT_REFUSED: Final = 2
"""The program has said what is wrong with what it was told."""
PROGRAM: Final = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "plugin", "dtest_unittest.py"
)


class UnittestLedger(FedLedger):
    """What the records say, and which test was the last one."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self._last = ""

    def blame_fixtures(self, exit_code: int) -> None:
        """Lay a death between two tests at the door of the last one's class."""
        if not self._last:
            return
        file, _, name = self._last.partition("::")
        of_class = name.rpartition("::")[0]
        nodeid = f"{file}::{of_class}" if of_class else file
        fixtures = Running(None, nodeid, time.perf_counter())
        message = f"{describe_death(exit_code)}, after its tests"
        self.add_error(fixtures, message, phase="teardown")

    def _take(self, record: Record) -> None:
        super()._take(record)
        if record["kind"] == "case" and record["phase"] == "call":
            self._last = record["nodeid"]


def main(argv: list[str]) -> int:
    """Run one session; the exit code says what it came to."""
    return conduct(
        lambda: read_order(argv, runner="unittest", by_name=False),
        lambda fed: run_all(fed, UnittestLedger(fed.order)),
    )


def run_all(fed: FedOrder, ledger: UnittestLedger) -> int:
    """Run the interpreter until the feed ends, again after each death."""
    child = Child()
    fruitless = 0
    # Bytecode can be stale in a tree that is synced: see the session of pytest.
    env = {"PYTHONDONTWRITEBYTECODE": "1", **os.environ, **identity(fed.worker)}
    while True:
        request = write_request(fed, ledger)
        warden = Warden(fed.order.scratch, ledger, test_timeout_s=fed.test_timeout_s)
        before = len(ledger.reported)
        try:
            exit_code = child.run([fed.order.python, PROGRAM, request], env, look=warden.look)
        except OSError as error:
            say(f"cannot start {fed.order.python}: {error.strerror}")
            return EXIT_USAGE
        ledger.read()
        ended = read_json(os.path.join(fed.order.scratch, "ended.json"))
        if ended is not None:
            lingered_s = warden.lingered_s
            came_to = ending(ended, exit_code, failed=ledger.failed, lingered_s=lingered_s, said="")
            conclude(ledger, came_to)
            return came_to.exit_code
        if not ledger.session_seen or exit_code == EXIT_REFUSED:
            if exit_code != EXIT_REFUSED:
                say(f"unittest {describe_death(exit_code)} before it began")
            return EXIT_USAGE
        if ledger.running is not None:
            ledger.add_crash(exit_code, why=warden.why, output=warden.stacks())
        elif not ledger.blame_import(exit_code):
            ledger.blame_fixtures(exit_code)
            fruitless += 1
        fruitless = 0 if len(ledger.reported) > before else fruitless
        if fruitless >= FRUITLESS_MAX:
            return EXIT_CRASHED
        say(f"{warden.why or describe_death(exit_code)}; starting unittest again")


def write_request(fed: FedOrder, ledger: FedLedger) -> str:
    """Tell the program what was done already and where to write; return where that stands."""
    clear(fed.order.scratch)
    request = {
        "out": fed.order.out,
        "scratch": fed.order.scratch,
        "paths": fed.order.paths,
        "arguments": fed.order.extra,
        "reported": ledger.told_files,
        "again": ledger.session_seen,
        "feed": fed.feed,
        "collect": fed.collect and not ledger.has_collected,
        "done": ledger.done(),
    }
    path = os.path.join(fed.order.scratch, "request.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(request, file)
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
