"""Asks a fork server for processes, and follows what becomes of each."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dtest.roles.fork_server import REQUEST_BYTES_MAX, ROOM, Request
from dtest.runtime.lifecycle import end_with_parent

CAN_FORK = sys.platform.startswith("linux")
STATUS_S_MAX = 1.0
"""How long a server may take to say how a process has ended."""
UNKNOWN_STATUS = -signal.SIGTERM
"""Of one whose server ended before it: that is how they end."""


class Forked:
    """A process that a fork server has started."""

    def __init__(self, pid: int, watched: int, word: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._watched = watched
        self._word: int | None = word
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(watched, self._gone)

    async def wait(self) -> int:
        """Wait for its end; return its exit status."""
        await self._ended.wait()
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        """Send a signal. Raises ProcessLookupError if it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        signal.pidfd_send_signal(self._watched, number)

    def terminate(self) -> None:
        """Ask it to end. Raises ProcessLookupError if it has."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it. Raises ProcessLookupError if it has."""
        self.send_signal(signal.SIGKILL)

    def let_go(self) -> None:
        """Let it begin."""
        if self._word is not None:
            with suppress(BrokenPipeError):
                os.write(self._word, b"\n")
            os.close(self._word)
            self._word = None

    def note_end(self, code: int) -> None:
        """Take its exit status."""
        if self.returncode is None:
            self.returncode = code
            asyncio.get_running_loop().remove_reader(self._watched)
            os.close(self._watched)
            if self._word is not None:
                os.close(self._word)
                self._word = None
            self._ended.set()

    def _gone(self) -> None:
        """It has ended; its server says how, unless that has ended or hangs."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._watched)
        loop.call_later(STATUS_S_MAX, self.note_end, UNKNOWN_STATUS)


class ForkServer:
    """One server. It begins to load at once, and is started again if it has ended."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._asked: deque[tuple[asyncio.Future[Forked], int]] = deque()
        self._running: dict[int, Forked] = {}
        self._link: socket.socket | None = None
        self._is_heard = False
        self._process: subprocess.Popen[bytes]
        self._start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    async def fork(self, request: Request, log: Path) -> Forked:
        """Start a process that loads its code and waits for ``let_go``.

        Raises ChildProcessError if the server ends over it.
        """
        link = self._connected()
        words, word = os.pipe()
        answer: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        try:
            with log.open("ab") as output:
                # Small, and few at a time: it always fits into the socket's buffer.
                socket.send_fds(link, [request.encoded()], [words, output.fileno()])
        except OSError as error:
            os.close(word)
            message = f"the fork server takes no request: {error}"
            raise ChildProcessError(message) from error
        finally:
            os.close(words)
        self._asked.append((answer, word))
        return await answer

    def close(self) -> None:
        """End it, and what it has started and nobody has ended."""
        self._lost()

    def _connected(self) -> socket.socket:
        link = self._link if self._link is not None else self._start()
        if not self._is_heard:
            asyncio.get_running_loop().add_reader(link, self._hear)
            self._is_heard = True
        return link

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._link = ours
        self._is_heard = False
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dtest.roles.fork_server", str(theirs.fileno()), ROOM],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=self._environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - no threads yet, or it is on its own
            )
        return ours

    def _hear(self) -> None:
        if self._link is None:
            return
        try:
            message, descriptors, _, _ = socket.recv_fds(self._link, REQUEST_BYTES_MAX, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._lost()
            return
        told = json.loads(message)
        if "code" in told:
            self._running.pop(int(told["pid"])).note_end(int(told["code"]))
            return
        answer, word = self._asked.popleft()
        if "error" in told:
            os.close(word)
            if not answer.cancelled():
                answer.set_exception(ChildProcessError(told["error"]))
            return
        pid = int(told["pid"])
        child = Forked(pid, descriptors[0], word)
        self._running[pid] = child
        if answer.cancelled():
            child.kill()
        else:
            answer.set_result(child)

    def _lost(self) -> None:
        """The server has ended, or is to: what it has started ends with it."""
        if self._link is None:
            return
        if self._is_heard:
            asyncio.get_running_loop().remove_reader(self._link)
        self._link.close()
        self._link = None
        self._process.kill()
        self._process.wait()
        for answer, word in self._asked:
            os.close(word)
            if not answer.cancelled():
                message = "the fork server ended"
                answer.set_exception(ChildProcessError(message))
        self._asked.clear()
        self._running.clear()  # the kernel tells them to end as well
