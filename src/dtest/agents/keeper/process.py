"""Starts attempts, each in a session of its own, and writes down how they ended.

A process of its own (see ``keeper_command``): standard library only, no network. It talks to the
agent over the Unix socket ``DIR/keeper.sock`` in JSON lines. When the agent dies, attempts go on
and their ends wait on disk; when the keeper dies, the agent removes what it had started.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dtest.agents.keeper.descendants import MARK, mark_of, signal_group, start_ticks, sweep
from dtest.agents.keeper.notes import open_output, write_json

LONELY_S_MAX = 60.0
"""Without an agent and without attempts for this long, the keeper ends."""
IDLE_S_MAX = 60.0
LINE_BYTES_MAX = 16 << 20
TERMINATE_GRACE_S = 1.0
GRACE_LOOK_S = 0.02
"""How often to look whether the rest of a stopped group has ended."""
_PR_SET_CHILD_SUBREAPER = 36
_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""`subprocess` gives these back by itself."""
_NO_ORDER = (ValueError, TypeError, KeyError, RecursionError)


class Attempt:
    """One running attempt."""

    def __init__(self, key: str, directory: Path, child: subprocess.Popen[bytes]) -> None:
        self.key = key
        self.directory = directory
        self.child = child
        self.started_at = time.time()
        self.start_ticks = start_ticks(child.pid)
        self.mark = mark_of(key, directory)
        self.kill_at: float | None = None
        self.stopped: str | None = None
        """Why it was stopped, if it was."""
        self.ended: dict[str, Any] | None = None
        """How its first process ended, while others of its group still have their grace."""


