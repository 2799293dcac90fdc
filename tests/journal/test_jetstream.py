"""What only a real server can show: lost answers, crashes, permissions, strange messages."""

import asyncio
import json
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dtest.errors import (
    InvalidDocument,
    JournalFull,
    NotFound,
    PermissionRefused,
    SequenceGap,
    Unavailable,
)
from dtest.events import subject
from dtest.events.fields import CellId, TaskId, WorkerId
from dtest.journal import connection as connection_module
from dtest.journal import jetstream as jetstream_module
from dtest.journal import reader as reader_module
from dtest.journal.api import ask_api
from dtest.journal.connection import Answer, NatsAddress, connect
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.port import Appended, Guard, GuardRefused, Journal, Outgoing, Stored
from dtest.journal.stores import (
    ObjectStore,
    OutputFound,
    OutputPlace,
    OutputStore,
    artifact_store,
    output_stream,
)
from dtest.journal.streams import artifact_bucket, output_name
from dtest.runtime.ids import IdSource
from dtest.runtime.ports import free_port
from tests.journal.conformance import Bench, append_until_full, ids, read, stored_at, take
from tests.journal.writers import Writers, client, follow_into, message
from tests.kit.nats import (
    LIMITS,
    PASSWORD,
    NatsCell,
    Proxy,
    Server,
    connected,
    eventually,
    joined,
    proxied,
    running,
)

RESUME_S_MAX = 1.0
"""How long a reader may take to go on after a reconnection."""


async def append_all(cell: NatsCell, count: int) -> list[Outgoing]:
    messages = [message(cell) for _ in range(count)]
    for each in messages:
        stored_at(await cell.journal.append(each))
    return messages


@asynccontextmanager
async def own_server(tmp_path: Path, cell_id: CellId, lines: str = "") -> AsyncIterator[NatsCell]:
    async with (
        running(tmp_path / "nats", lines=lines) as server,
        joined(server.address, cell_id) as cell,
    ):
        yield cell


# --- a way to the server that a test may mistreat -----------------------------------------------


@dataclass(slots=True)
class Detour:
    """A cell seen through a proxy, and the same cell seen directly."""

    proxy: Proxy
    far: NatsCell
    near: NatsCell

    async def stored(self, messages: int) -> None:
        async def there() -> bool:
            return (await self.near.journal.bounds()).messages >= messages

        await eventually(there, what=f"{messages} messages are stored")


@pytest.fixture
async def detour(server: Server, cell: NatsCell) -> AsyncIterator[Detour]:
    async with proxied(server.port) as proxy:
        through = server.address_of("dtest", port=proxy.port)
        async with joined(through, cell.cell) as far:
            yield Detour(proxy, far, cell)


# --- lost acknowledgements ----------------------------------------------------------------------

Write = Callable[[NatsCell], Coroutine[Any, Any, Appended | GuardRefused]]


async def _plain(cell: NatsCell) -> Appended | GuardRefused:
    return await cell.journal.append(message(cell))


async def _guarded_by_its_own_subject(cell: NatsCell) -> Appended | GuardRefused:
    epoch = subject.epoch(cell.cell)
    return await cell.journal.append(message(cell, epoch), guard=Guard(epoch, 0))


async def _guarded_by_another_subject(cell: NatsCell) -> Appended | GuardRefused:
    where = subject.decided(cell.cell)
    return await cell.journal.append(message(cell, where), guard=Guard(subject.epoch(cell.cell), 0))


async def _batch(cell: NatsCell) -> Appended | GuardRefused:
    return await cell.journal.append_batch([message(cell) for _ in range(20)])


async def _guarded_batch(cell: NatsCell) -> Appended | GuardRefused:
    epoch = subject.epoch(cell.cell)
    batch = [message(cell, epoch)] + [message(cell, subject.decided(cell.cell)) for _ in range(9)]
    return await cell.journal.append_batch(batch, guard=Guard(epoch, 0))


WRITES: tuple[tuple[Write, int], ...] = (
    (_plain, 1),
    (_guarded_by_its_own_subject, 1),
    (_guarded_by_another_subject, 1),
    (_batch, 20),
    (_guarded_batch, 10),
)


@pytest.mark.parametrize("how", ["silence", "cut"])
@pytest.mark.parametrize(
    ("write", "count"), WRITES, ids=[write.__name__.strip("_") for write, _ in WRITES]
)
async def test_a_lost_acknowledgement_leaves_one_copy_and_reports_success(
    detour: Detour, write: Write, count: int, how: str
) -> None:
    first_is_accepted = asyncio.Event()
    if count > 1:  # the first member of a batch is answered: lose the answer to the commit only
        send = detour.far.connection.send

        async def send_then_swallow(*args: Any, **kwargs: Any) -> None:
            if "Nats-Batch-Commit" in (kwargs.get("headers") or {}):
                detour.proxy.swallow()
                first_is_accepted.set()
            await send(*args, **kwargs)

        detour.far.connection.send = send_then_swallow  # type: ignore[method-assign]
    else:
        detour.proxy.swallow()
        first_is_accepted.set()

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write(detour.far))
        await first_is_accepted.wait()
        await detour.stored(count)
        await detour.proxy.swallowed.wait()
        if count > 1:
            detour.far.connection.send = send  # type: ignore[method-assign]
        if how == "cut":
            detour.proxy.cut()
        else:
            detour.proxy.pass_on()

    assert writing.result() == Appended(count, duplicate=True)
    assert (await detour.near.journal.bounds()).messages == count


async def test_an_own_message_is_recognised_though_others_wrote_after_it(detour: Detour) -> None:
    where = subject.epoch(detour.near.cell)
    mine = message(detour.far, where)
    detour.proxy.swallow()

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(detour.far.journal.append(mine, guard=Guard(where, 0)))
        await detour.stored(1)
        await detour.near.journal.append(message(detour.near, where), guard=Guard(where, 1))
        await detour.proxy.swallowed.wait()
        detour.proxy.pass_on()

    assert writing.result() == Appended(1, duplicate=True)


