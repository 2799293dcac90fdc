"""The rules that every adapter of the journal keeps, whatever it is made of.

A rule is a function over a ``Bench``; ``RULES`` and ``SMALL_RULES`` hold them all. What only a
server can show (lost acknowledgements, restarts, permissions) stands in ``test_jetstream``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from dtest.errors import Conflict, JournalFull, SequenceGap
from dtest.events import subject
from dtest.events.fields import CellId, ClientId, WorkerId
from dtest.journal.port import (
    BATCH_MESSAGES_MAX,
    Appended,
    Feed,
    Guard,
    GuardRefused,
    Journal,
    Outgoing,
    Stored,
    read_to,
)
from dtest.runtime.ids import IdSource

READ_S_MAX = 10.0


@dataclass(slots=True)
class Bench:
    """A journal on trial, empty at first."""

    journal: Journal
    cell: CellId
    new_id: Callable[[], str] = field(default_factory=IdSource)

    @property
    def epoch(self) -> str:
        """The subject of the fencing token."""
        return subject.epoch(self.cell)

    def client(self, name: str = "a") -> str:
        """A client's subject."""
        return subject.client(self.cell, ClientId(name), "task.queued")

    def work(self, worker: str, hardware: str = "cpu") -> str:
        """The subject of what a worker has to do."""
        return subject.work(self.cell, hardware, WorkerId(worker))

    def message(self, where: str = "", payload: bytes = b"{}", *, id: str = "") -> Outgoing:
        """A message with an id of its own."""
        return Outgoing(where or self.client(), payload, id or self.new_id())

    def messages(self, count: int, where: str = "") -> list[Outgoing]:
        """Messages that differ."""
        return [self.message(where, str(number).encode()) for number in range(count)]

    async def append_all(self, messages: Sequence[Outgoing]) -> list[int]:
        """Append one after the other; return their numbers."""
        return [stored_at(await self.journal.append(message)) for message in messages]

    async def elect(self) -> Guard:
        """Take the epoch; return the guard that fences its holder's appends."""
        last = await self.journal.last(self.epoch)
        guard = Guard(self.epoch, last.seq if last else 0)
        elected = await self.journal.append(self.message(self.epoch), guard=guard)
        return Guard(self.epoch, stored_at(elected))

    async def count(self) -> int:
        """Return how many messages there are."""
        return (await self.journal.bounds()).messages


Rule = Callable[[Bench], Awaitable[None]]
RULES: list[Rule] = []
SMALL_RULES: list[Rule] = []
"""Rules of a journal that has room for some tens of messages of a kilobyte."""


def rule(function: Rule) -> Rule:
    """Add a rule to the suite."""
    RULES.append(function)
    return function


def small_rule(function: Rule) -> Rule:
    """Add a rule of a small journal to the suite."""
    SMALL_RULES.append(function)
    return function


def stored_at(result: Appended | GuardRefused) -> int:
    """Return the number at which a message was stored."""
    assert isinstance(result, Appended)
    return result.seq


async def read(
    journal: Journal, after: int = 0, *, until: int, subject: str | None = None
) -> list[Stored]:
    """Read what is stored."""
    found: list[Stored] = []
    async with asyncio.timeout(READ_S_MAX):
        async with aclosing(read_to(journal, after, until, subject=subject)) as batches:
            async for batch in batches:
                assert batch
                found += batch
    return found


async def take(feed: Feed, count: int, *, within_s: float = READ_S_MAX) -> list[Stored]:
    """Take the next messages from a feed; at least so many."""
    found: list[Stored] = []
    async with asyncio.timeout(within_s):
        async for batch in feed:
            assert batch
            found += batch
            if len(found) >= count:
                break
    return found


def ids(messages: Sequence[Stored | Outgoing]) -> list[str]:
    """Return their ids."""
    return [message.id for message in messages]


# --- append -----------------------------------------------------------------------------------


@rule
async def an_append_is_acknowledged_with_the_next_number(bench: Bench) -> None:
    seqs = await bench.append_all(bench.messages(5))

    assert seqs == [1, 2, 3, 4, 5]


@rule
async def what_is_read_is_what_was_appended(bench: Bench) -> None:
    payload = bytes(range(256)) * 4
    message = bench.message(bench.client("binary"), payload)

    result = await bench.journal.append(message)

    (stored,) = await read(bench.journal, until=1)
    assert result == Appended(1)
    assert (stored.seq, stored.subject, stored.id, stored.payload) == (
        1,
        message.subject,
        message.id,
        payload,
    )


