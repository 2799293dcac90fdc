"""Runs one process to its end, with what it starts: in a group of its own, watched meanwhile."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

LOOK_EVERY_S = 0.02
READ_BYTES = 65_536
DRAIN_S = 0.2
"""After its end, for what is still in the pipe; a process that left the group may hold it open."""


class End(NamedTuple):
    """How it ended."""

    exit_code: int
    """Negative for a signal."""
    why: str
    """Why it was ended, if it was."""


class Processes:
    """Starts one process at a time, and passes SIGTERM on to it."""

    def __init__(self) -> None:
        self._group: int | None = None
        self._told_to_stop = False
        self._is_starting = False
        signal.signal(signal.SIGTERM, self._pass_on)

    def run(
        self,
        command: Sequence[str],
        *,
        take: Callable[[bytes], None] | None,
        with_errors: bool = False,
        look: Callable[[], str],
    ) -> End:
        """Run it. Raises OSError if it cannot be started.

        ``take`` gets its standard output, and with ``with_errors`` standard error; what is not
        taken goes where the session's own goes. ``look`` is called again and again and returns
        why the process is to be ended, or nothing.
        """
        with self._start(command, is_taken=take is not None, with_errors=with_errors) as child:
            try:
                why = self._follow(child, take, look)
            finally:
                self._let_go()
                self._signal(signal.SIGKILL)  # and whatever it left behind
                self._group = None
            if child.stdout is not None and take is not None:
                _drain(child.stdout.fileno(), take)
        if self._told_to_stop:
            _die()
        return End(child.returncode, why)

    def _start(
        self, command: Sequence[str], *, is_taken: bool, with_errors: bool
    ) -> "subprocess.Popen[bytes]":
        self._is_starting = True  # from here on there may be a child that is not known yet
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_taken else None,
                stderr=subprocess.STDOUT if with_errors else None,
                process_group=0,
            )
            self._group = child.pid
        finally:
            self._is_starting = False
        if self._told_to_stop:
            self._signal(signal.SIGTERM)
        return child

    def _follow(
        self,
        child: "subprocess.Popen[bytes]",
        take: Callable[[bytes], None] | None,
        look: Callable[[], str],
    ) -> str:
        why = ""
        pipe = child.stdout.fileno() if child.stdout is not None else None
        while child.poll() is None:
            if pipe is None or take is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(LOOK_EVERY_S)
            elif select.select([pipe], [], [], LOOK_EVERY_S)[0]:
                data = os.read(pipe, READ_BYTES)
                if data:
                    take(data)
                else:
                    pipe = None
            if not why:
                why = look()
                if why:
                    self._signal(signal.SIGKILL)
        return why

    def _let_go(self) -> None:
        """Leave what was told to stop its time: whoever wants an end of it will kill this, too."""
        while self._told_to_stop and self._group is not None:
            try:
                os.killpg(self._group, 0)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(LOOK_EVERY_S)

    def _signal(self, number: signal.Signals) -> None:
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, number)

    def _pass_on(self, _number: int, _frame: object) -> None:
        self._told_to_stop = True
        if self._group is None and not self._is_starting:
            _die()
        self._signal(signal.SIGTERM)


def _die() -> None:
    """End by the signal itself, so that the caller sees what its own SIGTERM did."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _drain(pipe: int, take: Callable[[bytes], None]) -> None:
    while select.select([pipe], [], [], DRAIN_S)[0]:
        data = os.read(pipe, READ_BYTES)
        if not data:
            return
        take(data)


def describe(exit_code: int) -> str:
    """Say how a process ended that did not say so itself."""
    if exit_code >= 0:
        return f"exit status {exit_code}"
    known = (each.name for each in signal.Signals if each == -exit_code)
    return f"crashed: signal {next(known, str(-exit_code))}"
