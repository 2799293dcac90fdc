"""The streams of a cell are brought to their form as data, and nothing is forgotten."""

from dataclasses import replace
from typing import Any

import pytest

from dtest.errors import Unavailable, UsageError
from dtest.events.fields import CellId
from dtest.journal.api import ask_api, get_info
from dtest.journal.cluster import await_leaders, get_placement
from dtest.journal.connection import Connection
from dtest.journal.migration import (
    Finding,
    Wanted,
    apply,
    compare,
    create_streams,
    usual_replicas,
)
from dtest.journal.streams import all_configs, output_name, stream_names, telemetry_name
from tests.journal.conformance import Bench
from tests.kit.cluster import LIMITS_OF_THREE, Cluster
from tests.kit.nats import LIMITS, NatsCell, Server, connected, eventually, joined

SMALL = Wanted(
    journal_bytes=LIMITS.journal_bytes,
    output_bytes=LIMITS.output_bytes,
    telemetry_bytes=LIMITS.telemetry_bytes,
    artifact_bytes=LIMITS.artifact_bytes,
    checkpoint_bytes=LIMITS.checkpoint_bytes,
    queue_bytes=LIMITS.queue_bytes,
    workspace_bytes=LIMITS.workspace_bytes,
)


async def holds(cell: NatsCell, replicas: int) -> None:
    """Wait until so many brokers hold the journal: one that is let go is listed for a while."""

    async def holding() -> bool:
        return len((await get_placement(cell.connection, cell.stream)).replicas) == replicas

    await eventually(holding, within_s=30.0, what=f"{replicas} brokers hold the journal")


async def change(cell: NatsCell, stream: str, **settings: Any) -> None:
    """Change a stream behind everybody's back."""
    config = (await get_info(cell.connection, stream))["config"]
    reply = await ask_api(cell.connection, f"STREAM.UPDATE.{stream}", {**config, **settings})
    assert "error" not in reply, reply["error"]


async def finding(cell: NatsCell, stream: str, wanted: Wanted = SMALL) -> Finding:
    """How one stream compares."""
    found = await compare(cell.connection, cell.cell, wanted)
    return next(one for one in found if one.stream == stream)


def all_right(cell_id: CellId) -> list[str]:
    return ["right"] * len(stream_names(cell_id))


async def states(connection: Connection, cell: CellId, wanted: Wanted = SMALL) -> list[str]:
    return [one.state for one in await compare(connection, cell, wanted)]


async def test_what_is_missing_is_created_once(server: Server, cell_id: CellId) -> None:
    async with connected(server.address) as connection:
        before = await compare(connection, cell_id, SMALL)
        after = [await apply(connection, one) for one in before]

        assert [one.stream for one in before] == stream_names(cell_id)
        assert {one.state for one in before} == {"missing"}
        assert {one.state for one in after} == {"right"}
        assert await states(connection, cell_id) == all_right(cell_id)
        assert await states(connection, cell_id, Wanted()) == all_right(cell_id)


@pytest.mark.parametrize(
    ("setting", "other"),
    [
        ("subjects", ["elsewhere.{cell}.>"]),
        ("max_bytes", 32 << 20),
        ("max_age", 3_600_000_000_000),
        ("max_msgs", 5),
        ("max_msgs_per_subject", 1),
        ("discard", "old"),
        ("retention", "interest"),
        ("allow_atomic", False),
        ("allow_direct", False),
        ("duplicate_window", 1_000_000_000),
        ("compression", "s2"),
        ("max_consumers", 7),
    ],
)
async def test_what_differs_is_named_and_changed_in_place(
    setting: str, other: Any, cell: NatsCell
) -> None:
    if isinstance(other, list):
        other = [part.format(cell=cell.cell) for part in other]
    await change(cell, cell.stream, **{setting: other})

    found = await finding(cell, cell.stream)

    assert [one.setting for one in found.differences] == [setting]
    assert (found.differences[0].found or False) == other  # the server leaves out what is false
    assert not found.obstacles
    assert (await apply(cell.connection, found)).state == "right"
    assert await states(cell.connection, cell.cell) == all_right(cell.cell)


async def test_a_size_that_nobody_asks_for_stays(cell: NatsCell) -> None:
    await change(cell, output_name(cell.cell), max_bytes=1 << 20)

    assert await states(cell.connection, cell.cell, Wanted()) == all_right(cell.cell)
    assert (await finding(cell, output_name(cell.cell))).state == "different"