@rule
async def an_empty_payload_is_a_message_like_any_other(bench: Bench) -> None:
    messages = [bench.message(), bench.message(payload=b""), bench.message()]

    await bench.append_all(messages)

    assert ids(await read(bench.journal, until=3)) == ids(messages)


@rule
async def the_same_id_again_is_a_duplicate_with_the_number_of_the_first(bench: Bench) -> None:
    first, other = bench.messages(2)
    await bench.append_all([first, other])

    again = await bench.journal.append(first)

    assert again == Appended(1, duplicate=True)
    assert await bench.count() == 2


@rule
async def an_id_is_known_on_every_subject(bench: Bench) -> None:
    message = bench.message(bench.client("a"))
    await bench.journal.append(message)

    again = await bench.journal.append(bench.message(bench.client("b"), id=message.id))

    assert again == Appended(1, duplicate=True)
    assert await bench.journal.last(bench.client("b")) is None


@rule
async def appends_at_once_are_all_stored_once(bench: Bench) -> None:
    messages = bench.messages(200)
    twice = [*messages, *messages[::3]]

    results = await asyncio.gather(*(bench.journal.append(message) for message in twice))

    stored = await read(bench.journal, until=200)
    assert await bench.count() == 200
    by_id = {message.id: message.seq for message in stored}
    assert [stored_at(result) for result in results] == [by_id[message.id] for message in twice]


# --- guards -----------------------------------------------------------------------------------


@rule
async def a_guard_that_holds_stores(bench: Bench) -> None:
    first, second = bench.messages(2)
    await bench.journal.append(first, guard=Guard(first.subject, 0))

    result = await bench.journal.append(second, guard=Guard(second.subject, 1))

    assert result == Appended(2)


@rule
async def a_guard_that_does_not_hold_stores_nothing(bench: Bench) -> None:
    first, second, third = bench.messages(3)
    await bench.append_all([first, second])

    for stale in (0, 1, 3):
        result = await bench.journal.append(third, guard=Guard(third.subject, stale))

        assert isinstance(result, GuardRefused)
        assert result.detail

    assert await bench.count() == 2


@rule
async def a_refused_message_may_be_appended_later(bench: Bench) -> None:
    first, second = bench.messages(2)
    await bench.journal.append(first)
    refused = await bench.journal.append(second, guard=Guard(second.subject, 0))

    result = await bench.journal.append(second, guard=Guard(second.subject, 1))

    assert isinstance(refused, GuardRefused)
    assert result == Appended(2)


@rule
async def a_guard_looks_at_its_own_subject_only(bench: Bench) -> None:
    await bench.append_all(bench.messages(3, bench.client("a")))

    result = await bench.journal.append(
        bench.message(bench.client("b")), guard=Guard(bench.client("b"), 0)
    )

    assert result == Appended(4)


@rule
async def of_two_candidates_with_the_same_guard_one_wins(bench: Bench) -> None:
    guard = Guard(bench.epoch, 0)

    results = await asyncio.gather(
        *(bench.journal.append(bench.message(bench.epoch), guard=guard) for _ in range(5))
    )

    assert sum(isinstance(result, Appended) for result in results) == 1
    assert await bench.count() == 1


@rule
async def a_guarded_append_again_is_recognised_as_own(bench: Bench) -> None:
    message = bench.message(bench.epoch)
    await bench.journal.append(message, guard=Guard(bench.epoch, 0))

    again = await bench.journal.append(message, guard=Guard(bench.epoch, 0))

    assert again == Appended(1, duplicate=True)
    assert await bench.count() == 1


@rule
async def an_append_under_the_current_epoch_is_stored(bench: Bench) -> None:
    epoch = await bench.elect()

    for number in range(3):
        result = await bench.journal.append(bench.message(bench.work("w1")), guard=epoch)

        assert result == Appended(epoch.seq + 1 + number)


@rule
async def an_append_under_a_stale_epoch_is_refused(bench: Bench) -> None:
    stale = await bench.elect()
    await bench.elect()

    result = await bench.journal.append(bench.message(bench.work("w1")), guard=stale)

    assert isinstance(result, GuardRefused)
    assert await bench.count() == 2


@rule
async def a_fenced_append_again_is_a_duplicate_while_the_epoch_stands(bench: Bench) -> None:
    epoch = await bench.elect()
    message = bench.message(bench.work("w1"))
    first = await bench.journal.append(message, guard=epoch)

    again = await bench.journal.append(message, guard=epoch)

    assert again == Appended(stored_at(first), duplicate=True)
    assert await bench.count() == 2


