"""A wire that can be cut: forwards TCP, and holds what goes in one direction or in both.

What is held is not lost: as in a partition, it arrives once the wire is whole again, unless an
end has given up the connection by then. New connections are taken and hear nothing.
"""

import asyncio
from contextlib import suppress

CHUNK_BYTES = 65_536


class Proxy:
    """Forwards from a port of its own to another one on loopback."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self._target_port = target_port
        self._forth = asyncio.Event()
        self._back = asyncio.Event()
        self._forth.set()
        self._back.set()
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._wires: set[asyncio.Task[None] | None] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*filter(None, self._wires), return_exceptions=True)

    def hold(self, *, forth: bool, back: bool) -> None:
        """Hold what clients send (``forth``), what they are to hear (``back``), or both."""
        if forth:
            self._forth.clear()
        if back:
            self._back.clear()

    async def cut(self) -> None:
        """Hold everything."""
        self.hold(forth=True, back=True)

    async def mend(self) -> None:
        """Let everything through again."""
        self._forth.set()
        self._back.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = asyncio.current_task()
        self._wires.add(wire)
        try:
            await self._forward(reader, writer)
        finally:
            self._wires.discard(wire)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            await _close(writer)
            return
        loop = asyncio.get_running_loop()
        pumps = [
            loop.create_task(_pump(reader, there[1], self._forth)),
            loop.create_task(_pump(there[0], writer, self._back)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._pumps.difference_update(pumps)
            for end in (writer, there[1]):
                await _close(end)


async def _close(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.close()
        await writer.wait_closed()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may_pass: asyncio.Event
) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            await may_pass.wait()
            writer.write(chunk)
            await writer.drain()
