"""A second region: the journal is copied there, and leads on when the first region is lost."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dtest.errors import Conflict, NotFound
from dtest.events.fields import CellId
from dtest.journal.connection import Connection
from dtest.journal.migration import Wanted, compare
from dtest.journal.mirror import create_mirror, get_mirror, promote
from dtest.journal.streams import stream_names
from tests.journal.conformance import Bench, ids, read
from tests.journal.load import RESUMED_S_MAX
from tests.kit.nats import (
    LIMITS,
    NatsCell,
    connected,
    eventually,
    joined,
)
from tests.kit.regions import Regions, joined_regions
from tests.kit.stack import CELL, simulated, stack_up

WORKERS = {"workers": 0, "simulate": "cpu:1", "simulate_seconds": 0.01}


@pytest.fixture
async def regions(tmp_path: Path) -> AsyncIterator[Regions]:
    async with joined_regions(tmp_path) as both:
        yield both


async def mirrored(connection: Connection, cell: NatsCell) -> None:
    """Make the copy and wait until it holds everything."""
    await create_mirror(connection, cell.cell, LIMITS, "first")
    last = (await cell.journal.bounds()).last

    async def is_there() -> bool:
        return (await get_mirror(connection, cell.cell)).last_seq >= last

    await eventually(is_there, within_s=RESUMED_S_MAX, what="the copy holds everything")


async def test_a_copy_holds_what_the_journal_holds_under_the_same_numbers(
    regions: Regions, cell_id: CellId
) -> None:
    async with (
        joined(regions.first.address, cell_id) as cell,
        connected(regions.second.address) as there,
    ):
        bench = Bench(cell.journal, cell_id)
        sent = bench.messages(30)
        await bench.append_all(sent)
        await mirrored(there, cell)
        more = bench.messages(5)
        await bench.append_all(more)
        await mirrored(there, cell)

        await regions.first.kill()
        assert await promote(there, cell_id) == 35

    async with joined(regions.second.address, cell_id) as second:
        stored = await read(second.journal, until=35)
        assert ids(stored) == ids([*sent, *more])
        bench = Bench(second.journal, cell_id)
        assert await bench.append_all(bench.messages(2)) == [36, 37]
        states = [one.state for one in await compare(second.connection, cell_id, Wanted())]
        assert states == ["right"] * len(stream_names(cell_id))


async def test_a_copy_is_not_promoted_while_its_origin_answers(
    regions: Regions, cell_id: CellId
) -> None:
    async with (
        joined(regions.first.address, cell_id) as cell,
        connected(regions.second.address) as there,
    ):
        await cell.journal.append(Bench(cell.journal, cell_id).message())
        await mirrored(there, cell)

        with pytest.raises(Conflict, match="the origin of") as raised:
            await promote(there, cell_id)

        assert "two journals" in raised.value.hint
        assert (await get_mirror(there, cell_id)).api == "$JS.first.API"


async def test_a_copy_that_never_heard_its_origin_is_not_promoted(
    regions: Regions, cell_id: CellId
) -> None:
    await regions.first.kill()
    async with connected(regions.second.address) as there:
        await create_mirror(there, cell_id, LIMITS, "first")

        with pytest.raises(Conflict, match="holds nothing"):
            await promote(there, cell_id)


async def test_events_stay_in_the_region_in_which_they_are_written(
    regions: Regions, cell_id: CellId
) -> None:
    async with (
        joined(regions.first.address, cell_id) as cell,
        joined(regions.second.address, cell_id) as other,
    ):

        async def sees_the_first() -> bool:
            return (
                await other.connection.ask("$JS.first.API.INFO", b"", timeout_s=1.0)
            ).status == 0

        await eventually(sees_the_first, within_s=RESUMED_S_MAX, what="the regions are joined")
        bench = Bench(other.journal, cell_id)
        await bench.append_all(bench.messages(3))

        assert (await cell.journal.bounds()).messages == 0
        with pytest.raises(Conflict, match="a journal of its own"):
            await create_mirror(other.connection, cell_id, LIMITS, "first")
        with pytest.raises(NotFound):
            await promote(other.connection, cell_id)


async def test_a_copy_has_one_origin(regions: Regions, cell_id: CellId) -> None:
    async with (
        joined(regions.first.address, cell_id) as cell,
        connected(regions.second.address) as there,
    ):
        await mirrored(there, cell)
        await mirrored(there, cell)

        with pytest.raises(Conflict, match="from third"):
            await create_mirror(there, cell_id, LIMITS, "third")


async def test_a_cell_is_led_on_in_the_second_region(regions: Regions) -> None:
    async with stack_up(nats=regions.first.address, **WORKERS) as origin:
        with origin.api() as api:
            api.submit(simulated(task_id="before"))
            api.finished("before")
        async with (
            joined(regions.first.address, CELL) as cell,
            connected(regions.second.address) as there,
        ):
            await mirrored(there, cell)
    async with connected(regions.second.address) as there:
        await regions.first.kill()
        await promote(there, CELL)

    async with stack_up(nats=regions.second.address, **WORKERS) as second:
        with second.api() as api:
            last = api.get("/api/status")["journal"]["last_seq"]
            assert api.get("/api/tasks/before", after=last)["status"] == "passed"
            after = api.get("/api/status")["journal"]["last_seq"]
            api.submit(simulated(task_id="after"))
            assert api.finished("after", after=after)["status"] == "passed"