# --- batches ----------------------------------------------------------------------------------


async def _batch_of(bench: Bench, count: int) -> None:
    before = bench.message()
    messages = bench.messages(count)
    await bench.journal.append(before)

    result = await bench.journal.append_batch(messages)

    assert result == Appended(1 + count)
    stored = await read(bench.journal, until=1 + count)
    assert ids(stored) == ids([before, *messages])
    assert [message.payload for message in stored[1:]] == [m.payload for m in messages]


@rule
async def a_batch_of_two_is_stored_in_order(bench: Bench) -> None:
    await _batch_of(bench, 2)


@rule
async def a_batch_of_a_thousand_is_stored_in_order(bench: Bench) -> None:
    await _batch_of(bench, BATCH_MESSAGES_MAX)


@rule
async def a_batch_may_span_subjects(bench: Bench) -> None:
    messages = [bench.message(bench.work(f"w{number % 7}")) for number in range(50)]

    await bench.journal.append_batch(messages)

    stored = await read(bench.journal, until=50)
    assert [message.subject for message in stored] == [message.subject for message in messages]


@rule
async def a_batch_has_two_to_a_thousand_messages(bench: Bench) -> None:
    for count in (0, 1, BATCH_MESSAGES_MAX + 1):
        with pytest.raises(ValueError, match=str(count)):
            await bench.journal.append_batch(bench.messages(count))

    assert await bench.count() == 0


@rule
async def a_batch_again_is_a_duplicate_with_the_number_of_the_first(bench: Bench) -> None:
    messages = bench.messages(3)
    await bench.journal.append_batch(messages)

    again = await bench.journal.append_batch(messages)

    assert again == Appended(3, duplicate=True)
    assert await bench.count() == 3


@rule
async def a_fenced_batch_again_is_a_duplicate(bench: Bench) -> None:
    epoch = await bench.elect()
    messages = bench.messages(3, bench.work("w1"))
    await bench.journal.append_batch(messages, guard=epoch)

    again = await bench.journal.append_batch(messages, guard=epoch)

    assert again == Appended(4, duplicate=True)
    assert await bench.count() == 4


@rule
async def a_batch_that_holds_a_stored_message_stores_nothing(bench: Bench) -> None:
    known, *fresh = bench.messages(3)
    await bench.journal.append(known)

    for batch in ([known, *fresh], [fresh[0], known, fresh[1]], [*fresh, known]):
        with pytest.raises(Conflict):
            await bench.journal.append_batch(batch)

    assert await bench.count() == 1


@rule
async def a_batch_that_holds_an_id_twice_stores_nothing(bench: Bench) -> None:
    first, second = bench.messages(2)

    with pytest.raises(Conflict):
        await bench.journal.append_batch([first, second, first])

    assert await bench.count() == 0


@rule
async def a_guard_that_holds_stores_the_whole_batch(bench: Bench) -> None:
    epoch = await bench.elect()

    result = await bench.journal.append_batch(bench.messages(10, bench.work("w1")), guard=epoch)

    assert result == Appended(11)


@rule
async def a_guard_that_does_not_hold_stores_nothing_of_a_batch(bench: Bench) -> None:
    first, *batch = bench.messages(11)
    await bench.journal.append(first)

    result = await bench.journal.append_batch(batch, guard=Guard(first.subject, 0))

    assert isinstance(result, GuardRefused)
    assert await bench.count() == 1


@rule
async def a_batch_under_a_stale_epoch_is_refused_whole(bench: Bench) -> None:
    stale = await bench.elect()
    await bench.elect()

    for count in (2, BATCH_MESSAGES_MAX):
        batch = [bench.message(bench.work(f"w{number % 5}")) for number in range(count)]
        result = await bench.journal.append_batch(batch, guard=stale)

        assert isinstance(result, GuardRefused)

    assert await bench.count() == 2


@rule
async def a_refused_batch_may_be_appended_later(bench: Bench) -> None:
    stale = await bench.elect()
    current = await bench.elect()
    batch = bench.messages(3, bench.work("w1"))
    await bench.journal.append_batch(batch, guard=stale)

    result = await bench.journal.append_batch(batch, guard=current)

    assert result == Appended(5)
    assert ids(await read(bench.journal, 2, until=5)) == ids(batch)


# --- follow -----------------------------------------------------------------------------------


