"""Queues of units of work that sessions pull from, in a JetStream work queue.

What is pulled is held by whoever pulled it until it is acknowledged, given back, or not beaten for
for ``HELD_S_MAX``; then somebody else gets it. At least once: what is done twice, because an
acknowledgement was lost, has to be harmless.
"""

import asyncio
import hashlib
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from dtest.errors import JournalFull, NotFound, Unavailable
from dtest.events import subject
from dtest.events.fields import CellId, RunId
from dtest.journal.api import ask_api, get_message
from dtest.journal.connection import Connection, Stop
from dtest.journal.streams import SECOND_NS, queue_name

RECALL_BYTES_MAX = 500_000
"""Of a piece of what a client knows."""
HELD_S_MAX = 5.0
"""Who holds a unit beats more often than that."""
DELIVERIES_MAX = 6
"""A unit that took so many holders with it is not handed out again."""
PULL_EXPIRES_S = 5.0
IDLE_DAYS_MAX = 1
PUT_S_MAX = 5.0
PUT_TRIES = 4
TELLING_CHARS = 16
NO_CONSUMER = 10014
FULL = 10077
_ACK = "$JS.ACK."


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was handed out."""

    body: bytes
    handle: str
    """Names it to the server, also for a later process."""
    deliveries: int
    """How often it was handed out, this time included."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """How far a queue is."""

    waiting: int
    held: int
    pullers: int
    """How many wait for a unit."""
    closed: bool
    """No more is put in but what is given back."""

    @property
    def is_empty(self) -> bool:
        """Say whether all is done and nothing more will come."""
        return self.closed and not self.waiting and not self.held


def packed(known: Mapping[str, Any]) -> list[bytes]:
    """Return what a client knows of earlier runs in the pieces that ``UnitQueue.recall`` keeps."""
    body = zlib.compress(orjson.dumps(known))
    return [body[at : at + RECALL_BYTES_MAX] for at in range(0, len(body), RECALL_BYTES_MAX)]


class UnitQueue:
    """One queue of a cell, for whoever fills it and for whoever works on it."""

    def __init__(self, connection: Connection, cell: CellId, name: str) -> None:
        self.name = name
        self._connection = connection
        self._cell = cell
        self._stream = queue_name(cell)
        self._units = subject.unit(cell, name)
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._arrived: deque[Pulled] = deque()
        self._stir = asyncio.Event()
        self._asked_until = 0.0
        self._closed = False

    async def open(self) -> None:
        """Make the queue if it is not there. Raises Unavailable."""
        config = {
            "durable_name": self.name,
            "name": self.name,
            "filter_subject": self._units,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(HELD_S_MAX * SECOND_NS),
            "max_deliver": DELIVERIES_MAX,
            "max_ack_pending": 10_000,
            "inactive_threshold": IDLE_DAYS_MAX * 86_400 * SECOND_NS,
        }
        reply = await ask_api(
            self._connection,
            f"CONSUMER.CREATE.{self._stream}.{self.name}.{self._units}",
            {"stream_name": self._stream, "config": config},
        )
        if "error" in reply:
            message = f"cannot open the queue {self.name}: {reply['error'].get('description')}"
            raise Unavailable(message, hint="create the streams with `dtest server migrate`")

    # -- filling ----------------------------------------------------------------------------------

    async def put(self, units: Iterable[tuple[str, bytes]]) -> None:
        """Append units, each under an id of its own: one that is there already is left alone.

        Raises JournalFull or Unavailable; then call it again with the same units.
        """
        await asyncio.gather(*(self._put(self._units, body, name) for name, body in units))

    async def close(self) -> None:
        """Say that all was put in. Raises as ``put``."""
        await self._put(subject.plan(self._cell, self.name), b"{}", "closed")
        self._closed = True

    async def purge(self) -> None:
        """Forget the units that nobody has finished. Raises Unavailable."""
        request: dict[str, object] = {"filter": self._units}
        reply = await ask_api(self._connection, f"STREAM.PURGE.{self._stream}", request)
        if "error" in reply:
            message = f"the queue {self.name}: {reply['error'].get('description')}"
            raise Unavailable(message)

    async def tell(self, documents: Sequence[bytes]) -> None:
        """Keep what the suite holds; the same again changes nothing. Raises as ``put``."""
        # Who tells it after somebody who died over it may have cut it elsewhere.
        telling = hashlib.sha256(b"\n".join(documents)).hexdigest()[:TELLING_CHARS]
        for part, document in reversed(list(enumerate(documents))):  # with the first, all are there
            where = subject.collected(self._cell, self.name, part)
            await self._put(where, document, f"collected.{telling}.{part}")

    async def told(self, part: int) -> bytes | None:
        """Return a part of what was told, none if there is no such part. Raises Unavailable."""
        where = subject.collected(self._cell, self.name, part)
        found = await get_message(self._connection, self._stream, {"last_by_subj": where})
        return found.payload if found is not None else None

    async def recall(self, documents: Sequence[bytes]) -> None:
        """Keep what a client knows of earlier runs; the queue has the run's name. As ``put``."""
        for part, document in reversed(list(enumerate(documents))):
            where = subject.recalled(self._cell, RunId(self.name), part)
            await self._put(where, document, f"recalled.{part}")

    async def recalled(self, part: int) -> bytes | None:
        """Return a part of that, none if there is no such part. Raises Unavailable."""
        where = subject.recalled(self._cell, RunId(self.name), part)
        found = await get_message(self._connection, self._stream, {"last_by_subj": where})
        return found.payload if found is not None else None

    async def _put(self, where: str, body: bytes, name: str) -> None:
        headers = {"Nats-Msg-Id": f"{self.name}.{name}", "Nats-Expected-Stream": self._stream}
        problem = "no answer"
        for _ in range(PUT_TRIES):
            try:
                answer = await self._connection.ask(
                    where, body, timeout_s=PUT_S_MAX, headers=headers
                )
            except TimeoutError as error:
                problem = str(error) or problem
                continue
            refused = answer.json().get("error") if answer.status == 0 else {"description": "503"}
            if refused is None:
                return
            problem = str(refused.get("description"))
            if refused.get("err_code") == FULL:
                message = "the stream of queues is full"
                raise JournalFull(message, hint="`dtest server migrate --queue-bytes`")
        message = f"the queue {self.name} takes nothing: {problem}"
        raise Unavailable(message)

    async def state(self) -> QueueState:
        """Return how far it is. Raises NotFound or Unavailable."""
        reply = await ask_api(
            self._connection, f"CONSUMER.INFO.{self._stream}.{self.name}", {}, wait_s=PUT_S_MAX
        )
        if reply.get("error", {}).get("err_code") == NO_CONSUMER:
            message = f"there is no queue {self.name}"
            raise NotFound(message, hint="it is made by whoever fills it")
        if "error" in reply:
            message = f"the queue {self.name}: {reply['error'].get('description')}"
            raise Unavailable(message)
        return QueueState(
            int(reply["num_pending"]),
            int(reply["num_ack_pending"]),
            int(reply["num_waiting"]),
            await self._is_closed(),
        )

    async def _is_closed(self) -> bool:
        if not self._closed:
            plan = subject.plan(self._cell, self.name)
            found = await get_message(self._connection, self._stream, {"last_by_subj": plan})
            self._closed = found is not None
        return self._closed

    # -- working ----------------------------------------------------------------------------------

    async def pull(self, wait_s: float) -> Pulled | None:
        """Return the next unit, or none within the time; a later call may return what came late."""
        if self._subscription is None:
            self._inbox = self._connection.client.new_inbox()
            self._subscription = await self._connection.subscribe(self._inbox, self._received)
        if not self._arrived:
            await self._ask()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stir.wait()
        self._stir.clear()
        return self._arrived.popleft() if self._arrived else None

    async def _ask(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._asked_until:
            return
        request = {"batch": 1, "expires": int(PULL_EXPIRES_S * SECOND_NS)}
        where = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.name}"
        with suppress(TimeoutError):  # not connected; asked again later
            await self._connection.send(where, json.dumps(request).encode(), reply=self._inbox)
            self._asked_until = now + PULL_EXPIRES_S + 1.0

    async def _received(self, msg: Msg) -> None:
        self._asked_until = 0.0
        if msg.reply.startswith(_ACK):
            # $JS.ACK[.domain.account].stream.consumer.deliveries.seq.seq.time.pending[.token]
            tokens = msg.reply.split(".")
            deliveries = int(tokens[4 if len(tokens) <= 9 else 6])  # noqa: PLR2004 - the old form
            self._arrived.append(Pulled(msg.data, msg.reply, deliveries))
            self._stir.set()

    async def done(self, handle: str) -> None:
        """Take a unit out for good."""
        await self._say(handle, b"+ACK")

    async def give_back(self, handle: str) -> None:
        """Let somebody else have a unit."""
        await self._say(handle, b"-NAK")

    async def beat(self, handles: Iterable[str]) -> None:
        """Say that these units are worked on."""
        for handle in handles:
            await self._say(handle, b"+WPI")

    async def _say(self, handle: str, word: bytes) -> None:
        with suppress(TimeoutError):  # not connected: the server hands it out again
            await self._connection.send(handle, word)

    async def say_hungry(self, name: str) -> None:
        """Tell the other sessions that this one, of an attempt of that name, has nothing to do."""
        await self._say(subject.hungry(self._cell, self.name), name.encode())

    async def on_hungry(self, heard: Callable[[str], None]) -> Stop:
        """Have ``heard(name)`` called for each session that says so; returns how to stop that."""
        where = subject.hungry(self._cell, self.name)
        return await self._connection.listen(where, lambda _, name: heard(name.decode()))

    async def leave(self) -> None:
        """Pull no more; what arrived and nobody took is given back."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()
        for pulled in self._arrived:
            await self.give_back(pulled.handle)
        self._arrived.clear()
