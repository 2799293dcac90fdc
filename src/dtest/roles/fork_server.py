"""Starts the processes of roles from one that has loaded their code, so that it is loaded once.

``python -P -m dtest.roles.fork_server FD ROOM``: each message on that socket, with two descriptors,
asks for a process, which reads the one (see ``held``) and writes its log to the other. The answer
is its number and a descriptor of it, later its exit status. The end of the socket ends all. Linux
only: elsewhere libraries of the system may run threads, and a fork would have none of them.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from typing import NamedTuple

from setproctitle import setproctitle

from dtest.roles import held
from dtest.runtime.garbage import leave_quickly, loading
from dtest.runtime.lifecycle import end_with_parent
from dtest.settings import change_environment

REQUEST_BYTES_MAX = 65_536
FOR_ALL = ("dtest.roles.session", "dtest.state.cell", "dtest.runtime.logs")
"""What every role needs."""
TITLE_ALONE = "SPT_NOENV"
"""Has titles take the room of the arguments, and leave that of the environment, by which the
processes of a cell are found."""
ROOM = "." * 250
"""The last argument; titles take its place."""
APART = frozenset({"dtest.roles.api"})
"""Roles that load the rest in their own processes: it is much, runs threads, and nobody shares it.
"""


class Request(NamedTuple):
    """What process is asked for."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    """What differs from the server's own."""

    def encoded(self) -> bytes:
        """Return it as a message."""
        return json.dumps(self._asdict()).encode()


class Server:
    """Forks as it is asked; there is one thread."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._waits = selectors.DefaultSelector()
        self._waits.register(link, selectors.EVENT_READ)

    def serve(self) -> Request | None:
        """Serve until the socket ends. Returns in each new process, too, with what it is to be."""
        while True:
            for ready, _ in self._waits.select():
                if ready.fileobj is not self._link:
                    self._ended(ready.data, int(ready.fd))
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._link, REQUEST_BYTES_MAX, 2)
                if not message:
                    return None
                request = Request(**json.loads(message))
                if self._forked(request, descriptors):
                    return request

    def _forked(self, request: Request, descriptors: list[int]) -> bool:
        """Fork; say whether this is the new process."""
        if request.module not in APART:
            # What cannot be loaded fails once more in the role's own process, and its log says so.
            with loading(), suppress(Exception):
                importlib.import_module(request.module)
        gc.freeze()  # what all share stays shared: nobody walks through it
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # no room for another process: those that run are to stay
            pid, why = -1, str(error)
        if not pid:
            self._become(request, descriptors, parent)
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        if pid > 0:
            why = self._followed(pid)
        if why:
            self._tell({"error": why})
        return False

    def _followed(self, pid: int) -> str:
        """Tell of a new process, and watch it; end it and say why where that cannot be."""
        watched = -1
        try:
            watched = os.pidfd_open(pid)
            socket.send_fds(self._link, [json.dumps({"pid": pid}).encode()], [watched])
        except OSError as error:
            if watched >= 0:
                os.close(watched)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return str(error)
        self._waits.register(watched, selectors.EVENT_READ, pid)
        return ""

    def _become(self, request: Request, descriptors: list[int], parent: int) -> None:
        os.setsid()
        end_with_parent()
        if os.getppid() != parent:  # it ended before it could be followed
            os._exit(1)
        for key in list(self._waits.get_map().values()):
            if key.fileobj is not self._link:
                os.close(int(key.fd))
        self._waits.close()
        self._link.close()
        words, log = descriptors
        for descriptor, number in ((words, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, number)
        os.close(words)
        os.close(log)
        change_environment(request.environment)
        # What `ps` shows is what it would show of a process that was started by itself.
        setproctitle(" ".join(["dtest.roles.held", request.module, *request.arguments]))

    def _ended(self, pid: int, watched: int) -> None:
        self._waits.unregister(watched)
        os.close(watched)
        _, status = os.waitpid(pid, 0)
        self._tell({"pid": pid, "code": os.waitstatus_to_exitcode(status)})

    def _tell(self, told: dict[str, int | str]) -> None:
        try:
            self._link.send(json.dumps(told).encode())
        except OSError:  # nobody listens any more: the end of the socket is read next
            return


def main() -> None:
    """Load what all roles need, and serve."""
    leave_quickly()
    change_environment({TITLE_ALONE: "1"})
    setproctitle("dtest.roles.fork_server")
    change_environment({TITLE_ALONE: None})
    with loading():
        for module in FOR_ALL:
            importlib.import_module(module)
    link = socket.socket(fileno=int(sys.argv[1]))
    request = Server(link).serve()
    if request is not None:
        held.begin(request.module, request.arguments)


if __name__ == "__main__":
    main()
