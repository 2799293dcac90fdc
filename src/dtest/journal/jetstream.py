"""The journal on a JetStream stream.

Publishing is repeated with the same id until it is acknowledged or the time is over. A repetition
whose guard no longer holds, or whose batch the server knows, may be refused although it is stored:
then the journal itself tells.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any

from dtest.errors import Conflict, JournalFull, Unavailable
from dtest.journal.api import ASK_AGAIN_S, PATIENCE_S, get_bounds, get_message
from dtest.journal.connection import Answer, Connection, denied
from dtest.journal.port import (
    BATCH_MESSAGES_MAX,
    Appended,
    Bounds,
    Feed,
    Guard,
    GuardRefused,
    Outgoing,
    Stored,
    read_to,
)
from dtest.journal.reader import reading

ACK_S_MAX = 1.0
COMMIT_S_MAX = 3.0
"""A batch of a thousand messages takes some tens of milliseconds."""
FULL_HINT = (
    "raise its limit: `dtest server migrate --journal-bytes N`, or free disk space; see"
    " docs/limits.md"
)
RETRY_S_MIN = 0.02
RETRY_S_MAX = 0.2
DEPOSED_S_MAX = 20.0
"""How long a server that was cut off may go on as the leader of a stream: every 10 s it asks itself
whether most of the others still hear it."""
_WRONG_LAST_SEQUENCE = 10071
_ACTUAL = re.compile(r"sequence: (\d+)")
_BATCH_DUPLICATE = 10201
_NO_STORAGE = frozenset({10023, 10047})
_STORE_FAILED = 10077  # for several reasons; "maximum bytes exceeded" is one
_IN_FLIGHT = 10164


@dataclass(frozen=True, slots=True)
class _Parcel:
    """What is appended as one: a message, or the messages of a batch."""

    messages: Sequence[Outgoing]
    guard: Guard | None

    @property
    def last(self) -> Outgoing:
        return self.messages[-1]


@dataclass(frozen=True, slots=True)
class _Again:
    """Nothing was decided: wait and repeat."""

    problem: str
    lost: bool = True
    """Whether it may be stored in spite of the answer: the leader of a replicated stream may have
    passed it on before it lost its place."""


class JetStreamJournal:
    """One stream, seen as a journal."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        *,
        new_id: Callable[[], str],
        retry_s_max: float = 30.0,
        ask_s_max: float = PATIENCE_S,
    ) -> None:
        """Repeat an append for so long, and a question; each ends at most a second later."""
        self._connection = connection
        self._stream = stream
        self._new_id = new_id
        self._retry_s_max = retry_s_max
        self._ask_s_max = ask_s_max
        self._known = 0
        """The last sequence number that is known to exist."""

    @property
    def is_reachable(self) -> bool:
        """Say whether a server is there, whatever it answers."""
        return self._connection.is_connected

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """See ``Journal.append``."""
        headers = {"Nats-Msg-Id": message.id, **_guard_headers(guard)}

        async def attempt() -> Answer:
            return await self._connection.ask(
                message.subject, message.payload, timeout_s=ACK_S_MAX, headers=headers
            )

        return await self._until_acknowledged(attempt, _Parcel([message], guard))

    async def append_batch(
        self, messages: Sequence[Outgoing], *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """See ``Journal.append_batch``; by JetStream's atomic publish (ADR-50)."""
        if not 2 <= len(messages) <= BATCH_MESSAGES_MAX:  # noqa: PLR2004 - one goes by append
            message = f"a batch of {len(messages)} messages"
            raise ValueError(message)
        parcel = _Parcel(messages, guard)

        async def attempt() -> Answer:
            return await self._send_batch(parcel)

        return await self._until_acknowledged(attempt, parcel)

    async def _send_batch(self, parcel: _Parcel) -> Answer:
        batch_id = self._new_id()
        last = len(parcel.messages)
        for place, message in enumerate(parcel.messages, 1):
            headers = {
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(place),
                "Nats-Msg-Id": message.id,
            }
            if place == 1:
                headers |= _guard_headers(parcel.guard)
                answer = await self._connection.ask(
                    message.subject, message.payload, timeout_s=ACK_S_MAX, headers=headers
                )
                if answer.payload or answer.status:
                    return answer  # refused; an accepted first member is answered by nothing
            elif place < last:
                await self._connection.send(message.subject, message.payload, headers=headers)
        headers["Nats-Batch-Commit"] = "1"
        answer = await self._connection.ask(
            parcel.last.subject, parcel.last.payload, timeout_s=COMMIT_S_MAX, headers=headers
        )
        for message in parcel.messages:
            if self._connection.was_denied(message.subject):
                raise denied(message.subject)  # it is missing, so the server refused the batch
        return answer

    async def _until_acknowledged(
        self, attempt: Callable[[], Awaitable[Answer]], parcel: _Parcel
    ) -> Appended | GuardRefused:
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + self._retry_s_max
        delay_s = RETRY_S_MIN
        lost = False
        while True:
            doubting = loop.time() < began + DEPOSED_S_MAX
            try:
                outcome = await self._outcome(await attempt(), parcel, lost=lost, doubting=doubting)
            except TimeoutError as error:
                outcome = _Again(str(error) or "no acknowledgement")
            if isinstance(outcome, Appended):
                self._known = max(self._known, outcome.seq)
            if not isinstance(outcome, _Again):
                return outcome
            lost = lost or outcome.lost
            if loop.time() + delay_s > deadline:
                message = (
                    f"{parcel.last.subject}: not acknowledged in {self._retry_s_max:g} s:"
                    f" {outcome.problem}"
                )
                raise Unavailable(message, hint="is the NATS server up? repeat: it is safe")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_S_MAX)

    async def _outcome(
        self, answer: Answer, parcel: _Parcel, *, lost: bool, doubting: bool
    ) -> Appended | GuardRefused | _Again:
        """Read an acknowledgement; ``lost`` says that an earlier one may not have arrived.

        ``doubting``: a refusal counts only from a server that knows what the writer knows.
        """
        reply = answer.json() if answer.status == 0 else {}
        error: dict[str, Any] | None = reply.get("error")  # then there is a "seq", too: 0
        if error is None:
            if "seq" not in reply:
                return _Again("nobody serves this subject", lost=False)
            return Appended(int(reply["seq"]), duplicate=bool(reply.get("duplicate")))
        code = int(error.get("err_code", 0))
        detail = str(error.get("description", code))
        if code in _NO_STORAGE or (code == _STORE_FAILED and "exceeded" in detail):
            message = f"{self._stream} is full: {detail}"
            raise JournalFull(message, hint=FULL_HINT)
        if code not in (_WRONG_LAST_SEQUENCE, _BATCH_DUPLICATE):
            # in flight: another write under this guard is not stored yet on every server
            return _Again(detail, lost=code != _IN_FLIGHT)
        stored = await self._find(parcel, everywhere=lost or code == _BATCH_DUPLICATE)
        if stored is not None:
            return Appended(stored.seq, duplicate=True)
        if code == _WRONG_LAST_SEQUENCE:
            if (
                doubting
                and parcel.guard is not None
                and await self._is_behind(parcel.guard, detail)
            ):
                return _Again(f"refused by a server that is behind: {detail}", lost=False)
            return GuardRefused(detail)
        if lost:
            return _Again(detail)  # a replicated stream knows an id before it can show the message
        message = f"a part of this batch is stored already, or twice in it: {detail}"
        raise Conflict(message)

    async def _is_behind(self, guard: Guard, detail: str) -> bool:
        """Say whether a server refused a guard because it lacks what others have stored.

        One that was cut off leads on, as it believes, until it hears of the next leader; it refuses
        by what it has, without asking the others.
        """
        if not self._connection.is_clustered:
            return False
        match = _ACTUAL.search(detail)
        actual = int(match[1]) if match else 0
        if actual < guard.seq:
            named = await self.get(guard.seq)
            if named is not None and named.subject == guard.subject:
                return True
        return (await self._bounds()).last < max(actual, guard.seq)

    async def _find(self, parcel: _Parcel, *, everywhere: bool) -> Stored | None:
        """Return the parcel's last message if it is stored whole.

        It is looked for at the end of its subject, ``everywhere`` also before that.
        """
        last = await self.last(parcel.last.subject)
        if last is None:
            return None
        found = last if last.id == parcel.last.id else None
        if found is None and everywhere:
            # A guard held when the message was stored: what it names lies before.
            after = parcel.guard.seq if parcel.guard is not None else 0
            where = parcel.last.subject
            async with aclosing(read_to(self, after, last.seq, subject=where)) as batches:
                async for batch in batches:
                    found = next((each for each in batch if each.id == parcel.last.id), found)
        if found is None or len(parcel.messages) == 1:
            return found
        first = await self.get(found.seq - len(parcel.messages) + 1)
        return found if first is not None and first.id == parcel.messages[0].id else None

    def follow(
        self, after: int, *, subject: str | None = None
    ) -> AbstractAsyncContextManager[Feed]:
        """See ``Journal.follow``."""
        return reading(
            self._connection, self._stream, after=after, subject=subject, new_name=self._new_id
        )

    async def last(self, subject: str) -> Stored | None:
        """See ``Journal.last``."""
        return await self._get({"last_by_subj": subject})

    async def get(self, seq: int) -> Stored | None:
        """See ``Journal.get``."""
        return await self._get({"seq": seq}) if seq > 0 else None

    async def _get(self, request: dict[str, object]) -> Stored | None:
        return await get_message(self._connection, self._stream, request, wait_s=self._ask_s_max)

    async def bounds(self) -> Bounds:
        """See ``Journal.bounds``; never behind what was appended, nor behind what it said before.

        Unless for ``DEPOSED_S_MAX`` nothing else is said: then it is another journal.
        """
        loop = asyncio.get_running_loop()
        doubting_until = loop.time() + DEPOSED_S_MAX
        found = await self._bounds()
        while self._connection.is_clustered and found.last < self._known:
            if loop.time() > doubting_until:
                break
            await asyncio.sleep(ASK_AGAIN_S)
            found = await self._bounds()
        self._known = found.last
        return found

    async def _bounds(self) -> Bounds:
        return await get_bounds(self._connection, self._stream, wait_s=self._ask_s_max)


def _guard_headers(guard: Guard | None) -> dict[str, str]:
    if guard is None:
        return {}
    return {
        "Nats-Expected-Last-Subject-Sequence": str(guard.seq),
        "Nats-Expected-Last-Subject-Sequence-Subject": guard.subject,
    }