@rule
async def a_follower_from_the_start_reads_all_in_order(bench: Bench) -> None:
    messages = bench.messages(1_500)
    for start in range(0, 1_500, 500):
        await bench.journal.append_batch(messages[start : start + 500])

    stored = await read(bench.journal, until=1_500)

    assert ids(stored) == ids(messages)
    assert [message.seq for message in stored] == list(range(1, 1_501))


@rule
async def a_follower_from_the_middle_reads_what_comes_after(bench: Bench) -> None:
    messages = bench.messages(10)
    await bench.append_all(messages)

    stored = await read(bench.journal, 6, until=10)

    assert ids(stored) == ids(messages[6:])


@rule
async def a_follower_from_the_end_reads_what_is_yet_to_come(bench: Bench) -> None:
    await bench.append_all(bench.messages(10))
    late = bench.message()

    async with bench.journal.follow(10) as feed, asyncio.TaskGroup() as group:
        reading = group.create_task(take(feed, 1))
        await bench.journal.append(late)

    assert ids(reading.result()) == [late.id]


@rule
async def a_follower_of_an_empty_journal_waits_for_the_first_message(bench: Bench) -> None:
    first = bench.message()

    async with bench.journal.follow(0) as feed, asyncio.TaskGroup() as group:
        reading = group.create_task(take(feed, 1))
        await bench.journal.append(first)

    assert ids(reading.result()) == [first.id]


@rule
async def a_follower_sees_each_message_once_while_others_append(bench: Bench) -> None:
    messages = bench.messages(300)

    async with bench.journal.follow(0) as feed, asyncio.TaskGroup() as group:
        reading = group.create_task(take(feed, 300))
        for start in range(0, 300, 10):
            part = messages[start : start + 10]
            await asyncio.gather(*(bench.journal.append(message) for message in part))

    assert sorted(ids(reading.result())) == sorted(ids(messages))
    assert [message.seq for message in reading.result()] == list(range(1, 301))


@rule
async def a_feed_goes_on_where_it_was_left(bench: Bench) -> None:
    messages = bench.messages(6)
    async with bench.journal.follow(0) as feed:
        await bench.append_all(messages[:3])
        first = await take(feed, 3)
        await bench.append_all(messages[3:])
        rest = await take(feed, 3)

    assert ids([*first, *rest]) == ids(messages)


@rule
async def a_filtered_follower_reads_its_subject_only(bench: Bench) -> None:
    wanted, other = bench.client("a"), bench.client("b")
    messages = [bench.message(where) for where in (wanted, other, other, wanted, other, wanted)]
    await bench.append_all(messages)

    stored = await read(bench.journal, until=6, subject=wanted)

    assert [message.seq for message in stored] == [1, 4, 6]


@rule
async def a_filter_may_hold_wildcards(bench: Bench) -> None:
    places = [
        bench.work("w1", "cpu"),
        bench.work("w2", "cpu"),
        bench.client(),
        bench.work("w1", "cuda"),
    ]
    await bench.append_all([bench.message(where) for where in places])

    one_worker = subject.work_of(bench.cell, WorkerId("w1"))
    by_token = await read(bench.journal, until=4, subject=one_worker)
    by_rest = await read(bench.journal, until=4, subject=f"dtest.{bench.cell}.work.>")

    assert [message.seq for message in by_token] == [1, 4]
    assert [message.seq for message in by_rest] == [1, 2, 4]


@rule
async def a_filtered_follower_from_the_middle_waits_for_its_own(bench: Bench) -> None:
    wanted = bench.work("w1")
    await bench.append_all([bench.message(wanted), bench.message()])

    async with bench.journal.follow(1, subject=wanted) as feed, asyncio.TaskGroup() as group:
        reading = group.create_task(take(feed, 1))
        await bench.append_all([bench.message(bench.work("w2")), bench.message(wanted)])

    assert [message.seq for message in reading.result()] == [4]


@rule
async def two_followers_see_the_same(bench: Bench) -> None:
    async with (
        bench.journal.follow(0) as one,
        bench.journal.follow(0) as other,
        asyncio.TaskGroup() as group,
    ):
        readings = [group.create_task(take(feed, 50)) for feed in (one, other)]
        await bench.append_all(bench.messages(50))

    assert readings[0].result() == readings[1].result()


@rule
async def following_again_from_an_earlier_number_gives_the_same_messages(bench: Bench) -> None:
    await bench.append_all(bench.messages(40))

    first = await read(bench.journal, until=40)
    again = await read(bench.journal, 25, until=40)

    assert again == first[25:]


