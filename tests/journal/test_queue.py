"""Queues of units: what one holds nobody else gets, what nobody holds is not lost."""

import pytest

from dtest.errors import NotFound
from dtest.events.fields import CellId
from dtest.journal import queue as module
from dtest.journal.api import ask_api
from dtest.journal.queue import QueueState, UnitQueue
from dtest.journal.streams import queue_name
from tests.kit.nats import NatsCell, Server, eventually, joined


async def opened(cell: NatsCell, name: str = "q1") -> UnitQueue:
    queue = UnitQueue(cell.connection, cell.cell, name)
    await queue.open()
    return queue


async def drained(queue: UnitQueue) -> list[bytes]:
    """Take all that there is."""
    found = []
    while (pulled := await queue.pull(0.2)) is not None:
        found.append(pulled.body)
        await queue.done(pulled.handle)
    return found


async def test_units_come_in_order_each_to_one_session(server: Server, cell_id: CellId) -> None:
    async with joined(server.address, cell_id) as cell:
        queue, other = await opened(cell), await opened(cell)
        await queue.put((f"u{n}", b"%d" % n) for n in range(10))

        first, second = await queue.pull(1.0), await other.pull(1.0)
        assert first is not None
        assert second is not None
        assert {first.body, second.body} == {b"0", b"1"}
        assert sorted(await drained(queue)) == [b"%d" % n for n in range(2, 10)]
        assert (await queue.state()).held == 2
        await queue.done(first.handle)
        await other.give_back(second.handle)
        again = await queue.pull(5.0)  # it still waits for one
        assert again is not None
        assert (again.body, again.deliveries) == (second.body, 2)


async def test_the_same_unit_is_put_in_once(server: Server, cell_id: CellId) -> None:
    async with joined(server.address, cell_id) as cell:
        queue = await opened(cell)
        for _ in range(2):
            await queue.put([("u", b"x")])

        assert await drained(queue) == [b"x"]
        await queue.put([("u", b"x")])  # also when it was done
        assert await drained(queue) == []


async def test_a_queue_is_empty_when_it_is_closed_and_nothing_is_held(
    server: Server, cell_id: CellId
) -> None:
    async with joined(server.address, cell_id) as cell:
        queue = await opened(cell)
        assert await queue.state() == QueueState(0, 0, 0, closed=False)
        await queue.put([("u", b"x")])
        await queue.close()
        assert await queue.state() == QueueState(1, 0, 0, closed=True)
        pulled = await queue.pull(1.0)
        assert pulled is not None
        assert not (await queue.state()).is_empty
        await queue.done(pulled.handle)

        async def empty() -> bool:
            return (await (await opened(cell)).state()).is_empty

        await eventually(empty)


async def test_queues_do_not_mix(server: Server, cell_id: CellId) -> None:
    async with joined(server.address, cell_id) as cell:
        one, two = await opened(cell, "one"), await opened(cell, "two")
        await one.put([("u", b"of one")])
        await two.put([("u", b"of two")])

        assert (await drained(one), await drained(two)) == ([b"of one"], [b"of two"])


async def test_there_is_no_queue_that_nobody_made(server: Server, cell_id: CellId) -> None:
    async with joined(server.address, cell_id) as cell:
        with pytest.raises(NotFound, match="no queue nowhere"):
            await UnitQueue(cell.connection, cell.cell, "nowhere").state()


async def test_what_nobody_beats_for_goes_to_somebody_else(
    server: Server, cell_id: CellId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_S_MAX", 0.5)
    async with joined(server.address, cell_id) as cell:
        queue, other = await opened(cell), await opened(cell)
        await queue.put([("beaten", b"beaten"), ("silent", b"silent")])
        beaten, silent = await queue.pull(1.0), await queue.pull(1.0)
        assert beaten is not None
        assert silent is not None
        found = None
        for _ in range(100):
            await queue.beat([beaten.handle])
            found = await other.pull(0.1)
            if found is not None:
                break
        assert found is not None
        assert found.body == silent.body


async def test_who_leaves_keeps_nothing(server: Server, cell_id: CellId) -> None:
    async with joined(server.address, cell_id) as cell:
        queue, other = await opened(cell), await opened(cell)
        assert await queue.pull(0.01) is None  # it has asked, and somebody will answer
        await queue.put([("u", b"x")])

        async def handed_out() -> bool:
            return (await other.state()).held == 1

        await eventually(handed_out)
        await queue.leave()

        pulled = await other.pull(5.0)
        assert pulled is not None
        assert pulled.body == b"x"


async def test_hunger_is_heard_by_the_others_of_that_queue(server: Server, cell_id: CellId) -> None:
    async with joined(server.address, cell_id) as cell:
        queue, other = await opened(cell, "one"), await opened(cell, "two")
        heard: list[str] = []
        stop = await queue.on_hungry(heard.append)
        await other.say_hungry("t2.1")
        await queue.say_hungry("t.1")
        await eventually(lambda: heard == ["t.1"])
        await stop()


async def test_a_restarted_server_has_what_was_put_in(server: Server, cell_id: CellId) -> None:
    async with joined(server.address, cell_id) as cell:
        queue = await opened(cell)
        await queue.put([("u1", b"1"), ("u2", b"2")])
        pulled = await queue.pull(1.0)
        assert pulled is not None
        await server.restart()
        await queue.beat([pulled.handle])
        await queue.done(pulled.handle)

        found: list[bytes] = []

        async def others() -> bool:
            found.extend(await drained(queue))
            return b"2" in found

        await eventually(others)
        assert found in ([b"2"], [b"1", b"2"])  # what was said while it was away may be lost
        info = await ask_api(cell.connection, f"STREAM.INFO.{queue_name(cell_id)}", {})
        assert info["config"]["retention"] == "workqueue"
