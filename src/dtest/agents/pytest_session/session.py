"""Run pytest in a foreign interpreter to the end, whatever its tests do to the process.

It starts `PYTHON -m pytest` with the recording plugin beside it, starts it again for the tests
that are left when a test takes the process down, and closes the record file with what the whole
comes to. It does not choose, spread or retry tests, has no time limit, and leaves the process
group to its caller. Run as
`python -I -m dtest.agents.pytest_session.session`; it needs the standard library only.

Records, one JSON object a line: `session`, `collected`, `started` and `case` come from the plugin;
`crash`, the `case` of a crashed test, and the last one, `finished`, come from here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from dtest.agents.pytest_session.exits import (
    EXIT_CODES,
    EXIT_PASSED,
    EXIT_USAGE,
)
from dtest.agents.pytest_session.ledger import Ledger, Order, describe_death, read_json

CRASHES_MAX: Final = 20
LOOK_EVERY_S: Final = 0.02
PLUGIN: Final = "dtest_pytest_cases"
PLUGIN_DIRECTORY: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "plugin")
REQUEST_ENV: Final = "DTEST_PYTEST_CASES"


def main(argv: list[str]) -> int:
    """Run one session; the exit code says what it came to."""
    try:
        order = read_order(argv)
        os.makedirs(order.scratch, exist_ok=True)
        open(order.out, "wb").close()
        os.chdir(order.cwd)
    except SystemExit as stop:  # argparse has printed the help, or what is wrong
        return EXIT_USAGE if stop.code else EXIT_PASSED
    except (OSError, UnicodeDecodeError) as error:
        say(str(error))
        return EXIT_USAGE
    ledger = Ledger(order)
    runner_exit_code = run_until_nothing_is_left(order, ledger, Child())
    nodeids = ledger.collected or []
    not_run = [nodeids[number] for number in ledger.remaining()]
    outcome = ledger.outcome(runner_exit_code, not_run)
    ledger.append(
        {
            "kind": "finished",
            "runner_exit_code": runner_exit_code,
            "collected": len(nodeids),
            "reported": ledger.case_count,
            "crashed": ledger.crashed,
            "not_run": not_run,
            "outcome": outcome,
        }
    )
    clear(order.scratch)
    return EXIT_CODES[outcome]


def read_order(argv: list[str]) -> Order:
    """Parse the command line and the file of paths."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    parser = argparse.ArgumentParser(usage="%(prog)s [options] [-- PYTEST_ARGUMENT ...]")
    parser.add_argument("--python", required=True, help="interpreter that has pytest >= 7.0")
    parser.add_argument("--cwd", required=True, help="directory to run pytest in")
    parser.add_argument("--out", required=True, help="file of records, written anew")
    paths_help = "one path or node id a line; an empty file leaves the choice to pytest's settings"
    parser.add_argument("--paths-file", required=True, help=paths_help)
    crashes_help = "how many crashes to go on after (default: %(default)s)"
    parser.add_argument("--max-crashes", type=int, default=CRASHES_MAX, help=crashes_help)
    options = parser.parse_args(own)
    with open(options.paths_file, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        lines = [line for line in file.read().split("\n") if line]
    python: str = options.python
    return Order(
        python=os.path.abspath(python) if os.sep in python else python,
        cwd=os.path.abspath(options.cwd),
        out=os.path.abspath(options.out),
        crashes_max=options.max_crashes,
        paths=[line for line in lines if "::" not in line],
        nodeids=[line for line in lines if "::" in line],
        extra=argv[len(own) + 1 :],
    )


def run_until_nothing_is_left(order: Order, ledger: Ledger, child: Child) -> int | None:
    """Run pytest again after each crash it is worth it; return pytest's last own exit code."""
    while True:
        write_request(order, ledger)
        try:
            exit_code = child.run(pytest_command(order), environment(order))
        except OSError as error:
            say(f"cannot start {order.python}: {error.strerror}")
            return None
        progressed = ledger.read()
        ended = read_json(os.path.join(order.scratch, "ended.json"))
        if ended is not None:
            if exit_code >= 0:
                return exit_code
            say(f"pytest had finished, then died: {describe_death(exit_code)}")
            return int(ended["exitstatus"])
        if not ledger.session_seen and exit_code in {0, 1, 4}:  # pytest gave up before a session
            if exit_code == 1 and lacks_pytest(order, child):
                return None
            return exit_code
        ledger.add_crash(exit_code)
        left = len(ledger.remaining())
        if not (progressed and left) or ledger.enough(order.crashes_max):
            return None
        say(f"{describe_death(exit_code)}; starting pytest again for the {left} tests left")


def lacks_pytest(order: Order, child: Child) -> bool:
    """Say whether the interpreter has no pytest, also to people."""
    if not child.run([order.python, "-c", "import pytest"], {**os.environ}, quiet=True):
        return False
    pip = f"{order.python} -m pip install pytest"
    say(f"{order.python} cannot import pytest; next step: {pip}")
    return True


def write_request(order: Order, ledger: Ledger) -> None:
    """Tell the plugin what to select and where to write, and clear what it left last time."""
    request = {
        "out": order.out,
        "scratch": order.scratch,
        "pythonpath": os.environ.get("PYTHONPATH"),
        "paths": order.paths,
        "nodeids": order.nodeids,
        "only": None if ledger.collected is None else ledger.remaining(),
        "reported": ledger.told_files,
        "failures_before": ledger.failures,
        "again": ledger.collected is not None,
        "feed": None,
        "collect": False,
        "done": None,
        "worker": None,
    }
    clear(order.scratch)
    with open(os.path.join(order.scratch, "request.json"), "w", encoding="utf-8") as file:
        json.dump(request, file)


def pytest_command(order: Order) -> list[str]:
    """The command line: whole files only, since pytest finds its root directory by them.

    The plugin picks the tests that were named: thousands of node ids would be slow for pytest to
    look up one by one, might not fit on a command line, and need not survive being parsed there.
    """
    named_files = [nodeid.partition("::")[0] for nodeid in order.nodeids]
    # A leading "-" or "@" would make it an option or a file of arguments.
    paths = [
        f"./{path}" if path.startswith(("-", "@")) else path
        for path in dict.fromkeys([*order.paths, *named_files])
    ]
    command = [order.python, "-m", "pytest", "-p", PLUGIN, "--continue-on-collection-errors"]
    # The tree under test is not ours: the cache goes beside the records.
    command += ["-o", f"cache_dir={order.scratch}/pytest_cache"]
    return [*command, *paths, *order.extra]


def environment(order: Order) -> dict[str, str]:
    """The caller's environment, a way to the plugin (which takes it out again), and one default."""
    pythonpath = os.environ.get("PYTHONPATH")
    added = {
        "PYTHONPATH": os.pathsep.join([PLUGIN_DIRECTORY, *([pythonpath] if pythonpath else [])]),
        REQUEST_ENV: os.path.join(order.scratch, "request.json"),
    }
    # Bytecode is trusted by size and whole-second mtime of its source: in a tree that is synced
    # between sessions it can be stale, and would test code that is gone. A caller who wants it
    # sets the variable empty.
    return {"PYTHONDONTWRITEBYTECODE": "1", **os.environ, **added}


class Child:
    """The one child process at a time, which is told of a SIGTERM.

    SIGINT is left to pytest, which the terminal tells as well and which then ends in order. A child
    that is watched gets it in the place of SIGTERM: it tears down what its tests have set up.
    """

    def __init__(self) -> None:
        self._told_to_stop = False
        self._pid: int | None = None
        self._has_group = False
        self._defaults = {signal.SIGPIPE}  # Python ignores it, pytest and its tests should not
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._defaults.add(signal.SIGINT)
        signal.signal(signal.SIGTERM, self._pass_on)

    def run(
        self,
        command: list[str],
        env: dict[str, str],
        *,
        quiet: bool = False,
        look: Callable[[int], None] | None = None,
    ) -> int:
        """Run it to its end: an exit code, or a negative signal number.

        ``look`` is called with its pid every few milliseconds while it runs, and may end it; then
        it has a process group of its own.
        """
        silence = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
        # Held back, so that a SIGTERM at this moment finds either no child or a known one.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            if self._told_to_stop:
                self._die()
            self._has_group = look is not None
            self._pid = os.posix_spawnp(
                command[0],
                command,
                env,
                file_actions=[silence] if quiet else [],
                setsigmask=mask,
                setsigdef=self._defaults,
                setpgroup=os.getpgrp() if look is None else 0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        pid = self._pid
        status = self._status(pid, look)
        self._pid = None
        if self._told_to_stop and look is not None:
            _let_go(pid)
        if self._told_to_stop:
            self._die()
        return os.waitstatus_to_exitcode(status)

    def _status(self, pid: int, look: Callable[[int], None] | None) -> int:
        while look is not None:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            look(pid)
            time.sleep(LOOK_EVERY_S)
        return os.waitpid(pid, 0)[1]

    def _die(self) -> None:
        # By the signal itself, so that the caller sees what its own SIGTERM did.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)

    def _pass_on(self, signal_number: int, _frame: object) -> None:
        self._told_to_stop = True
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended in this very moment
                os.kill(self._pid, signal.SIGINT if self._has_group else signal_number)


def _let_go(group: int) -> None:
    """Give what a child has left behind the same grace: whoever wants an end of it will kill."""
    number = int(signal.SIGTERM)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while True:
            os.killpg(group, number)
            number = 0  # from now on only asked whether there is anybody
            time.sleep(LOOK_EVERY_S)


def clear(scratch: str) -> None:
    """Delete what the plugin was told and has left; the cache of pytest stays."""
    for name in os.listdir(scratch):
        if name.endswith(".json"):
            os.remove(os.path.join(scratch, name))


def say(message: str) -> None:
    """One line to stderr, between those of pytest."""
    sys.stderr.write(f"dtest: {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
