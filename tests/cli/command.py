"""Runs the installed ``dtest`` as a person at a prompt does, and finds what it leaves behind.

States no rule itself.
"""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pytest

from dtest.cli.main import main

DTEST = str(Path(sys.executable).with_name("dtest"))
AGENT = str(Path(sys.executable).with_name("dtest-agent"))
CALL_S_MAX = 120.0
END_S_MAX = 30.0
POLL_S = 0.05
MARK = "CLI_TESTS_MARK"
"""Inherited by every process that a person's call starts, through all of dtest's own."""
QUICK = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""The plugins of dtest's own tests take two seconds of each start of pytest."""
_FOREIGN = re.compile("DTEST_|XDG_|NATS_|PYTEST_|NO_COLOR|TERM$|COLUMNS")


@dataclass(frozen=True)
class Ended:
    """A call that is over."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, str]:
        """What ``--json`` says of an error."""
        return dict(json.loads(self.err.splitlines()[-1])["error"])

    def good(self) -> "Ended":
        """This, if its exit code is 0."""
        assert self.code == 0, f"{self.code}\n{self.out[-4000:]}\n{self.err[-4000:]}"
        return self


@dataclass
class Person:
    """Someone with a home, a directory and an environment of their own."""

    home: Path
    cwd: Path
    more: Mapping[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def env(self) -> dict[str, str]:
        """The environment of the person's calls."""
        kept = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
        own = {"HOME": str(self.home), "TMPDIR": str(self.temp), MARK: self.mark, **QUICK}
        return {**kept, **own, **self.more}

    @property
    def temp(self) -> Path:
        """Where temporary files go."""
        made = self.home / "tmp"
        made.mkdir(parents=True, exist_ok=True)
        return made

    @property
    def state(self) -> Path:
        """Where the stack of the cell `main` keeps its state by default."""
        return self.home / ".local" / "state" / "dtest" / "main"

    def at(self, cwd: Path, **more: str) -> "Person":
        """The same person elsewhere, or with more in the environment."""
        return Person(self.home, cwd, {**self.more, **more}, self.mark)

    def dtest(self, *arguments: str, stdin: str = "", program: str = DTEST) -> Ended:
        """Call and wait."""
        with self.started(*arguments, program=program) as call:
            out, err = call.communicate(stdin, timeout=CALL_S_MAX)
            return Ended(call.returncode, out, err)

    def here(self, *arguments: str, stdin: str = "") -> Ended:
        """Call inside of this process: all but the start of an interpreter, which costs most."""
        out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
        given = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        with (
            patch.dict(os.environ, self.env, clear=True),
            patch.object(sys, "argv", ["dtest", *arguments]),
            patch.object(sys, "stdin", given),
            chdir(self.cwd),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        return Ended(int(ended.value.code or 0), _text(out), _text(err))

    @contextmanager
    def started(self, *arguments: str, program: str = DTEST) -> Iterator["subprocess.Popen[str]"]:
        """Call and go on; a call that is not over at the end is killed."""
        process = subprocess.Popen(
            [program, *arguments],
            cwd=self.cwd,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def on_terminal(self, *arguments: str) -> str:
        """Call with a terminal for all three streams; return what it shows."""
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as screen:
            env = {"TERM": "xterm", "COLUMNS": "160", **self.env}
            command = [DTEST, *arguments]
            call = subprocess.Popen(
                command, cwd=self.cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs
            )
            os.close(theirs)
            shown = b"".join(_until_hung_up(screen.read))
            assert call.wait(CALL_S_MAX) == 0, shown
        return shown.decode()

    # -- what is left -----------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Everything that runs because of this person's calls."""
        return [process for process in psutil.process_iter() if _carries(process, self.mark)]

    def nothing_runs(self) -> None:
        """All of it ends by itself."""
        _, left = psutil.wait_procs(self.processes(), timeout=END_S_MAX)
        assert not [process for process in left if _carries(process, self.mark)], left

    def nothing_is_left(self) -> None:
        """No process, and nothing among the temporary files but what tested suites put there."""
        self.nothing_runs()
        eventually(lambda: not self.left(), what=f"{self.left()} is gone")

    def left(self) -> list[str]:
        """Temporary files that are not of a suite's own."""
        names = [path.name for path in self.temp.iterdir()]
        return [name for name in names if not name.startswith("pytest-of-")]

    def end_all(self) -> None:
        """End whatever a failed test left."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _text(written: io.TextIOWrapper) -> str:
    written.seek(0)
    return written.read()


def _until_hung_up(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Read a terminal; Linux says by an error that nobody holds its other end any more."""
    while True:
        try:
            chunk = read(65_536)
        except OSError:
            return
        if not chunk:
            return
        yield chunk


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def eventually(condition: Callable[[], bool], *, what: str, within_s: float = END_S_MAX) -> None:
    """Wait until a condition holds. Raises AssertionError when the time is over."""
    rounds = int(within_s / POLL_S)
    never = threading.Event()
    for _ in range(rounds):
        if condition():
            return
        never.wait(POLL_S)
    raise AssertionError(f"not within {within_s:g} s: {what}")


def said(call: "subprocess.Popen[str]", words: str) -> list[str]:
    """Read the call's standard error up to the line that holds the words."""
    assert call.stderr is not None
    lines: list[str] = []
    for line in call.stderr:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} was never said: {lines}")


def interrupt(call: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT) -> Ended:
    """Send a signal to the call alone and wait for its end."""
    call.send_signal(number)
    out, err = call.communicate(timeout=CALL_S_MAX)
    return Ended(call.returncode, out, err)
