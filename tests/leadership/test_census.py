"""How many stand by: asked of a real server, where nobody answers for somebody else."""

import asyncio
from pathlib import Path

from dtest.events import subject
from dtest.events.fields import CellId
from dtest.leadership.census import Census
from tests.kit.nats import connected, eventually, running

CELL = CellId("main")


async def test_all_who_stand_by_are_counted_and_the_unknown_is_none(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as server,
        connected(server.address) as asking,
        connected(server.address) as one,
        connected(server.address) as other,
    ):
        census = Census(asking, cell=CELL)
        assert census.standbys is None

        async def counts(wanted: int | None) -> bool:
            await census.count()
            return census.standbys == wanted

        assert await counts(0)
        stop = [
            await line.serve(subject.standby(CELL), lambda _: b"ready")
            for line in (one, other, other)
        ]
        await one.client.flush()
        await other.client.flush()
        assert await counts(3)

        await stop[0]()
        await one.client.flush()
        assert await counts(2)

        await server.kill()
        await eventually(lambda: not asking.is_connected)
        assert await counts(None)
        await server.start()
        await eventually(lambda: counts(2))


async def test_it_is_counted_again_and_again() -> None:
    asked = asyncio.Event()

    class Nobody:
        async def survey(self, where: str, *, wait_s: float) -> list[bytes]:
            assert where == subject.standby(CELL)
            asked.set()
            return []

    census = Census(Nobody(), cell=CELL)
    counting = asyncio.ensure_future(census.run())
    await asked.wait()
    await eventually(lambda: census.standbys == 0)
    asked.clear()
    await asked.wait()
    counting.cancel()
