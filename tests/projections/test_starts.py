"""A projector that starts again: from a snapshot where one fits, with the same rows in the end."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from dtest.journal.port import Stored
from dtest.leadership.snapshots import Basis, SnapshotFiles, SnapshotWriter
from dtest.projections.projector import Projector, Source
from dtest.projections.store import opened
from dtest.state.snapshot import dump
from tests.kit.nats import eventually
from tests.projections.history import (
    CELL,
    CREATED,
    STREAM,
    Delivery,
    database_of,
    in_batches,
    project,
    tables,
)
from tests.projections.story import Story

STEPS = 90
BASIS = Basis("this form", 1)


def told(seed: int = 3) -> list[Stored]:
    return list(Story(seed).tell(STEPS).journal)


def events(stored: list[Stored]) -> int:
    return sum(len(one.record().events) for one in stored)


def cut_at(stored: list[Stored], *seqs: int) -> Delivery:
    """Deliver the messages in batches that end at these."""
    ends = sorted({0, *seqs, len(stored)})
    return Delivery([stored[begin:end] for begin, end in pairwise(ends)])


def files(directory: Path, basis: Basis = BASIS) -> SnapshotFiles:
    return SnapshotFiles(directory, CELL, basis)


async def projected(
    place: Path, stored: list[Stored], *, snapshot_at: int, file_at: int, stream: str = CREATED
) -> None:
    """A file that stands at one message, and a snapshot that was taken after another one."""
    delivery = cut_at(stored, snapshot_at, file_at)
    with opened(place / "file") as store, opened(place / "other") as other:
        await project(store, delivery, until=file_at)
        base = await project(other, delivery, until=snapshot_at)
        files(place / "snapshots").write(base.cell, stream)


@pytest.mark.parametrize("seed", [3, 4, 5])
async def test_the_database_does_not_depend_on_where_a_start_began(
    tmp_path: Path, seed: int
) -> None:
    stored = told(seed)
    expected = await database_of(tmp_path / "zero", stored)
    last = stored[-1].seq
    for number, (base, stand) in enumerate(
        [(last // 4, last // 2), (last // 2, last // 2), (last // 3, last), (1, last - 1)]
    ):
        place = tmp_path / str(number)
        await projected(place, stored, snapshot_at=base, file_at=stand)
        with opened(place / "file") as store:
            delivery = cut_at(stored, base, stand)
            again = await project(store, delivery, snapshots=files(place / "snapshots"))

            assert again.events == events([one for one in stored if one.seq > base])
            assert tables(store) == expected


@pytest.mark.parametrize(
    ("basis", "stream", "ahead"),
    [(Basis("this form", 2), CREATED, 0), (BASIS, "another instant", 0), (BASIS, CREATED, 1)],
)
async def test_a_snapshot_that_does_not_fit_is_not_used(
    tmp_path: Path, basis: Basis, stream: str, ahead: int
) -> None:
    stored = told()
    expected = await database_of(tmp_path / "zero", stored)
    stand = len(stored) // 2
    await projected(tmp_path, stored, snapshot_at=stand + ahead, file_at=stand, stream=stream)
    with opened(tmp_path / "file") as store:
        delivery = cut_at(stored, stand, stand + ahead)
        again = await project(store, delivery, snapshots=files(tmp_path / "snapshots", basis))

        assert again.events == events(stored)
        assert tables(store) == expected


async def test_what_was_folded_at_a_start_is_written_down_at_once(tmp_path: Path) -> None:
    stored = told()
    delivery = Delivery(in_batches(stored, 7))
    with opened(tmp_path / "file") as store:
        await project(store, delivery)
    with opened(tmp_path / "file") as store:
        projector = Projector(store, Source(delivery, STREAM), cell=CELL)
        await projector.start()
        assert projector.events == events(stored)
        writer = SnapshotWriter(
            files(tmp_path / "snapshots"),
            projector,
            stream=projector.created,
            lock=projector.lock,
            events_min=events(stored),
        )
        async with projector.lock:  # a transaction is under way
            writing = asyncio.ensure_future(writer.run())
            await asyncio.sleep(0)
            assert not (tmp_path / "snapshots").exists()
        await eventually(lambda: bool(list((tmp_path / "snapshots").glob("*.snapshot"))))
        writing.cancel()

        found = await files(tmp_path / "snapshots").latest(delivery)
        assert dump(found) == dump(projector.cell)
