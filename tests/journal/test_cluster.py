"""The journal on a cluster of three: the same rules, and what the death of servers leaves."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dtest.events.fields import CellId
from dtest.journal import connection as connection_module
from dtest.journal import jetstream as jetstream_module
from dtest.journal import reader as reader_module
from dtest.journal.port import Appended, Guard, GuardRefused
from tests.journal.conformance import RULES, SMALL_RULES, Bench, Rule, ids, take
from tests.journal.load import RESUMED_S_MAX, Load, loaded
from tests.journal.test_conformance import SMALL_BYTES, name
from tests.journal.writers import client, message
from tests.kit.cluster import LIMITS_OF_THREE, Cluster, running_cluster
from tests.kit.nats import eventually, joined

CONTENDERS = 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is read that a leader never held."""
    monkeypatch.setattr(reader_module, "BEHIND_S_MAX", 0.5)
    monkeypatch.setattr(jetstream_module, "DEPOSED_S_MAX", 0.5)


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
    """A cluster under load; faults happen to it."""

    cluster: Cluster
    load: Load

    async def leader(self) -> str:
        """The server that leads the journal."""
        return await self.cluster.leader(self.load.cell)

    async def whole(self) -> None:
        """Wait until every server holds everything."""
        await self.cluster.whole(self.load.cell)


async def kill_the_leader(drill: Drill) -> None:
    leader = await drill.leader()
    await drill.cluster.stop(leader)
    await drill.load.goes_on()
    await drill.cluster.start(leader)
    await drill.whole()


async def stop_the_leader(drill: Drill) -> None:
    leader = await drill.leader()
    await drill.cluster.stop(leader, number=signal.SIGTERM)
    await drill.load.goes_on()
    await drill.cluster.start(leader)
    await drill.whole()


async def freeze_the_leader(drill: Drill) -> None:
    leader = await drill.leader()
    async with drill.cluster.frozen(leader):
        await drill.load.goes_on()
    await drill.whole()


async def kill_all(drill: Drill) -> None:
    await drill.cluster.stop()
    await drill.cluster.start()
    await drill.load.goes_on()


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
    async with running_cluster(tmp_path) as cluster, loaded(cluster.address, cell_id) as load:
        drill = Drill(cluster, load)
        await drill.whole()
        for _ in range(rounds):
            await fault(drill)


@pytest.mark.slow
async def test_five_servers_outlast_the_death_of_any_two(tmp_path: Path, cell_id: CellId) -> None:
    async with (
        running_cluster(tmp_path, 5) as cluster,
        loaded(cluster.address, cell_id, replicas=5) as load,
    ):
        drill = Drill(cluster, load)
        await drill.whole()
        leader = await drill.leader()
        other = next(name for name in cluster.names if name != leader)
        await cluster.stop(leader, other)
        await load.goes_on()
        await cluster.start(leader, other)
        await drill.whole()


async def test_the_word_of_a_deposed_leader_is_doubted(
    tmp_path: Path, cell_id: CellId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses by what it has, until it hears that there is another leader."""
    async with (
        running_cluster(tmp_path) as cluster,
        joined(cluster.address, cell_id, limits=LIMITS_OF_THREE) as cell,
    ):
        where = client(cell, "chain")
        leader = await cluster.leader(cell)
        monkeypatch.setattr(connection_module, "PING_INTERVAL_S", 600)  # it stays, come what may
        async with (
            joined(cluster.address_at(leader), cell_id, limits=LIMITS_OF_THREE) as near,
            joined(cluster.address_without(leader), cell_id, limits=LIMITS_OF_THREE) as far,
        ):
            first = await far.journal.append(message(far, where), guard=Guard(where, 0))
            async with cluster.frozen(leader):
                second = await far.journal.append(message(far, where), guard=Guard(where, 1))
                asked = [
                    asyncio.create_task(
                        near.journal.append(message(near, where), guard=Guard(where, 2))
                    )
                    for _ in range(CONTENDERS)
                ]
                await asyncio.wait(asked, timeout=0.5)
            results = await asyncio.gather(*asked)

    assert [first, second] == [Appended(1), Appended(2)]
    assert sum(isinstance(result, Appended) for result in results) == 1


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

        await eventually(lives_somewhere, within_s=RESUMED_S_MAX, what="the consumer is known")
        await cluster.stop(where[0])
        second = message(cell)
        await cell.journal.append(second)

    assert ids(reading.result()) == ids([first, second])