async def test_a_stream_of_another_storage_is_refused_and_left(
    server: Server, cell_id: CellId
) -> None:
    async with connected(server.address) as connection:
        for config in all_configs(cell_id, LIMITS):
            config["storage"] = "memory"
            await ask_api(connection, f"STREAM.CREATE.{config['name']}", config)
        before = await compare(connection, cell_id, SMALL)

        after = [await apply(connection, one) for one in before]

        assert {one.state for one in after} == {"different"}
        for one in after:
            assert [each.setting for each in one.obstacles] == ["storage"]
            assert "disk and memory" in one.obstacles[0].obstacle
            assert (await get_info(connection, one.stream))["config"]["storage"] == "memory"


async def test_a_journal_is_never_made_smaller_than_what_it_holds(cell: NatsCell) -> None:
    bench = Bench(cell.journal, cell.cell)
    await bench.append_all([bench.message(payload=b"x" * 5_000) for _ in range(20)])

    found = await finding(cell, cell.stream, replace(SMALL, journal_bytes=2_000))
    left = await apply(cell.connection, found)

    assert [one.setting for one in left.obstacles] == ["max_bytes"]
    assert "would forget the oldest" in left.obstacles[0].obstacle
    assert await bench.count() == 20


async def test_the_other_changes_are_made_beside_a_refused_one(cell: NatsCell) -> None:
    bench = Bench(cell.journal, cell.cell)
    await bench.append_all([bench.message(payload=b"x" * 5_000) for _ in range(20)])
    await change(cell, cell.stream, max_consumers=7)

    found = await finding(cell, cell.stream, replace(SMALL, journal_bytes=2_000))
    left = await apply(cell.connection, found)

    assert len(found.differences) == 2
    assert left.state == "different"
    assert [one.setting for one in left.differences] == ["max_bytes"]
    assert (await finding(cell, cell.stream)).state == "right"


async def test_what_the_server_refuses_is_said_in_its_words(
    cluster: Cluster, cell_id: CellId
) -> None:
    async with joined(cluster.address, cell_id, limits=LIMITS_OF_THREE) as cell:
        found = await finding(cell, cell.stream, replace(SMALL, replicas=5))
        left = await apply(cell.connection, found)

    assert left.state == "different"
    assert "no suitable peers" in left.obstacles[0].obstacle


async def test_replicas_are_added_and_taken_while_the_journal_keeps_all(
    cluster: Cluster, cell_id: CellId
) -> None:
    async with joined(cluster.address, cell_id, limits=LIMITS) as cell:
        bench = Bench(cell.journal, cell_id)
        await bench.append_all(bench.messages(10))

        for replicas in (3, 1):
            wanted = replace(SMALL, replicas=replicas)
            for one in await compare(cell.connection, cell_id, wanted):
                assert [each.setting for each in one.differences] == ["num_replicas"]
                assert (await apply(cell.connection, one)).state == "right"
            await await_leaders(cell.connection, cell_id, wait_s=30.0, whole=True)

            await holds(cell, replicas)
            assert await states(cell.connection, cell_id, wanted) == all_right(cell.cell)
            assert await bench.count() == 10


async def test_replicas_that_nobody_asks_for_are_those_of_the_journal(
    cluster: Cluster, cell_id: CellId
) -> None:
    async with joined(cluster.address, cell_id, limits=LIMITS_OF_THREE) as cell:
        await change(cell, telemetry_name(cell_id), num_replicas=1)

        found = await finding(cell, telemetry_name(cell_id))

        assert [(one.setting, one.wanted) for one in found.differences] == [("num_replicas", 3)]


async def test_a_server_alone_keeps_one_copy_whatever_is_asked(
    server: Server, cluster: Cluster, cell_id: CellId
) -> None:
    async with connected(server.address) as alone, connected(cluster.address) as together:
        assert [await usual_replicas(alone, cell_id, asked) for asked in (None, 1, 5)] == [1, 1, 1]
        assert [await usual_replicas(together, cell_id, asked) for asked in (None, 1, 5)] == [
            3,
            1,
            5,
        ]
        with pytest.raises(UsageError, match="2 replicas"):
            await usual_replicas(together, cell_id, 2)


async def test_more_replicas_than_servers_are_refused_with_the_number(
    cluster: Cluster, cell_id: CellId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtest.journal.migration.CREATE_S_MAX", 0.5)
    async with connected(cluster.address) as connection:
        with pytest.raises(Unavailable) as raised:
            await create_streams(connection, cell_id, replace(LIMITS, replicas=5))

    assert "5 servers must be up" in raised.value.hint
