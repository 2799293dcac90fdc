"""Starts and stops the supervisor of a local stack as a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dtest.caller.warm_stack import taken
from dtest.errors import DtestError, Unavailable, UsageError
from dtest.runtime.first_suite import FirstSuite, write_first
from dtest.runtime.kept import Watched
from dtest.runtime.lifecycle import end_with_parent, signals_held
from dtest.runtime.nats_server import LOOPBACK
from dtest.runtime.stack_file import StackFile, read_last_words, read_stack_file
from dtest.settings import Settings, settings_of

WAIT_S_MAX = 90.0
GIVE_UP_S_MAX = 20.0
LOOK_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class LocalStack:
    """What to start."""

    cell: str
    state_dir: Path
    workers: int = 2
    slots: int | None = None
    simulate: str = ""
    simulate_slots: int = 4
    simulate_seconds: float = 0.1
    schedulers: int = 1
    port: int = 0
    listen: str = LOOPBACK
    nats: str | None = None
    nodes: int | None = None
    replicas: int | None = None
    brokers_only: bool = False
    first: bool = False
    """Whoever starts it hands a suite in at once."""
    throw_away: bool = False
    """The state directory is removed when the stack ends, and the stack ends with its caller,
    unless it is kept."""
    kept: Watched | None = None
    """It stays for the next call, but does not outlive these; see ``runtime.kept``."""

    @property
    def path(self) -> Path:
        """Where the stack writes its addresses and credentials."""
        return self.state_dir / self.cell / "stack.json"

    @property
    def options(self) -> dict[str, Any]:
        """What the supervisor is told."""
        return {**asdict(self), "state_dir": str(self.state_dir)}

    @property
    def command(self) -> list[str]:
        """How the supervisor is started."""
        return [sys.executable, "-P", "-m", "dtest.roles.stack_main", json.dumps(self.options)]

    def start(self, *, first: Callable[[], FirstSuite] | None = None) -> StackFile:
        """Start it and wait until it serves; ``first`` makes in between what is handed in first.

        Raises Unavailable with the cause.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        log_path = self.path.with_name("stack.log")
        with log_path.open("ab") as log, signals_held() as release:

            def prepare() -> None:
                release()
                if self.throw_away and self.kept is None:
                    end_with_parent()

            warm = taken()
            process = None if warm is None else warm.tell(self.options, log_path)
            process = process or subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 - no threads yet
            )
            try:
                release()
                if first is not None:
                    write_first(self.path.parent, first())
                return self._wait_for(process, log_path)
            except BaseException:
                _give_up(process)
                raise

    def _wait_for(self, process: subprocess.Popen[bytes], log_path: Path) -> StackFile:
        deadline = time.monotonic() + WAIT_S_MAX
        while time.monotonic() < deadline:
            stack = read_stack_file(self.path)
            if stack is not None and stack.pid == process.pid:
                return stack
            if process.poll() is not None:
                raise _why_not_started(process.returncode, log_path)
            time.sleep(LOOK_EVERY_S)
        message = f"the stack did not become ready in {WAIT_S_MAX:g} s"
        raise Unavailable(message, hint=f"see {log_path}")


@dataclass(frozen=True, slots=True)
class OwnStack:
    """A stack that is up, for whoever had it made."""

    settings: Settings
    first_seq: int | None = None
    """Where in its journal the suite was asked for that it was made for, if it was."""


def _give_up(process: subprocess.Popen[bytes]) -> None:
    """End a supervisor that is still starting, with all that it has started so far."""
    process.terminate()
    try:
        process.wait(GIVE_UP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _why_not_started(code: int, log_path: Path) -> DtestError:
    """Return the supervisor's last words as an error of this process."""
    words = log_path.read_text(errors="replace") if log_path.exists() else ""
    lines = words.strip().splitlines() or ["no reason given"]
    told = read_last_words(lines[-1])
    message, hint = told if told is not None else (lines[-1], f"see {log_path}")
    kind = UsageError if code == UsageError.exit_code else Unavailable
    return kind(f"the stack did not start: {message}", hint=hint)


def stop_stack(path: Path) -> StackFile | None:
    """Stop the stack that a file describes and wait; none if there is none."""
    stack = read_stack_file(path)
    if stack is None:
        return None
    os.kill(stack.pid, signal.SIGTERM)
    deadline = time.monotonic() + WAIT_S_MAX
    while read_stack_file(path) is not None:
        if time.monotonic() > deadline:
            message = f"the stack (pid {stack.pid}) did not stop in {WAIT_S_MAX:g} s"
            raise Unavailable(message, hint=f"see {path.with_name('stack.log')}")
        time.sleep(LOOK_EVERY_S)
    return stack


@contextmanager
def throw_away_stack(
    *, first: Callable[[], FirstSuite] | None = None, **options: object
) -> Iterator[OwnStack]:
    """Run a stack for the length of a block and leave nothing behind.

    ``first`` makes, while it starts, what is handed in first.
    """
    directory = Path(tempfile.mkdtemp(prefix="dtest-"))
    wanted = LocalStack(
        "main",
        directory,
        throw_away=True,
        first=first is not None,
        **options,  # type: ignore[arg-type]
    )
    keeps_logs = False
    try:
        try:
            stack = wanted.start(first=first)
        except Unavailable:
            keeps_logs = True  # the error names them
            raise
        yield OwnStack(settings_of(stack, directory), stack.first_seq)
    finally:
        if not keeps_logs:
            stop_stack(wanted.path)
            shutil.rmtree(directory, ignore_errors=True)
