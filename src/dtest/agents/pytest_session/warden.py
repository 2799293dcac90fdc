"""Looks at a running pytest, and ends it where it takes too long or the agent says so."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from dtest.agents.pytest_session.fed_ledger import FedLedger, written_after, written_bytes
from dtest.agents.pytest_session.ledger import read_json

ABORT_S = 1.0
"""So long pytest may take to print all stacks before it is killed, or to go when it is told to."""
LINGER_S = 5.0
"""So long a process may stay once pytest has ended, if a thread keeps it."""
LEAVE_S = 30.0
"""The same where no thread does: something is being put away."""
KILL_FILE = "kill"
"""Its text is the reason why the agent wants the running test ended."""


class Warden:
    """Watches one run of pytest."""

    def __init__(self, scratch: str, ledger: FedLedger, *, test_timeout_s: float | None) -> None:
        self.why = ""
        """Why pytest was ended, if it was."""
        self.lingered_s: float | None = None
        """After how long a process was ended that would not end by itself."""
        self._scratch = scratch
        self._limit_s = test_timeout_s
        self._ledger = ledger
        self._abort_at = 0.0
        self._output_bytes = 0
        self._ended_at: float | None = None
        self._linger_s = LEAVE_S

    def look(self, pid: int) -> None:
        """Take in what was recorded, and act."""
        self._ledger.read(alive=True)
        if self.why or self.lingered_s is not None:
            if time.monotonic() > self._abort_at + ABORT_S:
                signal_group(pid, signal.SIGKILL)
            return
        if self._has_ended(pid):
            return
        ordered = self._ordered()
        running = self._ledger.running or self._ledger.closing
        if ordered:
            self.why = ordered
            signal_group(pid, signal.SIGKILL)
        elif (
            running is not None
            and self._limit_s is not None
            and time.perf_counter() - running.since > self._limit_s
        ):
            self.why = f"timed out after {self._limit_s:g} s"
            self._output_bytes = written_bytes()
            self._abort_at = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)  # pytest's faulthandler prints all stacks

    def stacks(self) -> str:
        """What pytest said when it was aborted."""
        return written_after(self._output_bytes) if self.why and self._abort_at else ""

    def _has_ended(self, pid: int) -> bool:
        """Say whether pytest has ended, and only its process is still there; end that in time."""
        if self._ended_at is None:
            ended = read_json(os.path.join(self._scratch, "ended.json"))
            if ended is None:
                return False
            self._ended_at = time.monotonic()
            self._linger_s = LINGER_S if ended.get("threads") else LEAVE_S
        stayed_s = time.monotonic() - self._ended_at
        if stayed_s > self._linger_s:
            self.lingered_s = stayed_s
            self._abort_at = time.monotonic()
            signal_group(pid, signal.SIGTERM)
        return True

    def _ordered(self) -> str:
        path = os.path.join(self._scratch, KILL_FILE)
        try:
            with open(path, encoding="utf-8") as file:
                why = file.read()
            os.remove(path)
        except FileNotFoundError:
            return ""
        return why


def signal_group(pid: int, number: signal.Signals) -> bool:
    """Signal a group of processes; say whether it has any."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
