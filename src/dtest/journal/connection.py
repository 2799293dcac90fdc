"""One connection to NATS with settings that survive server restarts, and one way to ask.

The client's default of two minutes between pings would hide a dead connection; its
``publish_async`` never ends when the server answers with an error. Requests here go out on one
inbox and always end: answer, error or time-out.
"""

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from dtest.errors import PermissionRefused, Unavailable

PING_INTERVAL_S = 3
CONNECT_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """Where the servers are and who asks."""

    servers: tuple[str, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: Path | None = None
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to a request."""

    status: int
    """0 if there is none; 503 if nobody listens."""
    payload: bytes

    def json(self) -> dict[str, Any]:
        """Read the body; an empty one is an empty object."""
        return dict(json.loads(self.payload)) if self.payload else {}


class Connection:
    """A connection that reconnects for ever and tells when it did."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.denied = ""
        """The latest permission error: the server reports these apart from the request."""
        self._inbox = client.new_inbox()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._count = 0
        self._on_reconnect: list[Callable[[], None]] = []

    @property
    def is_connected(self) -> bool:
        """Say whether the connection stands at this moment, as far as the client knows."""
        return bool(self.client.is_connected)

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have ``call`` called after each reconnection; returns how to stop that."""
        self._on_reconnect.append(call)
        return lambda: self._on_reconnect.remove(call)

    async def ask(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request and wait for its answer. Raises TimeoutError."""
        self._count += 1
        token = str(self._count)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        try:
            await self.send(subject, payload, reply=f"{self._inbox}.{token}", headers=headers)
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            self._waiting.pop(token, None)

    async def send(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send without waiting. Raises TimeoutError when the connection cannot take it."""
        try:
            await self.client.publish(subject, payload, reply=reply, headers=headers)
        except (nats.errors.OutboundBufferLimitError, nats.errors.ConnectionClosedError) as error:
            raise TimeoutError(str(error)) from error
        except nats.errors.MaxPayloadError as error:
            message = f"a message of {len(payload)} bytes is larger than the server takes"
            raise Unavailable(message, hint="raise max_payload in the server's file") from error

    async def ping(self, where: str, payload: bytes, *, timeout_s: float) -> int:
        """Return 0 for an answer, 503 if nobody listens; raise TimeoutError for neither."""
        return (await self.ask(where, payload, timeout_s=timeout_s)).status

    async def listen(self, where: str, heard: Callable[[str, bytes], None]) -> None:
        """Have ``heard(subject, payload)`` called for each message."""

        async def received(msg: Msg) -> None:
            heard(msg.subject, msg.data)

        await self.client.subscribe(where, cb=received)

    async def serve(self, where: str, answer: Callable[[bytes], bytes]) -> None:
        """Answer each request on a subject."""

        async def received(msg: Msg) -> None:
            if msg.reply:
                await self.client.publish(msg.reply, answer(msg.data))

        await self.client.subscribe(where, cb=received)

    async def close(self) -> None:
        """Close for good."""
        await self.client.close()

    async def _answered(self, msg: Msg) -> None:
        future = self._waiting.get(msg.subject.rpartition(".")[2])
        if future is not None and not future.done():
            headers = msg.headers or {}
            future.set_result(Answer(int(headers.get("Status", "0")), msg.data))

    async def _start(self) -> None:
        await self.client.subscribe(f"{self._inbox}.*", cb=self._answered)

    async def _reconnected(self) -> None:
        for call in list(self._on_reconnect):
            call()

    async def _failed(self, error: Exception) -> None:
        text = str(error)
        if "permissions violation" in text.lower():
            self.denied = text


async def connect(address: NatsAddress, *, name: str, wait_s: float = CONNECT_S_MAX) -> Connection:
    """Connect, or raise Unavailable or PermissionRefused after ``wait_s`` seconds."""
    client = Client()
    connection = Connection(client, name)
    refused: list[Exception] = []

    async def failed(error: Exception) -> None:
        refused.append(error)
        await connection._failed(error)  # noqa: SLF001 - same module

    try:
        async with asyncio.timeout(wait_s):
            await client.connect(
                servers=list(address.servers),
                name=name,
                user=address.user,
                password=address.password,
                token=address.token,
                user_credentials=str(address.credentials_file)
                if address.credentials_file
                else None,
                tls=address.tls,
                connect_timeout=1,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=2,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,
                error_cb=failed,
                reconnected_cb=connection._reconnected,  # noqa: SLF001 - same module
            )
            await connection._start()  # noqa: SLF001 - same module
            await client.flush()
    except (TimeoutError, OSError, nats.errors.Error) as error:
        await _abandon(client)
        where = ", ".join(address.servers)
        causes = " ".join(str(item) for item in (*refused, error))
        if "authorization" in causes.lower():
            message = f"NATS at {where} refused the credentials"
            raise PermissionRefused(message, hint="check DTEST_NATS_URL and its user") from error
        message = f"no NATS server answers at {where}"
        hint = "start one with `dtest up`, or name a running one by --nats or DTEST_NATS_URL"
        raise Unavailable(message, hint=hint) from error
    return connection


async def _abandon(client: Client) -> None:
    try:
        await client.close()
    except (OSError, nats.errors.Error, AttributeError):
        return  # it never connected: there is nothing to close