@rule
async def following_from_beyond_the_end_is_an_error(bench: Bench) -> None:
    """Whoever asks has read another journal, or this one has lost its end."""
    await bench.append_all(bench.messages(2))

    for where in (None, bench.client()):
        with pytest.raises(SequenceGap):
            await read(bench.journal, 3, until=4, subject=where)


@rule
async def a_follower_that_leaves_disturbs_nobody(bench: Bench) -> None:
    await bench.append_all(bench.messages(20))

    async with bench.journal.follow(0) as staying:
        for _ in range(3):
            async with bench.journal.follow(0) as leaving:
                await take(leaving, 1)
        stored = await take(staying, 20)

    assert len(stored) == 20


# --- look -------------------------------------------------------------------------------------


@rule
async def an_empty_journal_holds_nothing(bench: Bench) -> None:
    bounds = await bench.journal.bounds()

    assert (bounds.first, bounds.last, bounds.messages) == (0, 0, 0)
    assert await bench.journal.last(bench.client()) is None
    assert await bench.journal.get(1) is None


@rule
async def the_bounds_tell_the_first_and_the_last_number(bench: Bench) -> None:
    before = await bench.journal.bounds()
    await bench.append_all(bench.messages(7))

    bounds = await bench.journal.bounds()

    assert (bounds.first, bounds.last, bounds.messages) == (1, 7, 7)
    assert bounds.created == before.created != ""


@rule
async def the_last_of_a_subject_is_found(bench: Bench) -> None:
    messages = [bench.message(bench.client(name)) for name in ("a", "b", "a", "c")]
    await bench.append_all(messages)

    last = await bench.journal.last(bench.client("a"))

    assert last is not None
    assert (last.seq, last.id) == (3, messages[2].id)


@rule
async def a_message_is_found_by_its_number(bench: Bench) -> None:
    messages = bench.messages(3)
    await bench.append_all(messages)

    found = [await bench.journal.get(seq) for seq in (0, 1, 3, 4, 1_000_000)]

    assert [message.id if message else None for message in found] == [
        None,
        messages[0].id,
        messages[2].id,
        None,
        None,
    ]


@rule
async def a_message_is_the_same_however_it_is_read(bench: Bench) -> None:
    await bench.append_all(bench.messages(20))

    followed = await read(bench.journal, until=20)

    assert [await bench.journal.get(message.seq) for message in followed] == followed
    assert await bench.journal.last(bench.client()) == followed[-1]


# --- the end of the room -----------------------------------------------------------------------


async def append_until_full(bench: Bench, acknowledged: list[str]) -> None:
    """Note the ids of what was acknowledged. Raises JournalFull."""
    for _ in range(1_000):
        message = bench.message(payload=b"x" * 1_000)
        stored_at(await bench.journal.append(message))
        acknowledged.append(message.id)


async def _fill(bench: Bench) -> list[str]:
    acknowledged: list[str] = []
    with pytest.raises(JournalFull) as raised:
        await append_until_full(bench, acknowledged)
    assert raised.value.hint
    return acknowledged


@small_rule
async def a_full_journal_refuses_and_forgets_nothing(bench: Bench) -> None:
    acknowledged = await _fill(bench)

    stored = await read(bench.journal, until=len(acknowledged))

    assert len(acknowledged) > 10
    assert ids(stored) == acknowledged
    bounds = await bench.journal.bounds()
    assert (bounds.first, bounds.messages) == (1, len(acknowledged))


@small_rule
async def a_full_journal_takes_nothing_of_a_batch(bench: Bench) -> None:
    acknowledged = await _fill(bench)
    batch = [bench.message(payload=b"x" * 1_000) for _ in range(2)]

    with pytest.raises(JournalFull):
        await bench.journal.append_batch(batch)

    assert await bench.count() == len(acknowledged)


@small_rule
async def a_batch_that_does_not_fit_whole_is_not_stored_in_part(bench: Bench) -> None:
    batch = [bench.message(payload=b"x" * 1_000) for _ in range(1_000)]

    with pytest.raises(JournalFull):
        await bench.journal.append_batch(batch)

    assert await bench.count() == 0


@small_rule
async def a_full_journal_still_knows_what_it_holds(bench: Bench) -> None:
    acknowledged = await _fill(bench)

    again = await bench.journal.append(bench.message(id=acknowledged[0]))

    assert again == Appended(1, duplicate=True)
