"""Reads a stream in order by overlapping pull requests, and knows when it missed something.

An ephemeral consumer without acknowledgements: the reader keeps its own position. On any doubt
(reconnection, silence, a jump in the consumer's count) it makes a new consumer that starts after
the last message it gave out.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from dtest.errors import PermissionRefused, SequenceGap, Unavailable
from dtest.journal.connection import Connection
from dtest.journal.port import Stored
from dtest.journal.streams import SECOND_NS

PULL_MESSAGES = 512
PULL_EXPIRES_S = 30
HEARTBEAT_S = 2
SILENCE_S_MAX = 5.0
INACTIVE_S = 60
CREATE_S_MAX = 30.0
_ACK_TOKENS_V1 = 9


class Reader:
    """One reading of one stream."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        *,
        after: int,
        subject: str | None,
        new_name: Callable[[], str],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._after = after
        self._subject = subject
        self._new_name = new_name
        self._consumer = ""
        self._inbox = ""
        self._consumer_seq = 0
        self._outstanding = 0
        self._arrived: list[Stored] = []
        self._stir = asyncio.Event()
        self._doubt = ""

    async def batches(self) -> AsyncIterator[list[Stored]]:
        """Yield what arrives, in order, never an empty list."""
        loop = asyncio.get_running_loop()
        forget = self._connection.on_reconnect(self._reconnected)
        subscription = None
        try:
            while True:
                if self._doubt or subscription is None:
                    if subscription is not None:
                        await subscription.unsubscribe()
                    self._inbox = self._connection.client.new_inbox()
                    subscription = await self._connection.client.subscribe(
                        self._inbox, cb=self._received
                    )
                    await self._create(loop)
                try:
                    async with asyncio.timeout(SILENCE_S_MAX):
                        await self._stir.wait()
                except TimeoutError:
                    self._doubt = "silence"
                    continue
                self._stir.clear()
                if self._arrived:
                    batch, self._arrived = self._arrived, []
                    self._after = batch[-1].seq
                    yield batch
        finally:
            forget()
            if subscription is not None and self._connection.is_connected:
                await subscription.unsubscribe()
                await self._drop()

    def _reconnected(self) -> None:
        self._doubt = "reconnected"
        self._stir.set()

    async def _create(self, loop: asyncio.AbstractEventLoop) -> None:
        self._doubt = ""
        self._consumer = self._new_name()
        self._consumer_seq = 0
        self._outstanding = 0
        config = {
            "name": self._consumer,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._after + 1,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE_S * SECOND_NS,
        }
        subject = f"$JS.API.CONSUMER.CREATE.{self._stream}.{self._consumer}"
        if self._subject is not None:
            config["filter_subject"] = self._subject
            subject = f"{subject}.{self._subject}"
        request = json.dumps({"stream_name": self._stream, "config": config}).encode()
        deadline = loop.time() + CREATE_S_MAX
        problem = "no answer"
        while loop.time() < deadline:
            try:
                answer = await self._connection.ask(subject, request, timeout_s=2.0)
            except TimeoutError:
                problem = self._connection.denied or "no answer"
                if self._connection.denied:
                    message = f"may not read the stream {self._stream}: {problem}"
                    raise PermissionRefused(message) from None
                continue
            error = answer.json().get("error") if answer.status == 0 else {"description": "503"}
            if error is None:
                await self._pull()
                return
            problem = str(error.get("description", error))
            await asyncio.sleep(0.1)  # the server is up but not ready to serve this stream
        message = f"cannot read the stream {self._stream}: {problem}"
        raise Unavailable(message, hint="is the server up and the stream created?")

    async def _pull(self) -> None:
        self._outstanding += PULL_MESSAGES
        request = {
            "batch": PULL_MESSAGES,
            "expires": PULL_EXPIRES_S * SECOND_NS,
            "idle_heartbeat": HEARTBEAT_S * SECOND_NS,
        }
        try:
            await self._connection.send(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
                json.dumps(request).encode(),
                reply=self._inbox,
            )
        except TimeoutError:
            self._doubt = "not connected"

    async def _received(self, msg: Msg) -> None:
        status = (msg.headers or {}).get("Status") if not msg.data else None
        if status is not None:
            await self._status(status)
            return
        tokens = msg.reply.split(".")
        base = 4 if len(tokens) == _ACK_TOKENS_V1 else 6
        if len(tokens) < _ACK_TOKENS_V1 or tokens[base - 1] != self._consumer:
            return
        _, seq, consumer_seq, time_ns = (int(part) for part in tokens[base : base + 4])
        if consumer_seq != self._consumer_seq + 1:
            self._doubt = "missed a message"
            self._stir.set()
            return
        if self._doubt:
            return
        self._consumer_seq = consumer_seq
        self._outstanding -= 1
        event_id = (msg.headers or {}).get("Nats-Msg-Id", "")
        self._arrived.append(Stored(seq, msg.subject, time_ns / 1e9, event_id, msg.data))
        self._stir.set()
        if self._outstanding < PULL_MESSAGES // 2:
            await self._pull()

    async def _status(self, status: str) -> None:
        if status == "100":  # heartbeat: the consumer lives and has nothing
            self._stir.set()
        elif status in {"404", "408"}:  # a pull request ended
            self._outstanding = 0
            self._stir.set()
            await self._pull()
        else:  # 409 consumer deleted, 503 nobody serves it
            self._doubt = status
            self._stir.set()

    async def _drop(self) -> None:
        try:
            await self._connection.send(
                f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}", b""
            )
        except TimeoutError:
            return  # the server forgets an inactive consumer by itself


@asynccontextmanager
async def reading(
    connection: Connection,
    stream: str,
    *,
    after: int,
    subject: str | None,
    new_name: Callable[[], str],
) -> AsyncIterator[AsyncIterator[list[Stored]]]:
    """Read a stream; unfiltered, a missing sequence number raises SequenceGap."""
    reader = Reader(connection, stream, after=after, subject=subject, new_name=new_name)
    feed = reader.batches()
    checked = feed if subject is not None else _contiguous(feed, stream, after)
    try:
        yield checked
    finally:
        if checked is not feed:
            await checked.aclose()
        await feed.aclose()


async def _contiguous(
    feed: AsyncIterator[list[Stored]], stream: str, after: int
) -> AsyncIterator[list[Stored]]:
    expected = after + 1
    async for batch in feed:
        for stored in batch:
            if stored.seq != expected:
                message = f"{stream}: {expected} is missing, {stored.seq} follows {expected - 1}"
                raise SequenceGap(message, hint="restore the journal from its mirror or archive")
            expected += 1
        yield batch
