"""The NATS client, mended where it would stop for good.

nats-py ends its reading at a message that it cannot decode, and its connecting at an answer that
is no server's; it waits without end for a lost connection to take what was not sent, and swallows a
cancellation while it waits for that.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar
from urllib.parse import ParseResult

import nats.errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

CLOSE_S_MAX = 0.5
Result = TypeVar("Result")


class MendedClient(Client):
    """A client that goes on."""

    async def _connect_to_server(self, s: Srv) -> None:
        if self._reconnection_task not in (None, asyncio.current_task()):
            # Cancelled, for another has taken over; waiting for a socket may have swallowed that.
            raise asyncio.CancelledError
        if self._transport is None and s.uri.scheme not in {"ws", "wss"}:
            self._transport = _Transport()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except (OSError, TimeoutError, nats.errors.Error):
            raise
        except Exception as error:
            message = f"what answers is no NATS server: {error}"
            raise nats.errors.Error(message) from error

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except (IndexError, UnicodeDecodeError):
            return None

    def _build_message(
        self,
        sid: int,
        subject: bytes,
        reply: bytes,
        data: bytes,
        headers: dict[str, str] | None,
    ) -> Msg:
        readable = subject.decode(errors="replace").encode()
        built: Msg = super()._build_message(sid, readable, reply, data, headers)
        return built

    async def close(self) -> None:
        """Close for good, with a bound on the wait for what is not sent."""
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await super().close()
        except TimeoutError:
            if isinstance(self._transport, _Transport):
                self._transport.abort()


class _Transport(TcpTransport):
    """A transport that lets go."""

    def __bool__(self) -> bool:
        return True  # the client would put its own in the place of one that is not connected yet

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        self.abort()  # an attempt before this one may have ended half-way
        await super().connect(uri, buffer_size, connect_timeout)

    async def wait_closed(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await super().wait_closed()  # type: ignore[no-untyped-call]
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        if self._io_writer is not None:
            self._io_writer.transport.abort()


async def cancellable(call: Awaitable[Result]) -> Result:
    """Await a call of the client, and be cancelled though the client swallows it."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    result = await call
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return result
