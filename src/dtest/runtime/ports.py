"""Ports of this machine: chosen now, bound later, and given to nobody else in between."""

import socket
import sys
from contextlib import ExitStack
from typing import Self

from dtest.runtime.nats_server import LOOPBACK

CAN_HOLD = sys.platform.startswith("linux")
"""Elsewhere a second socket cannot bind the address of a first one that does not listen."""


class HeldPorts:
    """Keeps free ports for processes that listen there later, again and again, until it is closed.

    A bound socket that does not listen keeps the kernel from handing its port out, to listeners and
    to outgoing connections; with SO_REUSEADDR on both sides another process may still listen there
    (asyncio, uvicorn and nats-server set it). See ip(7) and socket(7).
    """

    def __init__(self, host: str = LOOPBACK) -> None:
        self._host = host
        self._held = ExitStack()

    def take(self) -> int:
        """Return a port that is free and stays so."""
        return self.several(1)[0]

    def several(self, count: int) -> list[int]:
        """Return different ports that are free and stay so. Raises OSError for a foreign host."""
        with ExitStack() as at_first:
            sockets = [at_first.enter_context(socket.socket()) for _ in range(count)]
            for one in sockets:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((self._host, 0))
            ports = [int(one.getsockname()[1]) for one in sockets]
            if CAN_HOLD:
                self._held.push(at_first.pop_all())
        return ports

    def close(self) -> None:
        """Give all of them back."""
        self._held.close()

    def __enter__(self) -> Self:
        """Hold until the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give all of them back."""
        self.close()


def free_port() -> int:
    """Return a port that is free at this moment: for who binds it at once, or tries again."""
    with HeldPorts() as ports:
        return ports.take()


def free_ports(count: int) -> list[int]:
    """Return different ports that are free at this moment, as ``free_port``."""
    with HeldPorts() as ports:
        return ports.several(count)
