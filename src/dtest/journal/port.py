"""The journal as its users see it: append, append guarded, append a batch, follow.

An append is acknowledged, refused by its guard (a value), or raises. It may be repeated with the
same id any number of times: the journal keeps one copy.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Protocol

from dtest.events import codec
from dtest.events.envelope import Recorded

BATCH_MESSAGES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to append."""

    subject: str
    payload: bytes
    id: str
    """Makes the append idempotent; the id of the (first) event inside."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Append only if the last message on ``subject`` is the one at ``seq`` (0: there is none)."""

    subject: str
    seq: int


@dataclass(frozen=True, slots=True)
class Appended:
    """The message (of a batch: its last) is stored at ``seq``."""

    seq: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class GuardRefused:
    """The guard did not hold; nothing was stored."""

    detail: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of the journal, undecoded."""

    seq: int
    subject: str
    stored_at: float
    """Seconds since 1970 UTC, by the server's clock."""
    id: str
    payload: bytes

    def record(self) -> Recorded:
        """Decode."""
        return codec.decode(
            self.payload, subject=self.subject, seq=self.seq, stored_at=self.stored_at
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the journal holds."""

    first: int
    last: int
    messages: int
    created: str
    """Identity of the stream: another one of the same name has another instant."""
    used_bytes: int = 0
    max_bytes: int | None = None
    """Beyond this nothing is taken; none if only the disk is the limit."""


class Feed(Protocol):
    """Messages in order, as they come, in batches that are never empty."""

    def __aiter__(self) -> AsyncIterator[list[Stored]]:
        """Iterate for ever; over an archive alone, to its end."""
        ...


class ReadableJournal(Protocol):
    """What can be read of a log: of the journal itself, of an archive, of both as one."""

    def follow(
        self, after: int, *, subject: str | None = None
    ) -> AbstractAsyncContextManager[Feed]:
        """Read all messages with a sequence number above ``after``, then those to come.

        With ``subject`` (wildcards allowed) only those; without, a missing number raises
        SequenceGap. So does, always, a journal that ends before ``after`` or before what was read:
        it lost its end, or is another one. Raises Unavailable or PermissionRefused when reading
        cannot begin; once it has begun it outlasts any absence of the server. Raises Damaged where
        an archive is read that is not as it was written.
        """
        ...

    async def get(self, seq: int) -> Stored | None:
        """Return one message."""
        ...

    async def bounds(self) -> Bounds:
        """Return what the journal holds."""
        ...


class Journal(ReadableJournal, Protocol):
    """One totally ordered, durable log."""

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """Append one message.

        Raises JournalFull, PermissionRefused, InvalidDocument if it is larger than the journal
        takes, or Unavailable when the time for retries is over: then it is unknown whether the
        message was stored, and the same call may be repeated. A repeated call whose guard holds no
        longer is recognised as long as the message is the last on its subject.
        """
        ...

    async def append_batch(
        self, messages: Sequence[Outgoing], *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """Append 2 to ``BATCH_MESSAGES_MAX`` messages, all or none.

        Raises as ``append``; also Conflict, if ids are repeated but not those of a whole batch.
        """
        ...

    async def last(self, subject: str) -> Stored | None:
        """Return the last message on exactly this subject."""
        ...


async def read_to(
    journal: ReadableJournal, after: int, until: int, *, subject: str | None = None
) -> AsyncGenerator[list[Stored], None]:
    """Read the messages with ``after < seq <= until``; unfiltered, or ``until`` must exist."""
    if until <= after:
        return
    async with journal.follow(after, subject=subject) as feed, aclosing(cut(feed, until)) as part:
        async for batch in part:
            yield batch


async def cut(feed: Feed, until: int | None) -> AsyncGenerator[list[Stored], None]:
    """Pass a feed on up to a sequence number, which may stand in the middle of a batch, and end."""
    async for batch in feed:
        if until is None or batch[-1].seq < until:
            yield batch
            continue
        wanted = [stored for stored in batch if stored.seq <= until]
        if wanted:
            yield wanted
        return