async def test_a_refusal_after_a_lost_acknowledgement_is_a_refusal(detour: Detour) -> None:
    where = subject.epoch(detour.near.cell)
    await detour.near.journal.append(message(detour.near, where))
    late = message(detour.far, where)
    detour.proxy.swallow()

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(detour.far.journal.append(late, guard=Guard(where, 0)))
        await detour.proxy.swallowed.wait()
        detour.proxy.pass_on()

    assert isinstance(writing.result(), GuardRefused)
    assert (await detour.near.journal.bounds()).messages == 1


# --- a server that was cut off answers by what it has ---------------------------------------------


@dataclass(slots=True)
class Behind:
    """Makes a server of a cluster out of one, which says for so many answers that it holds less."""

    cell: NatsCell
    answers: int

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ask = self.cell.connection.ask

        async def say_less(where: str, payload: bytes, **how: Any) -> Answer:
            answer = await ask(where, payload, **how)
            if self.answers and where.startswith("$JS.API.STREAM.INFO"):
                self.answers -= 1
                document = answer.json()
                document["state"]["last_seq"] = 1
                return replace(answer, payload=json.dumps(document).encode())
            return answer

        monkeypatch.setattr(self.cell.connection, "ask", say_less)
        monkeypatch.setattr(connection_module.Connection, "is_clustered", True)


