"""Run units of tests in one lasting pytest session, as they come in by a file.

The agent writes that file, the feed. Records go to another file, as those of ``session``, and
besides: ``collecting``, ``begin``, and ``unit`` once all tests of a unit have their verdict. It
starts pytest again when a test takes it down, ends a test that takes too long or that the agent
wants ended, and says of each what became of it. Run as
``python -I -m dtest.agents.pytest_session.fed``; it needs the standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Callable, NamedTuple

from dtest.agents.pytest_session.ending import Ending, ending
from dtest.agents.pytest_session.exits import EXIT_CRASHED, EXIT_PASSED, EXIT_USAGE
from dtest.agents.pytest_session.fed_ledger import (
    TAIL_BYTES_MAX,
    FedLedger,
    last_words,
    written_after,
    written_bytes,
)
from dtest.agents.pytest_session.ledger import Order, describe_death, read_json
from dtest.agents.pytest_session.run_directory import RunDirectory
from dtest.agents.pytest_session.session import (
    Child,
    clear,
    environment,
    lacks_pytest,
    pytest_command,
    say,
)
from dtest.agents.pytest_session.warden import Warden

FRUITLESS_MAX = 3
"""Deaths in a row in which no test was started."""
INTERNAL_MAX = 5
"""Internal errors of pytest, each at another test, after which a session ends."""
RUN_CHARS = 12
"""Of the name of a run in that of its directory: paths of sockets are short."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Who this session is among those of its run."""

    id: str
    """As ``gw0``: what suites read in ``PYTEST_XDIST_WORKER``."""
    count: int
    """How many sessions the run has."""
    run: str
    """The same in all sessions of the run."""


class FedOrder(NamedTuple):
    """What the caller asks for."""

    order: Order
    feed: str
    test_timeout_s: float | None
    collect: bool
    """Whether to collect all before the first unit, and say what there is."""
    worker: Worker


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
    parser.add_argument("--worker", default="gw0", help="name among the sessions of the run")
    parser.add_argument("--workers", type=int, default=1, help="how many sessions the run has")
    parser.add_argument("--run", default=f"{os.getpid():08x}", help="what names the run")
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
    worker = Worker(options.worker, options.workers, options.run)
    return FedOrder(order, feed, options.test_timeout, options.collect, worker)


def run_all(fed: FedOrder, ledger: FedLedger) -> int:
    """Run pytest until the feed ends, again after each death."""
    child = Child()
    directory = RunDirectory(fed.worker.run[:RUN_CHARS], fed.worker.id)
    env = {**environment(fed.order), **identity(fed.worker)}
    fruitless = starts = 0
    internal: list[str] = []
    while True:
        write_request(fed, ledger, base=directory.path, start=starts)
        starts += 1
        warden = Warden(fed.order.scratch, ledger, test_timeout_s=fed.test_timeout_s)
        before = len(ledger.reported)
        try:
            exit_code = child.run(pytest_command(fed.order), env, look=warden.look)
        except OSError as error:
            say(f"cannot start {fed.order.python}: {error.strerror}")
            return EXIT_USAGE
        ledger.read()
        ended = read_json(os.path.join(fed.order.scratch, "ended.json"))
        if ended is not None and ended["internal"]:
            internal.append(ended["internal"])
            if len(ledger.reported) > before and len(internal) < INTERNAL_MAX:
                say(f"{internal[-1]}; starting pytest again")  # the test that it was in is told
                continue
        if ended is not None:
            ended["internal"] = internal[0] if internal else ""
            said = last_words(written_after(max(0, written_bytes() - TAIL_BYTES_MAX)))
            came_to = ending(
                ended, exit_code, failed=ledger.failed, lingered_s=warden.lingered_s, said=said
            )
            conclude(ledger, came_to)
            directory.tidy()
            return came_to.exit_code
        if not ledger.session_seen:
            if exit_code not in {0, 1, 4}:  # else pytest has said why
                say(f"pytest {describe_death(exit_code)} before it began")
            elif exit_code == 1:
                lacks_pytest(fed.order, child)
            return EXIT_USAGE
        fruitless += not _blamed(ledger, warden, exit_code)
        fruitless = 0 if len(ledger.reported) > before else fruitless
        if fruitless >= FRUITLESS_MAX:
            return EXIT_CRASHED
        say(f"{warden.why or describe_death(exit_code)}; starting pytest again")


def _blamed(ledger: FedLedger, warden: Warden, exit_code: int) -> bool:
    """Lay a death at the door of the test or the file that it came in; say if there is any."""
    if ledger.running is not None:
        ledger.add_crash(exit_code, why=warden.why, output=warden.stacks())
        return True
    why, output = warden.why, warden.stacks()
    if ledger.blame_closing(exit_code, why=why, output=output):
        return True
    return ledger.blame_import(exit_code)


def identity(worker: Worker) -> dict[str, str]:
    """Return the variables by which suites tell parallel sessions apart.

    Strings have the same order in sets in all sessions of a run, as tests are often made of sets.
    """
    seed = int.from_bytes(worker.run.encode()[-4:], "big")
    return {
        "PYTEST_XDIST_WORKER": worker.id,
        "PYTEST_XDIST_WORKER_COUNT": str(worker.count),
        "PYTEST_XDIST_TESTRUNUID": worker.run,
        "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", str(seed)),
    }


def conclude(ledger: FedLedger, came_to: Ending) -> None:
    """Record how the session ended, if that says more than its tests do."""
    if came_to.how:
        say(came_to.text)
        ledger.append({"kind": "ended", "how": came_to.how, "text": came_to.text})


def write_request(fed: FedOrder, ledger: FedLedger, *, base: str, start: int) -> None:
    """Tell the plugin what was done already and where to write."""
    clear(fed.order.scratch)
    request = {
        "out": fed.order.out,
        "scratch": fed.order.scratch,
        "pythonpath": os.environ.get("PYTHONPATH"),
        "paths": fed.order.paths,
        "nodeids": fed.order.nodeids,
        "only": None,
        "reported": ledger.told_files,
        "failures_before": 0,
        "again": ledger.session_seen,
        "feed": fed.feed,
        "collect": fed.collect and not ledger.has_collected,
        "done": ledger.done(),
        "worker": {**asdict(fed.worker), "base": base, "start": start},
    }
    with open(os.path.join(fed.order.scratch, "request.json"), "w", encoding="utf-8") as file:
        json.dump(request, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
