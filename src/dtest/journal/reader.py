"""Reads a stream in order by overlapping pull requests, and knows when it missed something.

An ephemeral consumer without acknowledgements: the reader keeps its own position. On any doubt
(reconnection, silence, a jump in the consumer's count) it makes a new consumer that starts after
the last message it gave out. It asks for no more than it has room for.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from dtest.errors import PermissionRefused, SequenceGap, Unavailable
from dtest.journal.api import bounds_of, get_info, get_message
from dtest.journal.connection import Connection
from dtest.journal.port import Bounds, Stored
from dtest.journal.streams import SECOND_NS

PULL_MESSAGES = 512
PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 1.0
SILENCE_S_MAX = 3.0
"""The consumer lives on one server of a cluster, and is silent when that one is dead."""
INACTIVE_S = 60
CREATE_S_MAX = 30.0
CREATE_ASK_S_MAX = 2.0
CREATE_AGAIN_S = 0.1
LEAVE_S_MAX = 1.0
BEHIND_S_MAX = 5.0
"""How long the new leader of a replicated stream may take to show all that was read before."""
HELD_MESSAGES_MAX = 8_192
"""What has arrived and was not taken; beyond this nothing more is asked for."""
HELD_BYTES_MAX = 64 << 20
FRUITLESS_MAX = 2
"""After so many doubts without a message in between, the next one is fetched by itself."""
GAP_HINT = "restore the journal from its mirror or archive"
_ACK = "$JS.ACK."
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
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._inbox = ""
        self._consumer_seq = 0
        self._outstanding = 0
        """Messages asked for that have not arrived."""
        self._arrived: list[Stored] = []
        self._arrived_bytes = 0
        self._stir = asyncio.Event()
        self._doubt = "new"
        self._fruitless = 0
        self._created = ""

    async def batches(self) -> AsyncGenerator[list[Stored], None]:
        """Yield what arrives, in order, never an empty list."""
        forget = self._connection.on_reconnect(self._reconnected)
        try:
            await self._begin(CREATE_S_MAX)
            while True:
                if self._doubt and not await self._skipped_consumer():
                    await self._begin(None)
                try:
                    async with asyncio.timeout(SILENCE_S_MAX):
                        await self._stir.wait()
                except TimeoutError:
                    self._doubt = "silence"
                    continue
                self._stir.clear()
                if self._arrived:
                    yield self._take()
                    if self._is_low():
                        await self._pull()
        finally:
            forget()
            await self._leave()

    def _take(self) -> list[Stored]:
        batch, self._arrived = self._arrived, []
        self._arrived_bytes = 0
        self._after = batch[-1].seq
        self._fruitless = 0
        return batch

    def _reconnected(self) -> None:
        self._doubted("reconnected")

    def _doubted(self, why: str) -> None:
        self._doubt = why
        self._stir.set()

    # -- the consumer -----------------------------------------------------------------------------

    async def _begin(self, patience_s: float | None) -> None:
        """Make a new consumer after the last message that was taken."""
        self._fruitless += 1
        await self._unsubscribe()
        self._inbox = self._connection.client.new_inbox()
        self._subscription = await self._connection.subscribe(self._inbox, self._received)
        self._doubt = ""
        self._arrived, self._arrived_bytes = [], 0
        self._consumer_seq = 0
        self._outstanding = 0
        await self._create(patience_s)
        await self._check_stream()
        if not self._doubt:
            await self._pull()

    async def _create(self, patience_s: float | None) -> None:
        """Create the consumer.

        With ``patience_s`` no answer is an error after that time; without, only an answer is.
        """
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + CREATE_S_MAX
        while True:
            where, request = self._named_anew()
            try:
                answer = await self._connection.ask(where, request, timeout_s=CREATE_ASK_S_MAX)
            except TimeoutError as error:
                problem = str(error) or "no answer"
                silent = True
                await self._forget_consumer()  # it may have been made
            except PermissionRefused as error:
                message = f"this NATS user may not read the stream {self._stream}: {error}"
                raise PermissionRefused(message, hint=error.hint) from error
            else:
                reply = answer.json() if answer.status == 0 else {"error": {"description": "503"}}
                if "error" not in reply:
                    return
                problem = str(reply["error"].get("description", reply["error"]))
                silent = answer.status != 0
            if loop.time() > patient_until and not (silent and patience_s is None):
                message = f"cannot read the stream {self._stream}: {problem}"
                raise Unavailable(message, hint="is the server up and the stream created?")
            if self._connection.client.is_closed:
                message = f"cannot read the stream {self._stream}: the connection is closed"
                raise Unavailable(message)
            await asyncio.sleep(CREATE_AGAIN_S)  # perhaps up, but not ready to serve this stream

    def _named_anew(self) -> tuple[str, bytes]:
        """Return where to ask for a consumer, and the question.

        Each time under another name: one that is assigned to a server that died stays there.
        """
        self._consumer = self._new_name()
        config = {
            "name": self._consumer,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._after + 1,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE_S * SECOND_NS,
        }
        where = f"$JS.API.CONSUMER.CREATE.{self._stream}.{self._consumer}"
        if self._subject is not None:
            config["filter_subject"] = self._subject
            where = f"{where}.{self._subject}"
        return where, json.dumps({"stream_name": self._stream, "config": config}).encode()

    async def _bounds(self) -> Bounds:
        """Return what the stream holds; on a cluster, once its leader shows all that was read."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BEHIND_S_MAX
        while True:
            info = await get_info(self._connection, self._stream)
            bounds = bounds_of(info)
            is_behind = bounds.last < self._after and self._created in ("", bounds.created)
            replicated = int(info["config"]["num_replicas"]) > 1
            if not (is_behind and replicated) or loop.time() > deadline:
                return bounds
            await asyncio.sleep(CREATE_AGAIN_S)

    async def _check_stream(self) -> None:
        """Raise SequenceGap if this is not the stream, or not all of it, that was read so far."""
        try:
            bounds = await self._bounds()
        except PermissionRefused:
            return  # who may only read cannot know
        except Unavailable as error:
            self._doubted(str(error))
            return
        problem = ""
        if self._created not in ("", bounds.created):
            problem = f"another stream, made at {bounds.created}, has taken its place"
        elif bounds.last < self._after:
            problem = f"it ends at {bounds.last}, but {self._after} was read"
        if problem:
            raise SequenceGap(f"{self._stream}: {problem}", hint=GAP_HINT)
        self._created = bounds.created

    async def _leave(self) -> None:
        await self._unsubscribe()
        await self._forget_consumer()

    async def _forget_consumer(self) -> None:
        where = f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}"
        with suppress(TimeoutError):  # the server forgets an inactive consumer by itself
            async with asyncio.timeout(LEAVE_S_MAX):
                await self._connection.send(where, b"")

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(nats.errors.ConnectionClosedError):
                await subscription.unsubscribe()

    # -- messages ---------------------------------------------------------------------------------

    def _is_low(self) -> bool:
        """Say whether to ask for more: little is on its way and there is room for it."""
        return (
            self._outstanding < PULL_MESSAGES // 2
            and len(self._arrived) < HELD_MESSAGES_MAX
            and self._arrived_bytes < HELD_BYTES_MAX
            and not self._doubt
        )

    async def _pull(self) -> None:
        self._outstanding += PULL_MESSAGES
        request = {
            "batch": PULL_MESSAGES,
            "expires": int(PULL_EXPIRES_S * SECOND_NS),
            "idle_heartbeat": int(HEARTBEAT_S * SECOND_NS),
        }
        try:
            await self._connection.send(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
                json.dumps(request).encode(),
                reply=self._inbox,
            )
        except TimeoutError:
            self._doubted("not connected")

    async def _received(self, msg: Msg) -> None:
        if not msg.reply.startswith(_ACK):
            await self._status(msg.headers or {})
            return
        tokens = msg.reply.split(".")
        first = 4 if len(tokens) == _ACK_TOKENS_V1 else 6
        if tokens[first - 1] != self._consumer or self._doubt:
            return
        _, seq, consumer_seq, time_ns = (int(part) for part in tokens[first : first + 4])
        if consumer_seq != self._consumer_seq + 1:
            self._doubted("missed a message")
            return
        self._consumer_seq = consumer_seq
        self._outstanding -= 1
        event_id = (msg.headers or {}).get("Nats-Msg-Id", "")
        stored_at = time_ns // 1_000 / 1e6  # to the microsecond, as every other reading has it
        self._arrived.append(Stored(seq, msg.subject, stored_at, event_id, msg.data))
        self._arrived_bytes += len(msg.data)
        self._stir.set()
        if self._is_low():
            await self._pull()

    async def _status(self, headers: dict[str, str]) -> None:
        status = headers.get("Status")
        if status == "100":  # heartbeat: the consumer lives and has nothing
            self._stir.set()
        elif status in {"404", "408"}:  # a pull request ended
            self._outstanding -= int(headers.get("Nats-Pending-Messages", PULL_MESSAGES))
            self._stir.set()
            if self._is_low():
                await self._pull()
        else:  # 409 consumer deleted, 503 nobody serves it
            self._doubted(str(status))

    async def _skipped_consumer(self) -> bool:
        """After several doubts in a row take the next message another way; say whether one came.

        It may be one that ends the connection each time that it is delivered: the client cannot
        parse, for example, a vertical tab in a subject.
        """
        if self._fruitless <= FRUITLESS_MAX:
            return False
        await self._unsubscribe()
        request: dict[str, object] = {"seq": self._after + 1, "next_by_subj": self._subject or ">"}
        try:
            found = await get_message(self._connection, self._stream, request)
        except (PermissionRefused, Unavailable):
            return False  # no right to look, or no server
        if found is None:
            return False
        self._arrived = [found]
        self._stir.set()
        return True


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
    checked = _in_order(feed, stream, after, contiguous=subject is None)
    try:
        yield checked
    finally:
        await checked.aclose()
        await feed.aclose()


async def _in_order(
    feed: AsyncIterator[list[Stored]], stream: str, after: int, *, contiguous: bool
) -> AsyncGenerator[list[Stored], None]:
    last = after
    async for batch in feed:
        for place, stored in enumerate(batch):
            if stored.seq <= last or (contiguous and stored.seq != last + 1):
                if place:
                    yield batch[:place]
                message = f"{stream}: {stored.seq} follows {last}"
                raise SequenceGap(message, hint=GAP_HINT)
            last = stored.seq
        yield batch