async def test_the_journal_does_not_end_before_what_was_appended(
    cell: NatsCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_all(cell, 3)
    behind = Behind(cell, 2)
    behind.put_in(monkeypatch)

    assert (await cell.journal.bounds()).last == 3
    assert behind.answers == 0


async def test_a_journal_that_stays_behind_is_another_one(
    cell: NatsCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_all(cell, 3)
    monkeypatch.setattr(jetstream_module, "DEPOSED_S_MAX", 0.2)
    Behind(cell, 1_000).put_in(monkeypatch)

    assert (await cell.journal.bounds()).last == 1
    assert (await cell.journal.bounds()).last == 1


# --- connections that come and go ---------------------------------------------------------------


async def test_a_follower_goes_on_within_a_second_after_a_cut(detour: Detour) -> None:
    sent = await append_all(detour.near, 5)
    back = asyncio.Event()
    detour.far.connection.on_reconnect(back.set)

    async with detour.far.journal.follow(0) as feed:
        seen = await take(feed, 5)
        for _ in range(3):
            back.clear()
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(take(feed, 1))
                detour.proxy.cut()
                sent += await append_all(detour.near, 1)
                await back.wait()
                began = time.monotonic()
            seen += reading.result()
            assert time.monotonic() - began < RESUME_S_MAX

    assert ids(seen) == ids(sent)


async def test_a_follower_goes_on_after_the_way_was_shut_for_a_while(detour: Detour) -> None:
    async with detour.far.journal.follow(0) as feed, asyncio.TaskGroup() as group:
        reading = group.create_task(take(feed, 3))
        await detour.proxy.shut()
        await eventually(lambda: not detour.far.connection.is_connected)
        sent = await append_all(detour.near, 3)
        await detour.proxy.open()

    assert ids(reading.result()) == ids(sent)


WORDS_OF_STRANGERS = {
    "a line without end": b"x" * (1 << 18),
    "no document": b"INFO\r\n",
    "a document of another shape": b"INFO []\r\n",
}


@asynccontextmanager
async def stranger(port: int, words: bytes) -> AsyncIterator[list[None]]:
    """Have something that is no server of NATS answer at a port; gives its visits."""
    visits: list[None] = []

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(None)
        with suppress(OSError):
            writer.write(words)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield visits


@pytest.mark.parametrize("words", WORDS_OF_STRANGERS.values(), ids=WORDS_OF_STRANGERS)
async def test_a_stranger_in_the_place_of_the_server_is_survived(
    detour: Detour, words: bytes
) -> None:
    """The client's own attempts to reconnect end for good at what they do not expect."""
    await detour.proxy.shut()
    async with stranger(detour.proxy.port, words) as visits:
        await eventually(lambda: len(visits) > 1, what="the stranger is asked again")
    await detour.proxy.open()

    assert await append_all(detour.far, 1)


@pytest.mark.parametrize("words", WORDS_OF_STRANGERS.values(), ids=WORDS_OF_STRANGERS)
async def test_a_stranger_is_no_server(words: bytes) -> None:
    port = free_port()
    async with stranger(port, words) as visits:
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
            await connect(NatsAddress((f"nats://127.0.0.1:{port}",)), name="test", wait_s=0.5)

    assert visits


async def test_an_attempt_to_reconnect_that_was_replaced_does_nothing_more(detour: Detour) -> None:
    """Its cancellation may have been swallowed; two at once would take each other's answers."""
    client = detour.far.connection.client
    connections = detour.proxy.connections

    await client._attempt_reconnect()  # noqa: SLF001 - as the client calls it
    client._reconnection_task = asyncio.create_task(asyncio.sleep(0))  # noqa: SLF001
    await client._attempt_reconnect()  # noqa: SLF001

    assert detour.proxy.connections == connections + 1


async def test_a_follower_notices_a_connection_that_says_nothing_more(
    server: Server, cell: NatsCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PING_INTERVAL_S", 0.2)
    async with proxied(server.port) as proxy:
        through = server.address_of("dtest", port=proxy.port)
        async with joined(through, cell.cell) as far, far.journal.follow(0) as feed:
            (first,) = await append_all(cell, 1)
            seen = await take(feed, 1)
            before = proxy.connections
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(take(feed, 3))
                proxy.hold()
                sent = await append_all(cell, 3)

            assert ids([*seen, *reading.result()]) == ids([first, *sent])
            assert proxy.connections > before


async def test_a_connection_that_takes_nothing_more_is_replaced(
    server: Server, cell: NatsCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be sent over it must not keep it open."""
    monkeypatch.setattr(connection_module, "PING_INTERVAL_S", 0.2)
    async with proxied(server.port) as proxy:
        through = server.address_of("dtest", port=proxy.port)
        async with joined(through, cell.cell) as far:
            proxy.hold()
            large = [message(far, payload=b"x" * 1_000_000) for _ in range(20)]
            async with asyncio.timeout(10):
                await asyncio.gather(*(far.journal.append(each) for each in large))

    stored = await read(cell.journal, until=20)
    assert sorted(ids(stored)) == sorted(ids(large))


async def test_a_connection_that_takes_nothing_more_can_be_closed(
    server: Server, cell: NatsCell
) -> None:
    async with proxied(server.port) as proxy:
        through = server.address_of("dtest", port=proxy.port)
        async with joined(through, cell.cell) as far:
            proxy.hold()
            large = [message(far, payload=b"x" * 1_000_000) for _ in range(20)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.gather(*(far.journal.append(each) for each in large))
            began = time.monotonic()

    assert time.monotonic() - began < 3.0


async def test_a_slow_way_changes_nothing(detour: Detour) -> None:
    detour.proxy.delay(0.02)

    sent = await append_all(detour.far, 10)
    stored = await read(detour.far.journal, until=10)

    assert ids(stored) == ids(sent)


async def test_an_append_while_disconnected_waits_for_the_connection(detour: Detour) -> None:
    await detour.proxy.shut()
    await eventually(lambda: not detour.far.connection.is_connected)
    appends = [message(detour.far) for _ in range(20)]
    batch = [message(detour.far) for _ in range(20)]

    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(detour.far.journal.append(each)) for each in appends]
        writing.append(group.create_task(detour.far.journal.append_batch(batch)))
        done, _ = await asyncio.wait(writing, timeout=1.5)
        assert not done
        await detour.proxy.open()

    results = [task.result() for task in writing]
    assert all(isinstance(result, Appended) and not result.duplicate for result in results)
    stored = await read(detour.near.journal, until=40)
    assert sorted(ids(stored)) == sorted(ids([*appends, *batch]))


async def test_an_append_gives_up_after_its_time_and_not_before(detour: Detour) -> None:
    journal = JetStreamJournal(
        detour.far.connection, detour.far.stream, new_id=IdSource(), retry_s_max=1.5
    )
    await detour.proxy.shut()
    await eventually(lambda: not detour.far.connection.is_connected)
    began = time.monotonic()

    with pytest.raises(Unavailable, match="not connected") as raised:
        await journal.append(message(detour.far))

    assert 1.2 < time.monotonic() - began < 5.0
    assert raised.value.hint


async def test_a_call_that_gave_up_may_be_repeated(detour: Detour) -> None:
    journal = JetStreamJournal(
        detour.far.connection, detour.far.stream, new_id=IdSource(), retry_s_max=0.5
    )
    where = subject.epoch(detour.far.cell)
    mine = message(detour.far, where)
    detour.proxy.swallow()
    with pytest.raises(Unavailable, match="no acknowledgement"):
        await journal.append(mine, guard=Guard(where, 0))
    detour.proxy.cut()

    again = await journal.append(mine, guard=Guard(where, 0))

    assert again == Appended(1, duplicate=True)
    assert (await detour.near.journal.bounds()).messages == 1


async def test_a_frozen_server_loses_and_doubles_nothing(tmp_path: Path, cell_id: CellId) -> None:
    async with running(tmp_path) as server, joined(server.address, cell_id) as cell:
        async with cell.journal.follow(0) as feed, asyncio.TaskGroup() as group:
            reading = group.create_task(take(feed, 12))
            sent = await append_all(cell, 2)
            async with server.frozen():
                late = [message(cell) for _ in range(10)]
                writing = [group.create_task(cell.journal.append(each)) for each in late]
                await asyncio.wait(writing, timeout=1.5)  # at least one time-out each

        assert sorted(ids(reading.result())) == sorted(ids([*sent, *late]))
        assert (await cell.journal.bounds()).messages == 12


# --- crashes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "rounds"), [(signal.SIGKILL, 3), (signal.SIGTERM, 2)], ids=["killed", "stopped"]
)
async def test_nothing_is_lost_or_doubled_while_the_server_dies_and_returns(
    tmp_path: Path, cell_id: CellId, number: signal.Signals, rounds: int
) -> None:
    async with (
        running(tmp_path) as server,
        joined(server.address, cell_id) as cell,
        joined(server.address, cell_id) as reading,
    ):
        writers = Writers(cell)
        seen: list[Stored] = []
        chain: list[Stored] = []
        async with asyncio.TaskGroup() as group:
            collecting = [
                group.create_task(follow_into(seen, reading.journal)),
                group.create_task(follow_into(chain, reading.journal, client(cell, "chain"))),
            ]
            writing = group.create_task(writers.run())
            for _ in range(rounds):
                enough = len(writers.acknowledged) + 300
                await eventually(
                    lambda enough=enough: len(writers.acknowledged) > enough  # type: ignore[misc]
                )
                await server.restart(number)
            enough = len(writers.acknowledged) + 300
            await eventually(lambda: len(writers.acknowledged) > enough)
            writers.stop.set()
            await writing
            last = (await cell.journal.bounds()).last
            await eventually(lambda: bool(seen) and seen[-1].seq >= last)
            last_of_chain = await cell.journal.last(client(cell, "chain"))
            assert last_of_chain is not None
            await eventually(lambda: bool(chain) and chain[-1].seq >= last_of_chain.seq)
            for task in collecting:
                task.cancel()

        again = await read(cell.journal, until=last)

    assert writers.refused == []
    assert [each.seq for each in seen] == list(range(1, last + 1))
    assert len(set(ids(seen))) == len(seen)
    assert writers.acknowledged <= set(ids(seen))
    assert seen == again
    assert chain == [each for each in seen if each.subject == client(cell, "chain")]


async def test_a_reader_waits_for_a_server_that_is_away_for_long(
    tmp_path: Path, cell_id: CellId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "CREATE_S_MAX", 0.2)
    async with running(tmp_path) as server, joined(server.address, cell_id) as cell:
        (first,) = await append_all(cell, 1)
        async with cell.journal.follow(0) as feed, asyncio.TaskGroup() as group:
            reading = group.create_task(take(feed, 2))
            await server.kill()
            done, _ = await asyncio.wait([reading], timeout=1.0)
            assert not done
            await server.start()
            (second,) = await append_all(cell, 1)

    assert ids(reading.result()) == ids([first, second])


# --- the consumer behind a follower -------------------------------------------------------------


async def test_a_follower_survives_the_deletion_of_its_consumer(cell: NatsCell) -> None:
    sent: list[Outgoing] = []
    seen: list[Stored] = []

    async with cell.journal.follow(0) as feed:
        for _ in range(3):
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(take(feed, 2))
                await eventually(lambda: _has_consumer(cell))
                sent += await append_all(cell, 1)
                for name in await cell.consumers():
                    await cell.delete_consumer(name)
                sent += await append_all(cell, 1)
            seen += reading.result()

    assert ids(seen) == ids(sent)


async def _has_consumer(cell: NatsCell) -> bool:
    return await cell.consumers() != []


async def test_a_follower_that_leaves_takes_its_consumer_along(cell: NatsCell) -> None:
    await append_all(cell, 3)

    async with cell.journal.follow(0) as feed:
        await take(feed, 1)
        assert len(await cell.consumers()) == 1

    async def gone() -> bool:
        return await cell.consumers() == []

    await eventually(gone)


async def test_a_slow_follower_holds_a_bounded_part_of_the_journal(
    cell: NatsCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "HELD_MESSAGES_MAX", 1_000)
    for _ in range(6):
        await cell.journal.append_batch([message(cell) for _ in range(1_000)])

    sizes: list[int] = []
    async with cell.journal.follow(0) as feed:
        async for batch in feed:
            sizes.append(len(batch))
            if sum(sizes) == 6_000:
                break
            (name,) = await cell.consumers()
            await eventually(lambda name=name: _idle(cell, name))  # type: ignore[misc]

    assert max(sizes) < 1_000 + 2 * reader_module.PULL_MESSAGES


async def _idle(cell: NatsCell, name: str) -> bool:
    """Nothing more is delivered: what was asked for is used up."""
    subject = f"$JS.API.CONSUMER.INFO.{cell.stream}.{name}"
    info = (await cell.connection.ask(subject, b"", timeout_s=5)).json()
    return bool(info["num_waiting"] == 0 or info["num_pending"] == 0)


async def test_pull_requests_do_not_pile_up(
    cell: NatsCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "PULL_EXPIRES_S", 0.3)
    monkeypatch.setattr(reader_module, "HEARTBEAT_S", 0.1)
    waiting: list[int] = []

    async with cell.journal.follow(0) as feed:
        for _ in range(4):
            await cell.journal.append_batch([message(cell) for _ in range(800)])
            await take(feed, 800)
            (name,) = await cell.consumers()
            where = f"$JS.API.CONSUMER.INFO.{cell.stream}.{name}"
            before = cell.connection.client.stats["in_msgs"]
            await eventually(lambda before=before: _heard(cell, before + 7))  # type: ignore[misc]
            info = (await cell.connection.ask(where, b"", timeout_s=5)).json()
            waiting.append(info["num_waiting"])

    assert max(waiting) <= 2


def _heard(cell: NatsCell, count: int) -> bool:
    return bool(cell.connection.client.stats["in_msgs"] >= count)


async def test_a_follower_sees_each_message_once_though_doubts_arise_while_it_works(
    cell: NatsCell,
) -> None:
    """What arrived before a doubt and was not taken is not given out twice."""
    for _ in range(8):
        await cell.journal.append_batch([message(cell) for _ in range(1_000)])

    for filtered in (None, client(cell)):
        seen: list[int] = []
        doubts = 0
        async with cell.journal.follow(0, subject=filtered) as feed:
            async for batch in feed:
                seen += [each.seq for each in batch]
                if len(seen) >= 8_000:
                    break
                await cell.journal.bounds()  # more arrives before this is answered
                await cell.connection._reconnected()  # noqa: SLF001 - as the client tells it
                doubts += 1

        assert seen == list(range(1, 8_001))
        assert doubts > 0


# --- what must not happen to a journal ----------------------------------------------------------


async def _erasable(cell: NatsCell, name: str) -> JetStreamJournal:
    """A stream that allows what a journal forbids."""
    config = {"name": name, "subjects": [f"erasable.{name}.>"], "storage": "file"}
    where = f"$JS.API.STREAM.CREATE.{name}"
    answer = await cell.connection.ask(where, json.dumps(config).encode(), timeout_s=5)
    assert "error" not in answer.json()
    return JetStreamJournal(cell.connection, name, new_id=cell.new_id)


async def test_a_gap_in_the_sequence_is_an_error(cell: NatsCell) -> None:
    journal = await _erasable(cell, f"gap-{cell.cell}")
    for _ in range(6):
        await journal.append(message(cell, f"erasable.gap-{cell.cell}.a"))
    erase = f"$JS.API.STREAM.MSG.DELETE.gap-{cell.cell}"
    answer = await cell.connection.ask(erase, b'{"seq": 4}', timeout_s=5)
    assert answer.json()["success"]

    seen: list[Stored] = []
    with pytest.raises(SequenceGap, match="5 follows 3") as raised:
        await follow_into(seen, journal)

    assert [each.seq for each in seen] == [1, 2, 3]
    assert raised.value.hint
    filtered = await read(journal, until=6, subject=f"erasable.gap-{cell.cell}.*")
    assert [each.seq for each in filtered] == [1, 2, 3, 5, 6]
    assert await journal.get(4) is None


@pytest.mark.parametrize("is_filtered", [False, True])
@pytest.mark.parametrize("count", [1, 5], ids=["shorter", "longer"])
async def test_a_journal_that_starts_again_is_an_error(
    cell: NatsCell, count: int, is_filtered: bool
) -> None:
    name = f"again-{cell.cell}"
    where = f"erasable.{name}.a"
    journal = await _erasable(cell, name)
    for _ in range(3):
        await journal.append(message(cell, where))
    seen: list[Stored] = []

    async def replace() -> None:
        await eventually(lambda: len(seen) == 3)
        await cell.connection.ask(f"$JS.API.STREAM.DELETE.{name}", b"", timeout_s=5)
        await _erasable(cell, name)
        for _ in range(count):
            await journal.append(message(cell, where))

    with pytest.raises(SequenceGap, match="another stream"):
        async with asyncio.timeout(5):
            await asyncio.gather(
                follow_into(seen, journal, where if is_filtered else None), replace()
            )

    assert [each.seq for each in seen] == [1, 2, 3]


async def test_the_journal_lets_nobody_delete_or_purge(cell: NatsCell) -> None:
    await append_all(cell, 2)

    deletion = await cell.ask("STREAM.MSG.DELETE", {"seq": 1})
    purge = await cell.ask("STREAM.PURGE")

    assert "error" in deletion
    assert "error" in purge
    assert (await cell.journal.bounds()).messages == 2


# --- limits -------------------------------------------------------------------------------------


@pytest.fixture
async def narrow(tmp_path: Path, cell_id: CellId) -> AsyncIterator[NatsCell]:
    """A cell on a server that takes small messages only."""
    async with own_server(tmp_path, cell_id, "max_payload: 65536\n") as cell:
        yield cell


@pytest.mark.parametrize("size", [65_400, 65_536, 65_537, 1_000_000])
async def test_a_message_that_is_too_large_is_named_and_the_connection_goes_on(
    narrow: NatsCell, size: int
) -> None:
    """The headers count: a payload just below the limit is too large as well."""
    large = message(narrow, payload=b"x" * size)

    if size == 65_400:
        assert isinstance(await narrow.journal.append(large), Appended)
    else:
        with pytest.raises(InvalidDocument, match=r"larger than the 65536") as raised:
            await narrow.journal.append(large)
        assert client(narrow) in str(raised.value)
        assert "max_payload" in raised.value.hint
        with pytest.raises(InvalidDocument):
            await narrow.journal.append_batch([message(narrow), large, message(narrow)])

    before = (await narrow.journal.bounds()).messages
    assert isinstance(await narrow.journal.append(message(narrow)), Appended)
    assert (await narrow.journal.bounds()).messages == before + 1


async def test_a_full_journal_takes_up_again_when_it_has_room(
    server: Server, cell_id: CellId
) -> None:
    limits = replace(LIMITS, journal_bytes=20_000)
    async with joined(server.address, cell_id, limits=limits) as cell:
        with pytest.raises(JournalFull):
            await append_until_full(Bench(cell.journal, cell.cell), [])
        refused = message(cell, payload=b"x" * 1_000)
        with pytest.raises(JournalFull):
            await cell.journal.append(refused)
        config = (await cell.ask("STREAM.INFO"))["config"] | {"max_bytes": 1_000_000}
        assert "error" not in await cell.ask("STREAM.UPDATE", config)

        result = await cell.journal.append(refused)

    assert isinstance(result, Appended)
    assert not result.duplicate


# --- who may do what ----------------------------------------------------------------------------

AGENT_LINES = """
authorization {
  users: [
    { user: dtest, password: "for tests only" }
    { user: agent, password: "for tests only", permissions: {
        publish: ["dtest.CELL.agent.a1.>", "$JS.API.STREAM.INFO.>"]
        subscribe: ["_INBOX.>"] } }
    { user: deaf, password: "for tests only", permissions: { subscribe: ["nothing"] } }
  ]
}
"""


@dataclass(slots=True)
class Guarded:
    server: Server
    owner: NatsCell
    agent: JetStreamJournal
    """The journal as a user sees it who may write as agent a1 only."""


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    cell_id = CellId("Mixed-Case")
    lines = AGENT_LINES.replace("CELL", cell_id)
    async with (
        running(tmp_path, lines=lines) as server,
        joined(server.address, cell_id) as owner,
        connected(server.address_of("agent")) as connection,
    ):
        agent = JetStreamJournal(connection, owner.stream, new_id=owner.new_id)
        yield Guarded(server, owner, agent)


async def test_a_forbidden_append_names_the_subject_at_once(guarded: Guarded) -> None:
    forbidden = message(guarded.owner)
    began = time.monotonic()

    with pytest.raises(PermissionRefused) as raised:
        await guarded.agent.append(forbidden)

    assert time.monotonic() - began < 0.9  # no time-out
    assert forbidden.subject in str(raised.value)
    assert raised.value.exit_code == 4
    assert raised.value.hint


async def test_a_forbidden_member_refuses_its_whole_batch(guarded: Guarded) -> None:
    own = subject.agent(guarded.owner.cell, WorkerId("a1"), "attempt.started")
    forbidden = message(guarded.owner)
    fine = [message(guarded.owner, own) for _ in range(3)]

    for batch in ([forbidden, *fine], [fine[0], forbidden, *fine[1:]], [*fine, forbidden]):
        with pytest.raises(PermissionRefused, match=forbidden.subject):
            await guarded.agent.append_batch(batch)

    assert (await guarded.owner.journal.bounds()).messages == 0


async def test_a_forbidden_reading_names_the_stream(guarded: Guarded) -> None:
    with pytest.raises(PermissionRefused, match=guarded.owner.stream):
        async with guarded.agent.follow(0) as feed:
            await take(feed, 1)
    with pytest.raises(PermissionRefused, match=guarded.owner.stream):
        await guarded.agent.last(client(guarded.owner))
    with pytest.raises(PermissionRefused, match=guarded.owner.stream):
        await guarded.agent.get(1)


async def test_a_refusal_is_held_against_its_own_subject_only(guarded: Guarded) -> None:
    with pytest.raises(PermissionRefused):
        await guarded.agent.append(message(guarded.owner))
    own = subject.agent(guarded.owner.cell, WorkerId("a1"), "attempt.started")

    async with asyncio.TaskGroup() as group, guarded.server.frozen():
        writing = group.create_task(guarded.agent.append(message(guarded.owner, own)))
        await asyncio.wait([writing], timeout=1.3)  # one time-out at least

    assert isinstance(writing.result(), Appended)


async def test_a_user_who_may_hear_nothing_is_told_so(guarded: Guarded) -> None:
    with pytest.raises(PermissionRefused, match="_INBOX"):
        await connect(guarded.server.address_of("deaf"), name="test")


async def test_a_wrong_password_is_refused_at_once(server: Server) -> None:
    began = time.monotonic()

    with pytest.raises(PermissionRefused, match=str(server.port)) as raised:
        await connect(server.address_of("dtest", "wrong"), name="test")

    assert time.monotonic() - began < 2.0
    assert raised.value.exit_code == 4
    assert "wrong" not in str(raised.value)


async def test_no_server_is_named_with_its_address() -> None:
    port = free_port()
    address = NatsAddress((f"nats://dtest:secret@127.0.0.1:{port}",))

    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}") as raised:
        await connect(address, name="test", wait_s=0.5)

    assert "secret" not in str(raised.value)
    assert raised.value.hint


async def test_a_server_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    server = Server(tmp_path)
    async with asyncio.TaskGroup() as group:
        connecting = group.create_task(connect(server.address, name="test"))
        done, _ = await asyncio.wait([connecting], timeout=0.3)
        assert not done
        await server.start()

    connection = connecting.result()
    assert connection.is_connected
    await connection.close()
    await server.stop()


# --- messages from others -----------------------------------------------------------------------


class RawClient:
    """Says to the server what no library would say."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._answers = self._socket.makefile("rb")
        options = {"user": "dtest", "pass": PASSWORD, "verbose": False, "headers": True}
        self._answers.readline()
        self.say(b"CONNECT " + json.dumps(options).encode() + b"\r\n")

    def say(self, line: bytes) -> None:
        self._socket.sendall(line + b"PING\r\n")
        assert self._answers.readline() == b"PONG\r\n"

    def publish(self, where: bytes, headers: bytes, payload: bytes) -> None:
        sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
        self.say(b"HPUB " + where + b" " + sizes + b"\r\n" + headers + payload + b"\r\n")

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


FOREIGN = {
    "no-headers-in-the-header": (b"x", b"\r\n"),
    "half-a-header": (b"x", b"NATS/1.0"),
    "status-that-is-no-number": (b"x", b"NATS/1.0 \xff\xff\xff\r\n\r\n"),
    "heartbeat": (b"x", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"),
    "consumer-deleted": (b"x", b"NATS/1.0 409 Consumer Deleted\r\n\r\n"),
    "header-called-status": (b"x", b"NATS/1.0\r\nStatus: 409\r\n\r\n"),
    "header-that-is-no-text": (b"x", b"NATS/1.0\r\n\xff\xfe: \xff\r\nNats-Msg-Id: \xff\r\n\r\n"),
    "subject-that-is-no-text": (b"\xff\xfe", b"NATS/1.0\r\n\r\n"),
    "subject-with-a-vertical-tab": (b"a\x0bb", b"NATS/1.0\r\n\r\n"),
}


@pytest.mark.parametrize("payload", [b"", b"payload"], ids=["empty", "filled"])
@pytest.mark.parametrize(("token", "headers"), FOREIGN.values(), ids=FOREIGN.keys())
async def test_a_strange_message_stops_no_reader(
    server: Server, cell: NatsCell, token: bytes, headers: bytes, payload: bytes
) -> None:
    (before,) = await append_all(cell, 1)
    raw = RawClient(server.port)
    raw.publish(client(cell, "TOKEN").encode().replace(b"TOKEN", token), headers, payload)
    raw.close()
    (after,) = await append_all(cell, 1)

    stored = await read(cell.journal, until=3)
    found = await cell.journal.get(2)

    assert [each.seq for each in stored] == [1, 2, 3]
    assert [stored[0].id, stored[2].id] == [before.id, after.id]
    assert stored[1].payload == payload
    assert found is not None
    assert found.payload == payload


@pytest.fixture
async def modern(tmp_path: Path, cell_id: CellId) -> AsyncIterator[NatsCell]:
    """A cell on a server with the longer form of acknowledgement subjects."""
    lines = "feature_flags { js_ack_fc_v2: true }\n"
    async with own_server(tmp_path, cell_id, lines) as cell:
        yield cell


async def test_the_longer_form_of_acknowledgement_subjects_is_read(modern: NatsCell) -> None:
    sent = await append_all(modern, 700)

    replies: list[str] = []
    received = reader_module.Reader._received  # noqa: SLF001 - to know that the flag was on

    async def noted(self: reader_module.Reader, msg: Any) -> None:
        replies.append(msg.reply)
        await received(self, msg)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module.Reader, "_received", noted)
        stored = await read(modern.journal, until=700)

    assert {len(reply.split(".")) for reply in replies if reply} == {11}
    assert ids(stored) == ids(sent)


# --- asking -------------------------------------------------------------------------------------


async def test_asking_nobody_is_answered_at_once(cell: NatsCell) -> None:
    began = time.monotonic()

    answer = await cell.connection.ask("nobody.here", b"", timeout_s=5)
    status = await cell.connection.ping("nobody.here", b"", timeout_s=5)

    assert (answer.status, status) == (503, 503)
    assert time.monotonic() - began < 0.5


async def test_a_ping_is_answered_by_who_serves(server: Server, cell: NatsCell) -> None:
    async with connected(server.address) as other:
        await other.serve("ping.here", lambda payload: payload.upper())
        await other.listen("ping.silent", lambda _, __: None)
        await other.ask("nobody.here", b"", timeout_s=5)  # the server knows both by now

        assert await cell.connection.ping("ping.here", b"", timeout_s=5) == 0
        assert (await cell.connection.ask("ping.here", b"ab", timeout_s=5)).payload == b"AB"
        with pytest.raises(TimeoutError):
            await cell.connection.ping("ping.silent", b"", timeout_s=0.2)


async def test_a_question_over_a_lost_connection_ends_at_once(detour: Detour) -> None:
    await detour.near.connection.listen("silent", lambda _, __: None)
    await detour.near.connection.ask("nobody.here", b"", timeout_s=5)
    began = time.monotonic()

    async def cut() -> None:
        await eventually(lambda: bool(detour.far.connection._waiting))  # noqa: SLF001 - it asks
        detour.proxy.cut()

    with pytest.raises(TimeoutError, match="lost"):
        await asyncio.gather(detour.far.connection.ask("silent", b"", timeout_s=9), cut())

    assert time.monotonic() - began < 3.0


async def test_a_question_while_disconnected_is_asked_when_the_connection_is_back(
    detour: Detour,
) -> None:
    await detour.proxy.shut()
    await eventually(lambda: not detour.far.connection.is_connected)

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(detour.far.connection.ask("nobody.here", b"", timeout_s=9))
        await detour.proxy.open()

    assert asking.result().status == 503


# --- output and artefacts -----------------------------------------------------------------------

TASK = TaskId("task-1")


async def _output(output: OutputStore, attempt: int = 1) -> list[tuple[int, bytes]]:
    async with asyncio.timeout(10):
        return [chunk async for chunk in output.chunks(TASK, attempt)]


def output_of(cell: NatsCell) -> OutputStore:
    return OutputStore(output_stream(cell.connection, cell.cell, cell.new_id), cell.cell)


async def test_output_is_given_back_byte_by_byte(cell: NatsCell) -> None:
    output = output_of(cell)
    content = random.Random(1).randbytes(600_000) + b"\xff\x00\r\n" * 10
    cuts = range(0, len(content), 256 << 10)
    for start in cuts:
        await output.put(TASK, 1, start, content[start : start + (256 << 10)])
    await output.put(TASK, 2, 0, b"another attempt")

    chunks = await _output(output)

    assert [offset for offset, _ in chunks] == list(cuts)
    assert b"".join(chunk for _, chunk in chunks) == content
    assert await _output(output, 2) == [(0, b"another attempt")]
    assert await _output(output, 3) == []


async def test_a_chunk_of_output_that_is_put_again_is_kept_once(cell: NatsCell) -> None:
    output = output_of(cell)
    for offset, chunk in ((0, b"one"), (0, b"one"), (3, b"two"), (0, b"one")):
        await output.put(TASK, 1, offset, chunk)

    assert await _output(output) == [(0, b"one"), (3, b"two")]


async def test_a_chunk_that_was_stored_twice_is_given_out_once(cell: NatsCell) -> None:
    """The server forgets ids after some minutes; an outage may be longer."""
    output = output_of(cell)
    stream = output_stream(cell.connection, cell.cell, cell.new_id)
    where = subject.output(cell.cell, TASK, 1)
    await output.put(TASK, 1, 0, b"one")
    await output.put(TASK, 1, 3, b"two")
    for index, (name, chunk) in enumerate(((f"{TASK}.1.0", b"one"), ("no offset", b"?"))):
        await stream.append(Outgoing(where, chunk, f"copy-{index}.{name}"))
    await output.put(TASK, 1, 6, b"six")

    assert await _output(output) == [(0, b"one"), (3, b"two"), (6, b"six")]


async def test_output_is_followed_while_it_comes(cell: NatsCell) -> None:
    output = output_of(cell)
    place = OutputPlace()
    found: list[bytes] = []

    async def two() -> None:
        nonlocal place
        while len(found) < 2:
            await output.arrival(TASK, 1, place)
            piece = await output.after(TASK, 1, place)
            place = piece.next
            found.append(piece.data)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        reading = group.create_task(two())
        await output.put(TASK, 1, 0, b"one")
        async with asyncio.timeout(5):
            while not found:  # noqa: ASYNC110 - until the first was read
                await asyncio.sleep(0)
        await output.put(TASK, 1, 3, b"two")
        await reading

    assert found == [b"one", b"two"]


async def test_output_that_is_read_piece_by_piece_is_whole(cell: NatsCell) -> None:
    output = output_of(cell)
    stream = output_stream(cell.connection, cell.cell, cell.new_id)
    chunks = [bytes([number]) * (300 << 10) for number in range(8)]
    for number, chunk in enumerate(chunks):
        await output.put(TASK, 1, number * len(chunk), chunk)
        if number % 3 == 0:  # an earlier one comes again under an id that the server has forgotten
            again = Outgoing(subject.output(cell.cell, TASK, 1), chunks[0], f"x{number}.{TASK}.1.0")
            await stream.append(again)

    place, pieces = OutputPlace(), []
    while True:
        found = await output.after(TASK, 1, place)
        place = found.next
        pieces.append(found.data)
        if found.is_last:
            break

    assert b"".join(pieces) == b"".join(chunks)
    assert len(pieces) > 1
    assert (await output.after(TASK, 1, place)).data == b""
    assert await output.after(TASK, 2, OutputPlace()) == OutputFound(
        b"", OutputPlace(), is_last=True
    )


async def test_output_does_not_wait_for_a_stream_that_is_not_there(cell: NatsCell) -> None:
    """What comes after the output, the result, would wait as well."""
    stream = output_stream(cell.connection, cell.cell, cell.new_id)
    stream._retry_s_max = 0.2  # noqa: SLF001
    reply = await ask_api(cell.connection, f"STREAM.DELETE.{output_name(cell.cell)}", {})
    assert reply["success"]

    with pytest.raises(Unavailable):
        await OutputStore(stream, cell.cell).put(TASK, 1, 0, b"lost")


async def test_output_is_put_when_the_server_is_back(detour: Detour) -> None:
    far = output_stream(detour.far.connection, detour.far.cell, detour.far.new_id)
    far._retry_s_max = 0.2  # noqa: SLF001 - so that the store itself has to repeat
    output = OutputStore(far, detour.far.cell)
    await detour.proxy.shut()

    async with asyncio.TaskGroup() as group:
        putting = group.create_task(output.put(TASK, 1, 0, b"kept"))
        done, _ = await asyncio.wait([putting], timeout=1.0)
        assert not done
        await detour.proxy.open()

    assert await _output(output_of(detour.near)) == [(0, b"kept")]


LARGE = random.Random(2).randbytes(3 * 1024 * 1024 + 17)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(LARGE)
    return path


async def _get(store: ObjectStore, name: str) -> bytes:
    async with asyncio.timeout(10):
        return await store.get(name)


async def test_an_artefact_of_megabytes_is_given_back_byte_by_byte(
    cell: NatsCell, large: Path
) -> None:
    store = artifact_store(cell.connection, cell.cell)

    await store.put("task/1/large.bin", large)

    assert await _get(store, "task/1/large.bin") == LARGE


@pytest.mark.parametrize("content", [b"", b"x"], ids=["empty", "one byte"])
async def test_a_small_artefact_is_an_artefact(
    cell: NatsCell, tmp_path: Path, content: bytes
) -> None:
    store = artifact_store(cell.connection, cell.cell)
    path = tmp_path / "small"
    path.write_bytes(content)

    await store.put("ünïcode name/*.>", path)

    assert await _get(store, "ünïcode name/*.>") == content


async def test_an_artefact_put_again_replaces_the_first(
    cell: NatsCell, tmp_path: Path, large: Path
) -> None:
    store = artifact_store(cell.connection, cell.cell)
    path = tmp_path / "second"
    path.write_bytes(b"second")
    await store.put("name", large)

    await store.put("name", path)

    assert await _get(store, "name") == b"second"


async def test_an_artefact_that_nobody_put_is_not_found(cell: NatsCell) -> None:
    store = artifact_store(cell.connection, cell.cell)

    with pytest.raises(NotFound, match="never"):
        await _get(store, "never")


async def test_artefacts_lie_in_the_form_of_the_object_store(
    cell: NatsCell, tmp_path: Path, large: Path
) -> None:
    """Other clients read what we wrote, and we what they wrote."""
    store = artifact_store(cell.connection, cell.cell)
    await store.put("ours", large)
    theirs = await cell.connection.client.jetstream().object_store(artifact_bucket(cell.cell))

    await theirs.put("theirs", LARGE[:300_000])

    async with asyncio.timeout(10):
        assert (await theirs.get("ours")).data == LARGE
    assert await _get(store, "theirs") == LARGE[:300_000]
    await theirs.delete("ours")
    with pytest.raises(NotFound):
        await _get(store, "ours")


async def test_an_artefact_that_was_replaced_leaves_no_chunks(
    cell: NatsCell, tmp_path: Path, large: Path
) -> None:
    store = artifact_store(cell.connection, cell.cell)
    path = tmp_path / "second"
    path.write_bytes(b"second")
    await store.put("name", large)
    await store.put("name", path)

    where = f"$JS.API.STREAM.INFO.OBJ_{artifact_bucket(cell.cell)}"
    state = (await cell.connection.ask(where, b"", timeout_s=5)).json()["state"]

    assert state["messages"] == 3  # one chunk; what the first and the second were


async def test_an_artefact_that_finds_no_room_is_named(
    server: Server, cell_id: CellId, large: Path
) -> None:
    limits = replace(LIMITS, artifact_bytes=1 << 20)
    async with joined(server.address, cell_id, limits=limits) as cell:
        store = artifact_store(cell.connection, cell.cell)

        with pytest.raises(Unavailable, match="too-large") as raised:
            await store.put("too-large", large)

        assert raised.value.hint
        with pytest.raises(NotFound):
            await _get(store, "too-large")
        where = f"$JS.API.STREAM.INFO.OBJ_{artifact_bucket(cell.cell)}"
        state = (await cell.connection.ask(where, b"", timeout_s=5)).json()["state"]
        assert state["messages"] == 0


async def test_an_artefact_is_put_and_got_with_the_longer_acknowledgements(
    modern: NatsCell, large: Path
) -> None:
    store = artifact_store(modern.connection, modern.cell)

    await store.put("name", large)

    assert await _get(store, "name") == LARGE


async def test_an_artefact_is_put_though_the_connection_is_cut(detour: Detour, large: Path) -> None:
    store = artifact_store(detour.far.connection, detour.far.cell)
    near = artifact_store(detour.near.connection, detour.near.cell)
    await near.put("other", large)
    detour.proxy.delay(0.01)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        putting = group.create_task(store.put("name", large))
        for _ in range(2):
            sent = detour.far.connection.client.stats["out_bytes"]
            await eventually(
                lambda sent=sent: (  # type: ignore[misc]
                    detour.far.connection.client.stats["out_bytes"] > sent + 1_000_000
                )
            )
            await detour.proxy.shut()
            await detour.proxy.open()
        assert not putting.done()

    assert await _get(near, "name") == LARGE


async def test_an_artefact_is_got_though_the_connection_is_cut(detour: Detour, large: Path) -> None:
    store = artifact_store(detour.far.connection, detour.far.cell)
    await store.put("name", large)
    detour.proxy.delay(0.01)
    heard = detour.far.connection.client.stats["in_bytes"]

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        getting = group.create_task(store.get("name"))
        await eventually(lambda: detour.far.connection.client.stats["in_bytes"] > heard + 1_000_000)
        detour.proxy.cut()

    assert getting.result() == LARGE


# --- ports --------------------------------------------------------------------------------------


def test_the_adapter_is_a_journal() -> None:
    """For the type checker."""
    adapter: type[Journal] = JetStreamJournal

    assert adapter is not None
