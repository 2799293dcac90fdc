"""The store of checkpoints on a real server: fetched to a file, listed, deleted, aged, full."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dtest.errors import NotFound, Unavailable
from dtest.events.fields import CellId
from dtest.journal.stores import ObjectStore, artifact_store, checkpoint_store
from dtest.journal.streams import CHECKPOINT_DAYS_MAX, DAY_NS, checkpoint_bucket
from tests.kit.nats import LIMITS, NatsCell, Server, joined

LARGE = bytes(range(256)) * 2_000


@pytest.fixture
def store(cell: NatsCell) -> ObjectStore:
    return checkpoint_store(cell.connection, cell.cell)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    return path


async def about(cell: NatsCell) -> dict[str, dict[str, int]]:
    where = f"$JS.API.STREAM.INFO.OBJ_{checkpoint_bucket(cell.cell)}"
    return (await cell.connection.ask(where, b"", timeout_s=5)).json()


async def test_a_file_is_fetched_as_it_was_put(store: ObjectStore, file: Path) -> None:
    await store.put("t/1/1", file)
    target = file.with_name("target")
    target.write_bytes(b"longer than nothing")
    async with asyncio.timeout(10):
        await store.fetch("t/1/1", target)

    assert target.read_bytes() == LARGE


async def test_an_empty_file_is_fetched_too(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    await store.put("t/1/1", tmp_path / "empty")
    async with asyncio.timeout(10):
        await store.fetch("t/1/1", tmp_path / "target")

    assert (tmp_path / "target").read_bytes() == b""


async def test_what_nobody_put_is_not_found(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no checkpoint is called t/1/1"):
        await store.fetch("t/1/1", tmp_path / "target")


async def test_a_deleted_file_leaves_nothing_behind(
    cell: NatsCell, store: ObjectStore, file: Path
) -> None:
    await store.put("t/1/1", file)
    await store.put("t/1/2", file)
    await store.delete("t/1/1")
    await store.delete("t/1/1")
    assert await store.names() == ["t/1/2"]
    await store.delete("t/1/2")

    assert await store.names() == []
    assert (await about(cell))["state"]["messages"] == 0


async def test_names_are_listed_whatever_they_hold(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    names = ["t/1/1", "ünïcode/2/3", "a.b*>/1/1"]
    for name in names:
        await store.put(name, tmp_path / "x")

    assert await store.names() == sorted(names)


async def test_a_name_of_somebody_else_stops_no_listing(cell: NatsCell, store: ObjectStore) -> None:
    subject = f"$O.{checkpoint_bucket(cell.cell)}.M.no base64".replace(" ", "-")
    await cell.connection.ask(subject, b"{}", timeout_s=5)

    assert await store.names() == ["no-base64"]


async def test_checkpoints_cannot_take_the_room_of_artefacts(
    server: Server, cell_id: CellId, file: Path
) -> None:
    limits = replace(LIMITS, checkpoint_bytes=1 << 18)
    async with joined(server.address, cell_id, limits=limits) as cell:
        with pytest.raises(Unavailable, match="there is no room for more checkpoints"):
            await checkpoint_store(cell.connection, cell_id).put("t/1/1", file)
        assert (await about(cell))["state"]["messages"] == 0
        await artifact_store(cell.connection, cell_id).put("t/1/x", file)


async def test_what_nobody_deletes_goes_with_age(cell: NatsCell) -> None:
    assert (await about(cell))["config"]["max_age"] == CHECKPOINT_DAYS_MAX * DAY_NS
