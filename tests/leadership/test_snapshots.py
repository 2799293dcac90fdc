"""Snapshots on disk: used when they fit the journal and the code, and never otherwise."""

import asyncio
import json
import signal
import stat
from pathlib import Path

import psutil
import pytest

from dtest.journal.memory import MemoryJournal
from dtest.leadership import snapshots as module
from dtest.leadership.follower import Follower
from dtest.leadership.rules import CURRENT
from dtest.leadership.snapshots import KEPT, Basis, SnapshotFiles, SnapshotWriter, current_basis
from dtest.state.cell import Cell
from dtest.state.snapshot import dump
from dtest.state.snapshot_form import form_digest
from tests.kit import facts
from tests.kit.facts import finished, machine, registered, task
from tests.kit.stage import Stage

BASIS = Basis("this form", 1)


async def played(tasks: int = 5) -> tuple[Stage, Cell]:
    """A journal with some history, and its state."""
    stage = Stage()
    async with stage.led() as leader:
        await stage.say(registered("w", machine(2)))
        for number in range(tasks):
            await stage.say(task(f"t{number}"))
        await stage.quiet()
        for one in await stage.assigned():
            await stage.say(finished(one))
        await stage.quiet()
        return stage, leader.cell


async def stream(stage: Stage) -> str:
    return (await stage.journal.bounds()).created


def found(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def files(directory: Path, basis: Basis = BASIS) -> SnapshotFiles:
    return SnapshotFiles(directory, facts.CELL, basis)


async def test_a_state_is_read_back_and_the_fold_goes_on(tmp_path: Path) -> None:
    stage, cell = await played()
    files(tmp_path).write(cell, await stream(stage))
    await stage.say(task("later"))

    again = await files(tmp_path).latest(stage.journal)
    assert dump(again) == dump(cell)
    follower = Follower(stage.journal, again)
    following = asyncio.ensure_future(follower.run())
    await follower.reached(cell.seq + 1)
    following.cancel()
    assert "later" in follower.cell.tasks
    assert follower.events == 1


async def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    stage, cell = await played()
    files(tmp_path / "made").write(cell, await stream(stage))
    (path,) = (tmp_path / "made").iterdir()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_without_a_snapshot_the_journal_is_folded_from_its_start(tmp_path: Path) -> None:
    stage, _ = await played()

    assert (await files(tmp_path / "none").latest(stage.journal)).seq == 0


@pytest.mark.parametrize("other", [Basis("another form", 1), Basis("this form", 2)])
async def test_another_form_and_other_rules_read_no_snapshot(tmp_path: Path, other: Basis) -> None:
    stage, cell = await played()
    files(tmp_path).write(cell, await stream(stage))

    assert (await files(tmp_path, other).latest(stage.journal)).seq == 0


async def test_another_stream_is_not_taken_for_this_one(tmp_path: Path) -> None:
    stage, cell = await played()
    files(tmp_path).write(cell, "another instant")

    assert (await files(tmp_path).latest(stage.journal)).seq == 0


async def test_a_journal_that_lost_its_end_is_folded_from_its_start(tmp_path: Path) -> None:
    stage, cell = await played()
    files(tmp_path).write(cell, await stream(stage))

    class Shorter(MemoryJournal):
        async def get(self, seq: int) -> None:
            return None

    shorter = Shorter(clock=stage.clock.now)
    shorter.bounds = stage.journal.bounds  # type: ignore[method-assign]

    assert (await files(tmp_path).latest(shorter)).seq == 0


async def test_a_message_with_another_instant_at_its_place_is_another_history(
    tmp_path: Path,
) -> None:
    stage, cell = await played()
    cell.now += 1e-6
    files(tmp_path).write(cell, await stream(stage))

    assert (await files(tmp_path).latest(stage.journal)).seq == 0


@pytest.mark.parametrize("place", [0, 20, 300, -1])
async def test_a_flipped_bit_is_noticed_and_the_older_file_is_used(
    tmp_path: Path, place: int
) -> None:
    stage, cell = await played()
    files(tmp_path).write(cell, await stream(stage))
    before = cell.seq
    stage2, newer = await played(6)
    assert newer.seq > before
    files(tmp_path).write(newer, await stream(stage2))
    newest = found(tmp_path)[-1]
    content = bytearray(newest.read_bytes())
    content[place] ^= 1
    newest.write_bytes(content)

    assert (await files(tmp_path).latest(stage.journal)).seq == before


async def test_a_torn_file_and_a_foreign_one_are_passed_over(tmp_path: Path) -> None:
    stage, cell = await played()
    files(tmp_path).write(cell, await stream(stage))
    (whole,) = found(tmp_path)
    (tmp_path / "99999999999999999998.snapshot").write_bytes(whole.read_bytes()[:-10])
    (tmp_path / "99999999999999999999.snapshot").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not a snapshot")

    assert (await files(tmp_path).latest(stage.journal)).seq == cell.seq


async def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    stage, cell = await played()
    for seq in range(1, KEPT + 4):
        cell.seq = seq
        files(tmp_path).write(cell, await stream(stage))

    assert [int(path.stem) for path in found(tmp_path)] == [KEPT + 2, KEPT + 3]


async def test_a_child_writes_while_the_fold_goes_on(tmp_path: Path) -> None:
    before = children()
    stage, cell = await played()
    follower = Follower(stage.journal, cell)
    writer = SnapshotWriter(files(tmp_path), follower, stream=await stream(stage))
    seq = cell.seq
    writing = asyncio.ensure_future(writer.write())
    await asyncio.sleep(0)
    await stage.say(task("meanwhile"))
    following = asyncio.ensure_future(follower.run())
    await follower.reached(seq + 1)
    await writing
    following.cancel()

    (path,) = found(tmp_path)
    document = json.loads(path.read_bytes().partition(b"\n")[2])
    assert document["seq"] == seq
    assert children() <= before


async def test_who_is_stopped_while_a_child_writes_leaves_no_child(tmp_path: Path) -> None:
    before = children()
    stage, cell = await played()
    writer = SnapshotWriter(
        files(tmp_path), Follower(stage.journal, cell), stream=await stream(stage)
    )
    writing = asyncio.ensure_future(writer.write())
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert children() <= before


async def test_a_child_that_hangs_is_ended_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    stage, cell = await played()
    writer = SnapshotWriter(
        files(tmp_path), Follower(stage.journal, cell), stream=await stream(stage)
    )
    with monkeypatch.context() as hanging:
        hanging.setattr(module, "WRITE_S_MAX", 0.1)
        hanging.setattr(SnapshotFiles, "write", lambda *_: signal.pause())
        await writer.write()
    assert children() <= before
    assert found(tmp_path) == []

    await writer.write()
    assert len(found(tmp_path)) == 1


async def test_a_directory_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    before = children()
    stage, cell = await played()
    (tmp_path / "file").touch()
    writer = SnapshotWriter(
        files(tmp_path / "file"), Follower(stage.journal, cell), stream=await stream(stage)
    )

    await writer.write()

    assert children() <= before
    assert [path.name for path in found(tmp_path)] == ["file"]


def test_a_snapshot_depends_on_the_form_of_the_state_and_on_the_rules_alone() -> None:
    assert current_basis() == Basis(form_digest(), CURRENT.version)
