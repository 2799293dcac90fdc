"""Shipped trees on a real server: stored, read back, renewed, bounded."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from dtest.errors import InvalidDocument, JournalFull, Unavailable
from dtest.events import subject
from dtest.events.fields import CellId
from dtest.journal.migration import create_streams
from dtest.journal.streams import DAY_NS, WORKSPACE_DAYS_MAX, workspace_name
from dtest.journal.workspace_store import MANIFEST_FRESH_S, PART_FRESH_S, WorkspaceStore
from dtest.runtime.ids import IdSource
from dtest.workspaces.manifest import CHUNK_BYTES, File, Manifest, manifest_of
from dtest.workspaces.pack import encode, verified
from tests.kit.nats import LIMITS, NatsCell, Server, joined

DAY_S = 86_400.0


@pytest.fixture
def store(cell: NatsCell) -> WorkspaceStore:
    return WorkspaceStore(cell.connection, cell.cell, new_id=IdSource())


def name_of(raw: bytes) -> str:
    return sha256(raw).hexdigest()


async def ship(store: WorkspaceStore, **files: bytes) -> Manifest:
    parts = [(name_of(raw), encode(raw)) for raw in files.values()]
    await store.put_parts(parts)
    manifest = manifest_of(File(path, len(raw), (name_of(raw),)) for path, raw in files.items())
    await store.put_manifest(manifest.encoded())
    return manifest


async def messages(cell: NatsCell) -> int:
    where = f"$JS.API.STREAM.INFO.{workspace_name(cell.cell)}"
    reply = (await cell.connection.ask(where, b"", timeout_s=5)).json()
    return int(reply["state"]["messages"])


async def test_a_tree_is_read_as_it_was_stored(store: WorkspaceStore) -> None:
    manifest = await ship(store, a=b"one", b=b"two" * 100_000)

    assert await store.manifest(manifest.digest) == manifest.encoded()
    for file in manifest.files:
        encoded = await store.part(file.chunks[0])
        assert encoded is not None
        assert len(verified(file.chunks[0], encoded)) == file.size_bytes


async def test_a_tree_of_many_files_has_a_manifest_in_parts(store: WorkspaceStore) -> None:
    manifest = manifest_of(File(f"{number:0200d}", 0, ()) for number in range(4_000))
    assert len(manifest.encoded()) > CHUNK_BYTES
    await store.put_manifest(manifest.encoded())

    assert await store.manifest(manifest.digest) == manifest.encoded()


async def test_what_nobody_stored_is_not_there(store: WorkspaceStore) -> None:
    nothing = "0" * 64

    assert await store.part(nothing) is None
    assert await store.manifest(nothing) is None
    assert await store.manifest_stored_at(nothing) is None
    assert await store.stored_at([nothing]) == {}


async def test_a_part_that_is_stored_again_takes_no_more_room(
    cell: NatsCell, store: WorkspaceStore
) -> None:
    await ship(store, a=b"one")
    before = await store.stored_at([name_of(b"one")])
    count = await messages(cell)
    await ship(store, a=b"one")
    after = await store.stored_at([name_of(b"one")])

    assert await messages(cell) == count
    assert after[name_of(b"one")] > before[name_of(b"one")]


async def test_a_tree_whose_manifest_was_changed_is_damaged(
    cell: NatsCell, store: WorkspaceStore
) -> None:
    one, other = await ship(store, a=b"one"), await ship(store, a=b"two")
    root = subject.workspace(cell.cell)
    part = name_of(other.encoded())
    await cell.connection.ask(f"{root}.tree.{one.digest}", f'["{part}"]'.encode(), timeout_s=5)

    with pytest.raises(InvalidDocument, match="is not what was stored"):
        await store.manifest(one.digest)


async def test_an_old_tree_is_renewed_and_a_young_one_left(store: WorkspaceStore) -> None:
    manifest = await ship(store, a=b"one", b=b"two")
    stored_at = await store.manifest_stored_at(manifest.digest)
    assert stored_at is not None

    assert await store.renew(manifest.digest, now=stored_at + MANIFEST_FRESH_S - 60) == 0
    assert await store.manifest_stored_at(manifest.digest) == stored_at
    assert await store.renew(manifest.digest, now=stored_at + MANIFEST_FRESH_S + 60) == 2
    renewed_at = await store.manifest_stored_at(manifest.digest)
    assert renewed_at is not None
    assert renewed_at > stored_at
    assert all(at > stored_at for at in (await store.stored_at(manifest.chunks)).values())
    assert await store.renew("0" * 64, now=stored_at) == 0


async def test_what_is_fresh_outlasts_the_next_look(cell: NatsCell) -> None:
    where = f"$JS.API.STREAM.INFO.{workspace_name(cell.cell)}"
    config = (await cell.connection.ask(where, b"", timeout_s=5)).json()["config"]

    assert config["max_age"] == WORKSPACE_DAYS_MAX * DAY_NS
    assert PART_FRESH_S + 2 * MANIFEST_FRESH_S <= WORKSPACE_DAYS_MAX * DAY_S
    assert config["max_msgs_per_subject"] == 1


async def test_a_full_store_refuses_and_says_how_to_go_on(server: Server, tmp_path: Path) -> None:
    limits = replace(LIMITS, workspace_bytes=1 << 20)
    async with joined(server.address, CellId("small-shelf"), limits=limits) as cell:
        store = WorkspaceStore(cell.connection, cell.cell, new_id=IdSource())
        parts = [(f"{number:064x}", b"r" + bytes(400_000)) for number in range(4)]

        with pytest.raises(JournalFull, match="no room for more workspaces") as refused:
            await store.put_parts(parts)
        assert "--workspace-bytes" in refused.value.hint


async def test_a_cell_without_the_stream_says_so(server: Server) -> None:
    async with joined(server.address, CellId("old-cell"), limits=LIMITS) as cell:
        where = f"$JS.API.STREAM.DELETE.{workspace_name(cell.cell)}"
        await cell.connection.ask(where, b"", timeout_s=5)
        store = WorkspaceStore(cell.connection, cell.cell, new_id=IdSource())

        with pytest.raises(Unavailable) as refused:
            await store.part("0" * 64)
        assert "migrate" in refused.value.hint
        await create_streams(cell.connection, cell.cell, LIMITS)
        assert await store.part("0" * 64) is None
