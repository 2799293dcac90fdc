"""Starts attempts, each in a session of its own, and writes down how they ended.

Runs as ``python -I -S process.py DIR``: standard library only, no network. It talks to the agent
over the Unix socket ``DIR/keeper.sock`` in JSON lines. When the agent dies, attempts go on and
their ends wait on disk; when the keeper dies, the agent removes what it had started.
"""

from __future__ import annotations

import errno
import io
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

LONELY_S_MAX = 60.0
"""Without an agent and without attempts for this long, the keeper ends."""
LINE_BYTES_MAX = 16 << 20
SWEEP_ROUNDS_MAX = 20
MARK = "DTEST_ATTEMPT_KEY"
_PR_SET_CHILD_SUBREAPER = 36


class Attempt:
    """One running attempt."""

    def __init__(self, key: str, directory: Path, child: subprocess.Popen[bytes]) -> None:
        self.key = key
        self.directory = directory
        self.child = child
        self.started_at = time.time()
        self.start_ticks = start_ticks(child.pid)
        self.kill_at: float | None = None
        self.stopped = False


class Keeper:
    """The loop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.attempts: dict[int, Attempt] = {}
        self.selector = selectors.DefaultSelector()
        self.agent: socket.socket | None = None
        self.received = b""
        self.unsent = b""
        self.base_env: dict[str, str] = {}
        self.lonely_since = time.monotonic()
        self.quitting = False

    def run(self) -> int:
        """Serve until told to quit or lonely for too long."""
        wakeup, wake = os.pipe()
        os.set_blocking(wakeup, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        (self.directory / "keeper.sock").unlink(missing_ok=True)
        return 0

    def _listen(self) -> socket.socket:
        path = self.directory / "keeper.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.umask(0o077)
        listener.bind(str(path))
        listener.listen(1)
        listener.setblocking(False)
        write_json(
            self.directory / "keeper.json",
            {"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())},
        )
        return listener

    def _terminate(self, *_: object) -> None:
        self.quitting = True
        for attempt in self.attempts.values():
            self._stop(attempt, 1.0)

    def _is_over(self) -> bool:
        if self.attempts:
            return False
        if self.quitting:
            return True
        return self.agent is None and time.monotonic() - self.lonely_since > LONELY_S_MAX

    def _wait_s(self) -> float:
        instants = [a.kill_at for a in self.attempts.values() if a.kill_at is not None]
        if instants:
            return max(0.0, min(instants) - time.monotonic())
        return 5.0 if self.agent is None else 60.0

    # -- the agent's line ---------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        self._lose_agent()
        connection.setblocking(False)
        self.agent = connection
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
            self._obey(json.loads(line))
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
                self.base_env = order["env"]
            case "spawn":
                self._spawn(order)
            case "kill":
                for attempt in self.attempts.values():
                    if attempt.key == order["key"]:
                        self._stop(attempt, float(order["grace_s"]))
            case "list":
                found = [
                    {"key": a.key, "pid": a.child.pid, "started_at": a.started_at}
                    for a in self.attempts.values()
                ]
                self._say({"op": "list", "attempts": found})
            case "quit":
                self.quitting = True
            case other:
                self._say({"op": "error", "detail": f"unknown order {other!r}"})

    # -- attempts -----------------------------------------------------------------------------

    def _spawn(self, order: dict[str, Any]) -> None:
        directory = Path(order["dir"])
        environment = {**self.base_env, **order["env"], MARK: order["key"]}
        try:
            with open_output(directory / "output.log") as output:
                child = subprocess.Popen(
                    order["argv"],
                    cwd=order["cwd"],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    close_fds=False,  # every descriptor here is close-on-exec already
                )
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            reason = errno.errorcode.get(number or 0, type(error).__name__)
            self._say({"op": "failed", "key": order["key"], "errno": reason, "detail": str(error)})
            return
        attempt = Attempt(order["key"], directory, child)
        self.attempts[child.pid] = attempt
        started = {
            "key": attempt.key,
            "pid": child.pid,
            "start_ticks": attempt.start_ticks,
            "started_at": attempt.started_at,
        }
        write_json(directory / "pid.json", started)
        self._say({"op": "spawned", **started})

    def _stop(self, attempt: Attempt, grace_s: float) -> None:
        attempt.stopped = True
        due = time.monotonic() + grace_s
        if attempt.kill_at is None or due < attempt.kill_at:
            attempt.kill_at = due
        signal_group(attempt.child.pid, signal.SIGTERM)

    def _kill_due(self) -> None:
        now = time.monotonic()
        for attempt in self.attempts.values():
            if attempt.kill_at is not None and attempt.kill_at <= now:
                attempt.kill_at = now + 1.0
                signal_group(attempt.child.pid, signal.SIGKILL)
                sweep(attempt.key)

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
            attempt = self.attempts.pop(pid, None)
            if attempt is None:
                continue  # an orphan of an attempt, adopted and ended
            attempt.child.returncode = 0  # reaped here, not by subprocess
            signal_group(pid, signal.SIGKILL)
            sweep(attempt.key)
            code = os.waitstatus_to_exitcode(status)
            ended = {
                "key": attempt.key,
                "exit_code": code if code >= 0 else None,
                "signal": -code if code < 0 else None,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "memory_bytes_peak": self._peak_bytes(usage.ru_maxrss),
                "started_at": attempt.started_at,
                "ended_at": time.time(),
                "stopped": attempt.stopped,
            }
            write_json(attempt.directory / "exit.json", ended)
            self._say({"op": "exited", **ended})
        self._flush()
        if self.attempts:
            self.lonely_since = time.monotonic()


def own_peak() -> int:
    """Return the peak resident memory of this process, in the unit of ``ru_maxrss``."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def signal_group(pid: int, number: int) -> None:
    """Signal a whole process group; one that is gone needs nothing."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def sweep(key: str) -> None:
    """Kill what left the attempt's session: orphans come to the keeper and carry its mark."""
    mark = f"{MARK}={key}".encode()
    for _ in range(SWEEP_ROUNDS_MAX):
        escaped = [pid for pid in _children() if _carries(pid, mark)]
        if not escaped:
            return
        for pid in escaped:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue


def _children() -> list[int]:
    path = f"/proc/self/task/{os.getpid()}/children"
    try:
        with open(path, encoding="ascii") as listing:
            return [int(word) for word in listing.read().split()]
    except OSError:
        return []  # not Linux: the process group is all that can be found


def _carries(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            return mark in environment.read().split(b"\0")
    except OSError:
        return False


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot: pid and this name a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one line over what is there; readers take the first line, or nothing if it is torn.

    No truncation and no rename: on a busy disk each would wait for the file system's journal.
    """
    write_line(path, json.dumps(content).encode())


def write_line(path: Path, line: bytes) -> None:
    """Write a line at the start of a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line + b"\n")
    finally:
        os.close(descriptor)


def open_output(path: Path) -> io.FileIO:
    """Open an empty file that every write appends to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    if os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, 0)
    return io.FileIO(descriptor, "wb")


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


if __name__ == "__main__":
    adopt_orphans()
    sys.exit(Keeper(Path(sys.argv[1])).run())