class Keeper:
    """The loop."""

    def __init__(self, directory: Path, *, lonely_s_max: float = LONELY_S_MAX) -> None:
        self.directory = directory
        self.lonely_s_max = lonely_s_max
        self.attempts: dict[int, Attempt] = {}
        self.selector = selectors.DefaultSelector()
        self.agent: socket.socket | None = None
        self.received = b""
        self.unsent = b""
        self.unnoted: list[dict[str, Any]] = []
        """Ends that the disk did not take."""
        self.inherited: dict[str, str] = {}
        self.lonely_since = time.monotonic()
        self.quitting = False

    def run(self) -> int:
        """Serve until told to quit or lonely for too long."""
        wakeup, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _only_wake)
        signal.signal(signal.SIGINT, _only_wake)  # not ignored: attempts would inherit that
        signal.signal(signal.SIGTERM, self._terminate)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        listener = self._listen()
        self.selector.register(listener, selectors.EVENT_READ, "accept")
        self.selector.register(wakeup, selectors.EVENT_READ, "signal")
        while not self._is_over():
            for key, _ in self.selector.select(self._wait_s()):
                if key.data == "accept":
                    self._accept(listener)
                elif key.data == "signal":
                    _drain(wakeup)
                else:
                    self._serve()
            self._reap()
            self._kill_due()
        Path("keeper.sock").unlink(missing_ok=True)
        return 0

    def _listen(self) -> socket.socket:
        os.chdir(self.directory)  # an address has room for 107 bytes; this one is short
        for name in ("keeper.sock", "keeper.json"):
            Path(name).unlink(missing_ok=True)
        write_json(
            Path("keeper.json"), {"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}
        )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        listener.bind("keeper.sock")
        os.umask(before)
        listener.listen(1)
        listener.setblocking(False)
        return listener

    def _terminate(self, *_: object) -> None:
        self.quitting = True
        for attempt in self.attempts.values():
            self._stop(attempt, TERMINATE_GRACE_S, "worker_shutdown")

    def _is_over(self) -> bool:
        if self.attempts:
            return False
        return self.quitting or (self.agent is None and self._lonely_s() > self.lonely_s_max)

    def _lonely_s(self) -> float:
        return time.monotonic() - self.lonely_since

    def _wait_s(self) -> float:
        now = time.monotonic()
        waits = [a.kill_at - now for a in self.attempts.values() if a.kill_at is not None]
        if any(attempt.ended is not None for attempt in self.attempts.values()):
            waits.append(GRACE_LOOK_S)
        if self.agent is None and not self.attempts:
            waits.append(self.lonely_s_max - self._lonely_s() + 0.001)
        return max(0.0, min([IDLE_S_MAX, *waits]))

    # -- the agent's line ---------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # it gave up already
        self._lose_agent()
        connection.setblocking(False)
        self.agent = connection
        self.quitting = False  # that was said to an agent that went
        self.selector.register(connection, selectors.EVENT_READ, "agent")

    def _lose_agent(self) -> None:
        if self.agent is not None:
            self.selector.unregister(self.agent)
            self.agent.close()
        self.agent, self.received, self.unsent = None, b"", b""
        self.lonely_since = time.monotonic()

    def _serve(self) -> None:
        agent = self.agent
        if agent is None:
            return
        try:
            data = agent.recv(1 << 20)
        except BlockingIOError:
            self._flush()
            return
        except OSError:
            data = b""
        if not data or len(self.received) > LINE_BYTES_MAX:
            self._lose_agent()
            return
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            try:
                self._obey(json.loads(line))
            except _NO_ORDER as error:
                self._say({"op": "error", "detail": f"no order: {type(error).__name__} {error}"})
        self._flush()

    def _say(self, message: dict[str, Any]) -> None:
        if self.agent is not None:
            self.unsent += json.dumps(message).encode() + b"\n"

    def _flush(self) -> None:
        agent = self.agent
        if agent is None:
            return
        try:
            while self.unsent:
                self.unsent = self.unsent[agent.send(self.unsent) :]
            wanted = selectors.EVENT_READ
        except BlockingIOError:
            wanted = selectors.EVENT_READ | selectors.EVENT_WRITE
        except OSError:
            self._lose_agent()
            return
        self.selector.modify(agent, wanted, "agent")

    def _obey(self, order: dict[str, Any]) -> None:
        match order["op"]:
            case "env":
                self.inherited = dict(order["env"])
            case "spawn":
                self._spawn(order)
            case "kill":
                for attempt in self.attempts.values():
                    if attempt.key == order["key"]:
                        self._stop(attempt, float(order["grace_s"]), str(order["reason"]))
            case "list":
                self._list()
            case "quit":
                self.quitting = True
            case other:
                self._say({"op": "error", "detail": f"unknown order {other!r}"})

    def _list(self) -> None:
        for ended in self.unnoted:
            self._say({"op": "exited", **ended})
        self.unnoted.clear()
        found = [
            {"key": a.key, "pid": a.child.pid, "started_at": a.started_at}
            for a in self.attempts.values()
        ]
        self._say({"op": "list", "pid": os.getpid(), "attempts": found})

    # -- attempts -----------------------------------------------------------------------------

    def _spawn(self, order: dict[str, Any]) -> None:
        key, directory = str(order["key"]), Path(order["dir"])
        try:
            with open_output(directory / "output.log") as output:
                child = subprocess.Popen(
                    order["argv"],
                    cwd=order["cwd"],
                    env={**self.inherited, **order["env"], MARK: mark_of(key, directory)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    close_fds=False,  # every descriptor here is close-on-exec already
                )
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            reason = errno.errorcode.get(number or 0, type(error).__name__)
            missing = _is_of_program(error, str(next(iter(order["argv"]), "")))
            failed = {"errno": reason, "detail": str(error), "of_program": missing}
            self._say({"op": "failed", "key": key, **failed})
            return
        attempt = Attempt(key, directory, child)
        self.attempts[child.pid] = attempt
        started = {
            "key": key,
            "pid": child.pid,
            "start_ticks": attempt.start_ticks,
            "started_at": attempt.started_at,
        }
        _noted(directory / "pid.json", started)
        self._say({"op": "spawned", **started})

    def _stop(self, attempt: Attempt, grace_s: float, reason: str) -> None:
        attempt.stopped = attempt.stopped or reason
        due = time.monotonic() + grace_s
        if attempt.kill_at is None or due < attempt.kill_at:
            attempt.kill_at = due
        signal_group(attempt.child.pid, signal.SIGTERM)

    def _kill_due(self) -> None:
        now = time.monotonic()
        for attempt in self.attempts.values():
            if attempt.kill_at is not None and attempt.kill_at <= now:
                attempt.kill_at = now + 1.0
                if attempt.ended is not None:
                    attempt.ended["in_time"] = False
                signal_group(attempt.child.pid, signal.SIGKILL)
                sweep(attempt.mark, self.attempts)
        for pid, attempt in list(self.attempts.items()):
            if attempt.ended is not None and not self._has_grace(attempt):
                self._conclude(pid, attempt)
                self._flush()

    def _has_grace(self, attempt: Attempt) -> bool:
        """Say whether others of a stopped group are left, and may still save what they have."""
        if attempt.kill_at is None or attempt.kill_at <= time.monotonic():
            return False
        return signal_group(attempt.child.pid, 0)

    @staticmethod
    def _peak_bytes(peak: int) -> int | None:
        """Return a child's peak in bytes; none while it does not exceed what it inherited.

        Linux counts the memory of the parent that a child shares between fork and exec.
        """
        unit = 1 if sys.platform == "darwin" else 1024
        return peak * unit if peak > own_peak() else None

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            attempt = self.attempts.get(pid)
            if attempt is None or attempt.ended is not None:
                continue  # an orphan of an attempt, adopted and ended
            attempt.child.returncode = 0  # reaped here, not by subprocess
            code = os.waitstatus_to_exitcode(status)
            attempt.ended = {
                "key": attempt.key,
                "exit_code": code if code >= 0 else None,
                "signal": -code if code < 0 else None,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "memory_bytes_peak": self._peak_bytes(usage.ru_maxrss),
                "started_at": attempt.started_at,
                "stopped": attempt.stopped,
            }
            # What outlives its parent has heeded the signal: it ends by itself, in its own time.
            attempt.ended["in_time"] = self._has_grace(attempt)
            if not attempt.ended["in_time"]:
                self._conclude(pid, attempt)
        self._flush()

    def _conclude(self, pid: int, attempt: Attempt) -> None:
        """End what is left of an attempt, and tell how it ended."""
        del self.attempts[pid]
        signal_group(pid, signal.SIGKILL)
        # Orphans without a mark belong to somebody; nobody is left once the last attempt ended.
        sweep(attempt.mark if self.attempts else None, self.attempts)
        ended = {**(attempt.ended or {}), "ended_at": time.time()}
        if not _noted(attempt.directory / "exit.json", ended) and self.agent is None:
            self.unnoted.append(ended)
        self._say({"op": "exited", **ended})
        self.lonely_since = time.monotonic()


def _is_of_program(error: Exception, program: str) -> bool:
    """Say whether a program could not be started, which another worker could not either."""
    if not isinstance(error, OSError):
        return True  # what no system takes as an argument
    return error.filename == program or error.errno in {errno.E2BIG, errno.ENAMETOOLONG}


def own_peak() -> int:
    """Return the peak resident memory of this very program, in the unit of ``ru_maxrss``.

    On Linux ``ru_maxrss`` itself would count what ran in this process before ``exec``, or shared
    its memory then: the agent, which may be larger than any attempt. See VmHWM in proc(5).
    """
    if sys.platform.startswith("linux"):
        with open("/proc/self/status", "rb") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(b"VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # type: ignore[unreachable] # not Linux


def _noted(path: Path, content: dict[str, Any]) -> bool:
    try:
        write_json(path, content)
    except OSError as error:  # the disk is full, or the attempt removed its own directory
        sys.stderr.write(f"cannot write {path}: {error}\n")
        return False
    return True


def _only_wake(*_: object) -> None:
    return


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        return


def adopt_orphans() -> None:
    """Have orphans of attempts come to this process (Linux only)."""
    if sys.platform.startswith("linux"):
        import ctypes  # noqa: PLC0415 - slow to import, and of no use elsewhere

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def restore_signals() -> None:
    """Undo what `nohup` or a shell's `&` have left ignored: attempts would inherit it."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def main() -> None:
    """Run a keeper: directory, and how long it may be lonely if that differs."""
    if os.getsid(0) != os.getpid():
        os.setsid()  # what ends the agent's group must not end this
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # what whoever started the agent left open
    restore_signals()
    adopt_orphans()
    lonely_s_max = float(sys.argv[2]) if len(sys.argv) > 2 else LONELY_S_MAX  # noqa: PLR2004
    sys.exit(Keeper(Path(sys.argv[1]), lonely_s_max=lonely_s_max).run())
