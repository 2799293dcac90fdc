"""The journal on a cluster of three: the same rules, and what the death of servers leaves."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dtest.events.fields import CellId
from dtest.journal import reader as reader_module
from dtest.journal.port import Appended, Guard, GuardRefused, Stored
from tests.journal.conformance import RULES, SMALL_RULES, Bench, Rule, ids, read, take
from tests.journal.test_conformance import SMALL_BYTES, name
from tests.journal.writers import Writers, client, follow_into, message
from tests.kit.cluster import LIMITS_OF_THREE, Cluster, running_cluster
from tests.kit.nats import NatsCell, eventually, joined

RESUMED_S_MAX = 60.0
"""An election takes 4 to 8 s by the servers' own constants; several may follow one another."""
PATIENCE_S = 90.0
CONTENDERS = 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is read that a leader never held."""
    monkeypatch.setattr(reader_module, "BEHIND_S_MAX", 0.5)


@pytest.mark.parametrize("rule", RULES, ids=name)
async def test_the_journal_keeps_the_rule(rule: Rule, cluster: Cluster, cell_id: CellId) -> None:
    async with joined(cluster.address, cell_id, limits=LIMITS_OF_THREE) as cell:
        await rule(Bench(cell.journal, cell_id))


@pytest.mark.parametrize("rule", SMALL_RULES, ids=name)
async def test_the_small_journal_keeps_the_rule(
    rule: Rule, cluster: Cluster, cell_id: CellId
) -> None:
    limits = replace(LIMITS_OF_THREE, journal_bytes=SMALL_BYTES)
    async with joined(cluster.address, cell_id, limits=limits) as cell:
        await rule(Bench(cell.journal, cell_id))


async def test_of_many_at_once_under_one_guard_one_is_stored(
    cluster: Cluster, cell_id: CellId
) -> None:
    """The server takes one of them at a time; what it says meanwhile is no refusal."""
    async with joined(cluster.address, cell_id, limits=LIMITS_OF_THREE) as cell:
        where = client(cell, "contended")
        last = 0
        for stored in range(1, 6):
            guard = Guard(where, last)
            results = await asyncio.gather(
                *(cell.journal.append(message(cell, where), guard=guard) for _ in range(CONTENDERS))
            )

            won = [result for result in results if isinstance(result, Appended)]
            assert len(won) == 1
            assert sum(isinstance(result, GuardRefused) for result in results) == CONTENDERS - 1
            assert (await cell.journal.bounds()).messages == stored
            last = won[0].seq


# --- servers die --------------------------------------------------------------------------------


@dataclass(slots=True)
class Drill:
    """A cluster under writers and readers; faults happen to it."""

    cluster: Cluster
    cell: NatsCell
    writers: Writers
    seen: list[Stored] = field(default_factory=list)

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

    async def goes_on_to_the_end(self, chain: list[Stored], where: str) -> None:
        """Wait until both followers have read the last message."""
        last = (await self.cell.journal.bounds()).last
        last_of_chain = await self.cell.journal.last(where)
        assert last_of_chain is not None
        await eventually(
            lambda: self.seen[-1].seq >= last and chain[-1].seq >= last_of_chain.seq,
            within_s=RESUMED_S_MAX,
            what="everything is read",
        )


@asynccontextmanager
async def drill(directory: Path, cell_id: CellId) -> AsyncIterator[Drill]:
    """Write and follow without pause; at the end check what is stored against what was said."""
    async with running_cluster(directory) as cluster:
        options = {"limits": LIMITS_OF_THREE, "retry_s_max": PATIENCE_S}
        async with (
            joined(cluster.address, cell_id, **options) as cell,  # type: ignore[arg-type]
            joined(cluster.address, cell_id, **options) as reading,  # type: ignore[arg-type]
        ):
            await cluster.whole(cell)
            running = Drill(cluster, cell, Writers(cell))
            chain: list[Stored] = []
            where = client(cell, "chain")
            async with asyncio.TaskGroup() as group:
                collecting = [
                    group.create_task(follow_into(running.seen, reading.journal)),
                    group.create_task(follow_into(chain, reading.journal, where)),
                ]
                writing = group.create_task(running.writers.run())
                await running.goes_on()
                yield running
                await running.goes_on()
                running.writers.stop.set()
                await writing
                await running.goes_on_to_the_end(chain, where)
                for task in collecting:
                    task.cancel()
            last = (await cell.journal.bounds()).last
            again = await read(cell.journal, until=last)

    seen = running.seen
    assert running.writers.refused == []
    assert [each.seq for each in seen] == list(range(1, last + 1))
    assert len(set(ids(seen))) == len(seen)
    assert running.writers.acknowledged <= set(ids(seen))
    assert seen == again
    assert chain == [each for each in seen if each.subject == where]


async def kill_the_leader(drill: Drill) -> None:
    leader = await drill.cluster.leader(drill.cell)
    await drill.cluster.stop(leader)
    await drill.goes_on()
    await drill.cluster.start(leader)
    await drill.cluster.whole(drill.cell)


async def stop_the_leader(drill: Drill) -> None:
    leader = await drill.cluster.leader(drill.cell)
    await drill.cluster.stop(leader, number=signal.SIGTERM)
    await drill.goes_on()
    await drill.cluster.start(leader)
    await drill.cluster.whole(drill.cell)


async def freeze_the_leader(drill: Drill) -> None:
    leader = await drill.cluster.leader(drill.cell)
    async with drill.cluster.frozen(leader):
        await drill.goes_on()
    await drill.cluster.whole(drill.cell)


async def kill_all(drill: Drill) -> None:
    await drill.cluster.stop()
    await drill.cluster.start()
    await drill.goes_on()


Fault = Callable[[Drill], Awaitable[None]]


@pytest.mark.parametrize(
    ("fault", "rounds"),
    [
        pytest.param(kill_the_leader, 1, id="leader-killed"),
        pytest.param(kill_the_leader, 6, id="leader-killed-often", marks=pytest.mark.slow),
        pytest.param(stop_the_leader, 2, id="leader-stopped", marks=pytest.mark.slow),
        pytest.param(freeze_the_leader, 2, id="leader-frozen", marks=pytest.mark.slow),
        pytest.param(kill_all, 3, id="all-killed", marks=pytest.mark.slow),
    ],
)
async def test_nothing_is_lost_or_doubled_while_servers_die(
    fault: Fault, rounds: int, tmp_path: Path, cell_id: CellId
) -> None:
    async with drill(tmp_path, cell_id) as under_load:
        for _ in range(rounds):
            await fault(under_load)


async def test_a_follower_outlasts_the_server_that_its_consumer_lives_on(
    tmp_path: Path, cell_id: CellId
) -> None:
    async with (
        running_cluster(tmp_path) as cluster,
        joined(cluster.address, cell_id, limits=LIMITS_OF_THREE) as cell,
        cell.journal.follow(0) as feed,
        asyncio.TaskGroup() as group,
    ):
        reading = group.create_task(take(feed, 2, within_s=RESUMED_S_MAX))
        first = message(cell)
        await cell.journal.append(first)
        where: list[str] = []

        async def lives_somewhere() -> bool:
            for consumer in await cell.consumers():
                info = await cell.connection.ask(
                    f"$JS.API.CONSUMER.INFO.{cell.stream}.{consumer}", b"", timeout_s=2.0
                )
                where[:] = [str(info.json()["cluster"]["leader"])]
            return bool(where)

        await eventually(lives_somewhere, what="the consumer is known")
        await cluster.stop(where[0])
        second = message(cell)
        await cell.journal.append(second)

    assert ids(reading.result()) == ids([first, second])
