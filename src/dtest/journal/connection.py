"""One connection to NATS with settings that survive server restarts, and one way to ask.

The client's default of two minutes between pings would hide a dead connection; its
``publish_async`` never ends when the server answers with an error. Requests here go out on one
inbox and always end: answer, error or time-out. Nothing is sent while the connection is down: what
the client would keep and send later has been repeated by then.
"""

import asyncio
import json
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from dtest.errors import InvalidDocument, PermissionRefused, Unavailable
from dtest.journal.client import MendedClient, cancellable

PING_INTERVAL_S = 1
PINGS_UNANSWERED_MAX = 2
"""A server that is cut off without a word is left after 2 to 3 s, before a worker that hangs on it
would be given up for its silence. A process that itself stood still has asked less often."""
CONNECT_S_MAX = 5.0
RECONNECT_EVERY_S = 0.1
DENIALS_MAX = 100
"""Refused subjects that are remembered."""
_DENIED = re.compile(r'permissions violation for (publish|subscription) to "(.+?)"')
_CREDENTIALS = re.compile(r"//[^/@]*@")


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """Where the servers are and who asks."""

    servers: tuple[str, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: Path | None = None
    tls: ssl.SSLContext | None = None

    def shown(self) -> str:
        """Name the servers, without the passwords that their addresses may hold."""
        return _CREDENTIALS.sub("//", ", ".join(self.servers))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to a request."""

    status: int
    """0 if there is none; 503 if nobody listens."""
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Read the body; an empty one is an empty object."""
        return dict(json.loads(self.payload)) if self.payload else {}


Stop = Callable[[], Awaitable[None]]
"""Ends what was begun."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    subject: str
    answer: asyncio.Future[Answer | Exception]

    def end(self, answer: Answer | Exception) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class Connection:
    """A connection that reconnects for ever and tells when it did."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self._inbox = client.new_inbox()
        self._waiting: dict[str, _Waiting] = {}
        self._count = 0
        self._on_reconnect: list[Callable[[], None]] = []
        self._up = asyncio.Event()
        self._trouble = ""
        self._denials: deque[str] = deque(maxlen=DENIALS_MAX)

    @property
    def is_connected(self) -> bool:
        """Say whether the connection stands at this moment, as far as the client knows."""
        return self._up.is_set() and bool(self.client.is_connected)

    @property
    def is_clustered(self) -> bool:
        """Say whether the server at the other end is one of several."""
        return bool(self.client._server_info.get("cluster"))  # noqa: SLF001 - it is told nowhere else

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have ``call`` called after each reconnection; returns how to stop that."""
        self._on_reconnect.append(call)
        return lambda: self._on_reconnect.remove(call)

    def was_denied(self, subject: str) -> bool:
        """Say whether the server lately refused to let this user publish there."""
        return subject.lower() in self._denials

    async def ask(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request and wait for its answer; first, where need be, for the connection.

        Raises TimeoutError, at once when the connection is lost, and PermissionRefused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        if not self._up.is_set():
            await self._connected(deadline)
        self._count += 1
        token = str(self._count)
        waiting = self._waiting[token] = _Waiting(subject, loop.create_future())
        try:
            async with asyncio.timeout_at(deadline):
                await self.send(subject, payload, reply=f"{self._inbox}.{token}", headers=headers)
                answer = await waiting.answer
        finally:
            self._waiting.pop(token, None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _connected(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._up.wait()
        except TimeoutError:
            raise TimeoutError(self._down()) from None

    def _down(self) -> str:
        return f"not connected ({self._trouble})" if self._trouble else "not connected"

    async def send(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send without waiting.

        Raises TimeoutError when there is no connection, InvalidDocument if it is too much.
        """
        if not self._up.is_set():
            raise TimeoutError(self._down())
        size = len(payload) + _header_bytes(headers)
        if size > self.client.max_payload:
            # The server would close the connection, and the client would not open it again.
            message = (
                f"a message of {size} bytes to {subject} is larger than the"
                f" {self.client.max_payload} that the NATS server takes"
            )
            raise InvalidDocument(message, hint="raise max_payload in the server's file")
        try:
            await cancellable(
                self.client.publish(
                    subject, payload, reply=reply, headers=dict(headers) if headers else None
                )
            )
        except (nats.errors.OutboundBufferLimitError, nats.errors.ConnectionClosedError) as error:
            raise TimeoutError(str(error)) from error

    async def ping(self, where: str, payload: bytes, *, timeout_s: float) -> int:
        """Return 0 for an answer, 503 if nobody listens; raise TimeoutError for neither."""
        return (await self.ask(where, payload, timeout_s=timeout_s)).status

    async def survey(self, where: str, *, wait_s: float) -> list[bytes]:
        """Ask all who listen on a subject; return what they say within a time.

        Raises TimeoutError when there is no connection, or none any more.
        """
        answers: list[bytes] = []
        nobody = asyncio.Event()

        async def received(msg: Msg) -> None:
            if (msg.headers or {}).get("Status"):
                nobody.set()
            else:
                answers.append(msg.data)

        inbox = self.client.new_inbox()
        stop = self._stop(await self.subscribe(inbox, received))
        try:
            await self.send(where, b"", reply=inbox)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await nobody.wait()
        finally:
            await stop()
        if not self.is_connected:
            raise TimeoutError(self._down())
        return answers

    async def subscribe(
        self, where: str, received: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Have ``received`` called for each message; of all with one ``queue``, one hears each.

        Raises Unavailable.
        """
        try:
            return await cancellable(self.client.subscribe(where, queue=queue, cb=received))
        except nats.errors.ConnectionClosedError as error:
            message = f"cannot listen to {where}: the connection is closed"
            raise Unavailable(message) from error

    async def listen(self, where: str, heard: Callable[[str, bytes], None]) -> Stop:
        """Have ``heard(subject, payload)`` called for each message; returns how to stop that."""

        async def received(msg: Msg) -> None:
            heard(msg.subject, msg.data)

        return self._stop(await self.subscribe(where, received))

    async def serve(self, where: str, answer: Callable[[bytes], bytes | None]) -> Stop:
        """Answer each request on a subject, or none where the answer is; returns how to stop."""

        async def received(msg: Msg) -> None:
            said = answer(msg.data)
            if msg.reply and said is not None:
                await self.client.publish(msg.reply, said)

        return self._stop(await self.subscribe(where, received))

    async def answer(
        self, where: str, queue: str, answer: Callable[[bytes], Awaitable[bytes]]
    ) -> Stop:
        """Answer requests there, one of all who do under the name ``queue``; returns the stop."""

        async def received(msg: Msg) -> None:
            if msg.reply:
                await self.send(msg.reply, await answer(msg.data))

        return self._stop(await self.subscribe(where, received, queue=queue))

    def _stop(self, subscription: Subscription) -> Stop:
        async def stop() -> None:
            with suppress(nats.errors.Error):  # the connection is closed, and all ended with it
                await cancellable(subscription.unsubscribe())

        return stop

    async def close(self) -> None:
        """Close for good."""
        await cancellable(self.client.close())

    # -- what the client tells --------------------------------------------------------------------

    async def _start(self) -> None:
        await self.subscribe(f"{self._inbox}.*", self._answered)
        # The client sends its ping past what it holds back, so only the second answer comes after
        # what the server says of the subscription.
        await cancellable(self.client.flush())
        await cancellable(self.client.flush())
        if f"{self._inbox}.*".lower() in self._denials:
            message = f"this NATS user may not subscribe to {self._inbox}.*"
            raise PermissionRefused(message, hint="allow it to subscribe to _INBOX.>")
        self._up.set()

    async def _answered(self, msg: Msg) -> None:
        waiting = self._waiting.get(msg.subject.rpartition(".")[2])
        if waiting is not None:
            headers = msg.headers or {}
            waiting.end(Answer(int(headers.get("Status", "0")), msg.data, headers))

    async def _disconnected(self) -> None:
        """End all waiting: what was asked over the lost connection is answered to nobody."""
        self._up.clear()
        for waiting in self._waiting.values():
            waiting.end(TimeoutError("the connection was lost"))

    async def _reconnected(self) -> None:
        self._denials.clear()
        self._up.set()
        for call in list(self._on_reconnect):
            call()

    async def _failed(self, error: Exception) -> None:
        self._trouble = str(error) or type(error).__name__
        match = _DENIED.search(self._trouble.lower())
        if match is None:
            return
        action, where = match.groups()  # in lower case: the client does not keep the case
        self._denials.append(where)
        for waiting in self._waiting.values():
            if action == "publish" and waiting.subject.lower() == where:
                waiting.end(denied(waiting.subject))


def denied(subject: str) -> PermissionRefused:
    """Return the error of a user who may not publish to a subject."""
    message = f"this NATS user may not publish to {subject}"
    return PermissionRefused(message, hint="grant it in the server's file, or use another user")


def _header_bytes(headers: Mapping[str, str] | None) -> int:
    """Count the bytes that headers take in a message."""
    if not headers:
        return 0
    lines = (len(name) + len(value.encode()) + 4 for name, value in headers.items())
    return len("NATS/1.0\r\n\r\n") + sum(lines)


class _CredentialsRefused(Exception):
    """Ends the client's own endless attempts to connect."""


async def connect(address: NatsAddress, *, name: str, wait_s: float = CONNECT_S_MAX) -> Connection:
    """Connect, or raise Unavailable after ``wait_s`` seconds, PermissionRefused at once."""
    client = MendedClient()
    connection = Connection(client, name)
    connecting = True

    async def failed(error: Exception) -> None:
        await connection._failed(error)  # noqa: SLF001 - same module
        if connecting and "authorization" in str(error).lower():
            raise _CredentialsRefused from error

    try:
        async with asyncio.timeout(wait_s):
            await cancellable(
                client.connect(
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
                    max_outstanding_pings=PINGS_UNANSWERED_MAX,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_EVERY_S,  # type: ignore[arg-type] # it sleeps so long
                    error_cb=failed,
                    disconnected_cb=connection._disconnected,  # noqa: SLF001 - same module
                    reconnected_cb=connection._reconnected,  # noqa: SLF001 - same module
                )
            )
            connecting = False
            await connection._start()  # noqa: SLF001 - same module
    except (PermissionRefused, asyncio.CancelledError):
        await _abandon(client)
        raise
    except _CredentialsRefused as error:
        await _abandon(client)
        message = f"NATS at {address.shown()} refused the credentials"
        raise PermissionRefused(message, hint="check DTEST_NATS_URL and its user") from error
    except (TimeoutError, OSError, nats.errors.Error) as error:
        await _abandon(client)
        message = f"no NATS server answers at {address.shown()}"
        hint = "start one with `dtest up`, or name a running one by --nats or DTEST_NATS_URL"
        raise Unavailable(message, hint=hint) from error
    return connection


async def _abandon(client: Client) -> None:
    try:
        await client.close()
    except (OSError, nats.errors.Error, AttributeError):
        return  # it never connected: there is nothing to close
