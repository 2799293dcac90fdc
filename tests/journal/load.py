"""A journal under load, and what must be true of it whatever happened to its servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from dtest.events.fields import CellId
from dtest.journal.connection import NatsAddress
from dtest.journal.port import Stored
from tests.journal.conformance import ids, read
from tests.journal.writers import Writers, client, follow_into
from tests.kit.nats import LIMITS, NatsCell, eventually, joined

RESUMED_S_MAX = 60.0
"""An election takes 4 to 8 s by the servers' own constants; several may follow one another."""
PATIENCE_S = 90.0


@dataclass(slots=True)
class Load:
    """Writers and followers that never pause."""

    cell: NatsCell
    writers: Writers
    seen: list[Stored] = field(default_factory=list)
    chain: list[Stored] = field(default_factory=list)

    @property
    def where(self) -> str:
        """The subject of the chain, which has a follower of its own."""
        return client(self.cell, "chain")

    async def goes_on(self) -> None:
        """Wait until more is acknowledged, and read by the follower."""
        enough = len(self.writers.acknowledged) + 50
        await eventually(
            lambda: len(self.writers.acknowledged) > enough,
            within_s=RESUMED_S_MAX,
            what="appends are acknowledged again",
        )
        reached = (await self.cell.journal.bounds()).last
        await eventually(
            lambda: bool(self.seen) and self.seen[-1].seq >= reached,
            within_s=RESUMED_S_MAX,
            what="the follower reads again",
        )

    async def read_to_the_end(self) -> None:
        """Wait until both followers have read the last message."""
        last = (await self.cell.journal.bounds()).last
        last_of_chain = await self.cell.journal.last(self.where)
        assert last_of_chain is not None
        await eventually(
            lambda: self.seen[-1].seq >= last and self.chain[-1].seq >= last_of_chain.seq,
            within_s=RESUMED_S_MAX,
            what="everything is read",
        )


@asynccontextmanager
async def loaded(
    address: NatsAddress, cell_id: CellId, *, replicas: int = 3
) -> AsyncIterator[Load]:
    """Write and follow without pause; at the end check what is stored against what was said."""
    limits = replace(LIMITS, replicas=replicas)
    async with (
        joined(address, cell_id, limits=limits, retry_s_max=PATIENCE_S) as cell,
        joined(address, cell_id, limits=limits, retry_s_max=PATIENCE_S) as reading,
    ):
        load = Load(cell, Writers(cell))
        async with asyncio.TaskGroup() as group:
            collecting = [
                group.create_task(follow_into(load.seen, reading.journal)),
                group.create_task(follow_into(load.chain, reading.journal, load.where)),
            ]
            writing = group.create_task(load.writers.run())
            await load.goes_on()
            yield load
            await load.goes_on()
            load.writers.stop.set()
            await writing
            await load.read_to_the_end()
            for task in collecting:
                task.cancel()
        last = (await cell.journal.bounds()).last
        again = await read(cell.journal, until=last)

    assert load.writers.refused == []
    assert [each.seq for each in load.seen] == list(range(1, last + 1))
    assert len(set(ids(load.seen))) == len(load.seen)
    assert load.writers.acknowledged <= set(ids(load.seen))
    assert load.seen == again
    assert load.chain == [each for each in load.seen if each.subject == load.where]
