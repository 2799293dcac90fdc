"""Run units of tests by some runner, as they come in by a file, and record each verdict.

Run as ``python -I -m dtest.agents.runner_session.session`` by the agent's interpreter.
"""

import argparse
import glob
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dtest.agents.pytest_session import EXIT_FAILED, EXIT_PASSED, EXIT_USAGE
from dtest.agents.runner_session.feed import Unit, units
from dtest.agents.runner_session.records import Records
from dtest.agents.runner_session.target import Targets
from dtest.errors import UsageError
from dtest.runners.case import Adapter, Case, Ended, Listing, Order, bounded
from dtest.runners.registry import adapter

LIST_BYTES_MAX = 67_108_864


class SessionOrder(NamedTuple):
    """What the agent asks for."""

    order: Order
    adapter: Adapter
    cwd: str
    out: Path
    feed: Path
    collect: bool


def main(argv: list[str]) -> int:
    """Run one session; the exit code says what it came to."""
    try:
        asked = read_order(argv)
        scratch = Path(f"{asked.out}.work")
        scratch.mkdir(parents=True, exist_ok=True)
        records = Records(asked.out)
        os.chdir(asked.cwd)
        targets = Targets(asked.order, asked.adapter, records, scratch)
        if asked.collect:
            _collect(asked, targets, records)
    except SystemExit as stop:  # argparse has printed the help, or what is wrong
        return EXIT_USAGE if stop.code else EXIT_PASSED
    except (OSError, UnicodeDecodeError) as error:
        say(str(error))
        return EXIT_USAGE
    except UsageError as error:
        say(f"{error.message}; {error.hint}" if error.hint else error.message)
        return EXIT_USAGE
    for unit in units(asked.feed):
        _run(unit, targets, records)
    return EXIT_FAILED if records.has_failed else EXIT_PASSED


def read_order(argv: list[str]) -> SessionOrder:
    """Parse the command line and the file of paths. Raises UsageError, OSError."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    parser = argparse.ArgumentParser(usage="%(prog)s [options] [-- ARGUMENT ...]")
    parser.add_argument("--runner", required=True, help="its name")
    parser.add_argument("--cwd", required=True, help="directory to work in")
    parser.add_argument("--out", required=True, help="file of records, written anew")
    parser.add_argument("--feed", required=True, help="file of units, appended to by the agent")
    parser.add_argument("--paths-file", required=True, help="what is tested, one a line")
    parser.add_argument("--results", help="pattern of the files of results")
    parser.add_argument("--test-timeout", type=float, help="seconds that one test may take")
    collect_help = "list all tests first, and record what there is"
    parser.add_argument("--collect", action="store_true", help=collect_help)
    options = parser.parse_args(own)
    lines = Path(options.paths_file).read_text(encoding="utf-8", errors="surrogateescape")
    order = Order(
        tuple(argv[len(own) + 1 :]),
        tuple(line for line in lines.split("\n") if line),
        options.results,
        options.test_timeout,
    )
    return SessionOrder(
        order,
        adapter(options.runner),
        os.path.abspath(options.cwd),
        Path(options.out).absolute(),
        Path(options.feed).absolute(),
        options.collect,
    )


def _run(unit: Unit, targets: Targets, records: Records) -> None:
    """Run a unit; of its time, what its tests took tells the agent how many to hand out."""
    started = time.monotonic()
    before_s = targets.tests_s
    for part in unit["parts"]:
        targets.run(part["file"], part["tests"])
    tests_s = targets.tests_s - before_s
    setup_s = max(0.0, time.monotonic() - started - tests_s)
    at = time.time()
    records.write("begin", unit=unit["id"], at=at - tests_s)
    records.write("unit", unit=unit["id"], at=at, setup_s=round(setup_s, 6))


# -- what there is --------------------------------------------------------------------------------


def _collect(asked: SessionOrder, targets: Targets, records: Records) -> None:
    """Record what there is to run, and what cannot be listed."""
    order = replace(asked.order, paths=tuple(_expanded(asked.order.paths)))
    stated = asked.adapter.targets(order)
    if stated.problem:
        raise UsageError(stated.problem)
    if asked.adapter.listed_by == "paths":
        _tell(records, [stated], [])
        return
    listings: list[Listing] = []
    broken: list[str] = []
    for path in order.paths or (".",):
        listing, said = _listed(asked, targets, path)
        listings.append(listing)
        if listing.problem:
            broken.append(path)
            problem = Case("", "error", listing.problem, bounded(said))
            records.case(path, problem, phase="collect")
    _tell(records, listings, broken)


def _listed(asked: SessionOrder, targets: Targets, path: str) -> tuple[Listing, str]:
    """Ask a runner what a path holds; return what it printed, too."""
    output = bytearray()

    def look() -> str:
        return "its list is too long" if len(output) > LIST_BYTES_MAX else ""

    command = asked.adapter.list_command(asked.order, path)
    try:
        end = targets.processes.run(command, take=output.extend, look=look)
    except OSError as error:
        return Listing(problem=f"cannot start {command[0]}: {error.strerror}"), ""
    listing = asked.adapter.listed(asked.order, path, Ended(end.exit_code, bytes(output)))
    return listing, output.decode("utf-8", "replace")


def _expanded(paths: tuple[str, ...]) -> list[str]:
    """Return the paths with patterns replaced by what they match. Raises UsageError."""
    found: list[str] = []
    for path in paths:
        matched = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]
        if not matched:
            message = f"nothing matches {path}"
            raise UsageError(message)
        found += matched
    return list(dict.fromkeys(found))


def _tell(records: Records, listings: list[Listing], broken: list[str]) -> None:
    tests = [test for listing in listings for test in listing.tests]
    records.write(
        "collected",
        nodeids=[f"{target}::{name}" for target, name, _ in tests],
        groups=[f"{target}::{group}" if group else "" for target, _, group in tests],
        whole=[target for listing in listings for target in listing.whole],
        broken=broken,
        skipped=[],
        maxfail=0,
    )


def say(message: str) -> None:
    """One line to stderr, between those of the runner."""
    sys.stderr.write(f"dtest: {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
