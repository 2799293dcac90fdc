"""The journal on a JetStream stream.

Publishing is repeated with the same id until it is acknowledged or the time is over; after a lost
acknowledgement of a guarded append, the last message of the subject tells whether it was stored.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

from dtest.errors import JournalFull, PermissionRefused, Unavailable
from dtest.journal.connection import Answer, Connection
from dtest.journal.port import (
    BATCH_MESSAGES_MAX,
    Appended,
    Bounds,
    Feed,
    Guard,
    GuardRefused,
    Outgoing,
    Stored,
)
from dtest.journal.reader import reading
from dtest.journal.streams import Limits, stream_configs
from dtest.events.fields import CellId

ACK_S_MAX = 1.0
ASK_S_MAX = 5.0
RETRY_S_MIN = 0.02
RETRY_S_MAX = 0.2
_NO_MESSAGE = 10037
_WRONG_LAST_SEQUENCE = 10071
_BUSY = frozenset({10158, 10164})  # the same id or guard is in flight: wait and repeat
_BATCH_DUPLICATE = 10201
_FULL = frozenset({10047, 10077, 10023})  # storage, stream bytes, insufficient resources
_NAME_IN_USE = 10058


class JetStreamJournal:
    """One stream, seen as a journal."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        *,
        new_id: Callable[[], str],
        retry_s_max: float = 30.0,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._new_id = new_id
        self._retry_s_max = retry_s_max

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """See ``Journal.append``."""
        headers = {"Nats-Msg-Id": message.id, **_guard_headers(guard)}

        async def attempt() -> Answer:
            return await self._connection.ask(
                message.subject, message.payload, timeout_s=ACK_S_MAX, headers=headers
            )

        return await self._until_acknowledged(attempt, message)

    async def append_batch(
        self, messages: Sequence[Outgoing], *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """See ``Journal.append_batch``; by JetStream's atomic publish (ADR-50)."""
        if not 2 <= len(messages) <= BATCH_MESSAGES_MAX:  # noqa: PLR2004 - one goes by append
            message = f"a batch of {len(messages)} messages"
            raise ValueError(message)

        async def attempt() -> Answer:
            return await self._send_batch(messages, guard)

        return await self._until_acknowledged(attempt, messages[-1])

    async def _send_batch(self, messages: Sequence[Outgoing], guard: Guard | None) -> Answer:
        batch_id = self._new_id()
        last = len(messages)
        for place, message in enumerate(messages, 1):
            headers = {
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(place),
                "Nats-Msg-Id": message.id,
            }
            if place == 1:
                headers |= _guard_headers(guard)
                answer = await self._connection.ask(
                    message.subject, message.payload, timeout_s=ACK_S_MAX, headers=headers
                )
                if answer.payload or answer.status:
                    return answer  # refused; an accepted first member is answered by nothing
            elif place < last:
                await self._connection.send(message.subject, message.payload, headers=headers)
        headers["Nats-Batch-Commit"] = "1"
        return await self._connection.ask(
            messages[-1].subject, messages[-1].payload, timeout_s=ASK_S_MAX, headers=headers
        )

    async def _until_acknowledged(
        self, attempt: Callable[[], Any], last: Outgoing
    ) -> Appended | GuardRefused:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry_s_max
        delay_s = RETRY_S_MIN
        problem = "no acknowledgement"
        repeated = False
        while True:
            try:
                answer = await attempt()
                reply = answer.json() if answer.status == 0 else {}
                problem = "no responders" if answer.status else problem
            except TimeoutError:
                reply, problem = {}, self._connection.denied or "no acknowledgement"
            if "seq" in reply:
                return Appended(int(reply["seq"]), duplicate=bool(reply.get("duplicate")))
            error = reply.get("error", {})
            code = int(error.get("err_code", 0))
            if code == _WRONG_LAST_SEQUENCE or code == _BATCH_DUPLICATE:
                stored = await self.last(last.subject) if repeated else None
                if stored is not None and stored.id == last.id:
                    return Appended(stored.seq, duplicate=True)
                return GuardRefused(str(error.get("description", "")))
            if code in _FULL:
                message = f"the journal is full: {error.get('description')}"
                raise JournalFull(message, hint="raise its limit or free disk space")
            if self._connection.denied:
                message = f"may not write to {last.subject}: {self._connection.denied}"
                raise PermissionRefused(message)
            if code and code not in _BUSY:
                problem = str(error.get("description", code))
            repeated = repeated or code not in _BUSY
            if loop.time() + delay_s > deadline:
                message = f"{last.subject}: not acknowledged in {self._retry_s_max:g} s: {problem}"
                raise Unavailable(message, hint="is the NATS server up? repeat: it is safe")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_S_MAX)

    def follow(
        self, after: int, *, subject: str | None = None
    ) -> AbstractAsyncContextManager[Feed]:
        """See ``Journal.follow``."""
        return reading(
            self._connection, self._stream, after=after, subject=subject, new_name=self._new_id
        )

    async def last(self, subject: str) -> Stored | None:
        """See ``Journal.last``."""
        return await self._message({"last_by_subj": subject})

    async def get(self, seq: int) -> Stored | None:
        """See ``Journal.get``."""
        return await self._message({"seq": seq})

    async def _message(self, request: dict[str, object]) -> Stored | None:
        reply = await ask_api(self._connection, f"STREAM.MSG.GET.{self._stream}", request)
        error = reply.get("error")
        if error is not None:
            if error.get("err_code") == _NO_MESSAGE:
                return None
            message = f"{self._stream}: {error.get('description')}"
            raise Unavailable(message)
        found = reply["message"]
        headers = base64.b64decode(found.get("hdrs", "")).decode()
        ids = [line[12:].strip() for line in headers.split("\r\n") if line.startswith("Nats-Msg-Id:")]
        return Stored(
            int(found["seq"]),
            str(found["subject"]),
            datetime.fromisoformat(found["time"]).timestamp(),
            ids[0] if ids else "",
            base64.b64decode(found.get("data", "")),
        )

    async def bounds(self) -> Bounds:
        """See ``Journal.bounds``."""
        reply = await ask_api(self._connection, f"STREAM.INFO.{self._stream}", {})
        if "error" in reply:
            message = f"{self._stream}: {reply['error'].get('description')}"
            raise Unavailable(message, hint="create the streams with `dtest server migrate`")
        state = reply["state"]
        return Bounds(
            int(state["first_seq"]), int(state["last_seq"]), int(state["messages"]), reply["created"]
        )


def _guard_headers(guard: Guard | None) -> dict[str, str]:
    if guard is None:
        return {}
    return {
        "Nats-Expected-Last-Subject-Sequence": str(guard.seq),
        "Nats-Expected-Last-Subject-Sequence-Subject": guard.subject,
    }


async def ask_api(
    connection: Connection, verb: str, request: dict[str, object], *, wait_s: float = 30.0
) -> dict[str, Any]:
    """Ask JetStream's API, patiently: a server that just started answers late.

    Raises Unavailable.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    body = json.dumps(request).encode() if request else b""
    while True:
        try:
            answer = await connection.ask(f"$JS.API.{verb}", body, timeout_s=ASK_S_MAX)
            if answer.status == 0:
                return answer.json()
        except TimeoutError:
            pass
        if connection.denied:
            raise PermissionRefused(connection.denied)
        if loop.time() > deadline:
            message = f"JetStream does not answer {verb}"
            raise Unavailable(message, hint="is JetStream enabled on the server?")
        await asyncio.sleep(RETRY_S_MAX)


async def create_streams(connection: Connection, cell: CellId, limits: Limits) -> None:
    """Create the streams of a cell where they do not exist; existing ones are left as they are."""
    for config in stream_configs(cell, limits):
        reply = await ask_api(connection, f"STREAM.CREATE.{config['name']}", config)
        error = reply.get("error")
        if error is not None and error.get("err_code") != _NAME_IN_USE:
            message = f"cannot create {config['name']}: {error.get('description')}"
            raise Unavailable(message, hint="compare with `nats stream info`, or pick another cell")
