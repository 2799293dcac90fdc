"""The writer goes on where it stopped, wherever that was, and writes nothing twice."""

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from dtest.archive.archiver import Archiver, SegmentSize
from dtest.archive.inspection import inspect
from dtest.archive.manifest import NAME, Entry, Stream
from dtest.archive.reader import read_archive
from dtest.archive.writer import UNFINISHED, writing
from dtest.errors import Conflict, Damaged, NotFound, SequenceGap, Unavailable, UsageError
from dtest.journal.memory import MemoryJournal
from dtest.journal.port import Outgoing
from tests.kit import facts
from tests.kit.archives import Told, archived, contents, numbered, segments, sizes
from tests.kit.nats import eventually

TOLD = numbered(20)
SEGMENT = 5
STREAM = Stream(facts.CELL, "recording")


async def test_a_second_call_goes_on_and_leaves_what_is_there(tmp_path: Path) -> None:
    await archived(Told(TOLD[:8]), tmp_path, segment=SEGMENT)
    before = contents(tmp_path)
    kept = {path: path.stat().st_ino for path in segments(tmp_path)}

    added = await archived(Told(TOLD), tmp_path, segment=SEGMENT)

    assert sizes(added) == [5, 5, 2]
    after = contents(tmp_path)
    assert {name: after[name] for name in before if name != NAME} == {
        name: content for name, content in before.items() if name != NAME
    }
    assert after[NAME].startswith(before[NAME])
    assert {path: path.stat().st_ino for path in kept} == kept
    assert list(read_archive(tmp_path)) == TOLD


async def test_a_call_that_finds_nothing_new_changes_nothing(tmp_path: Path) -> None:
    await archived(Told(TOLD), tmp_path, segment=SEGMENT)
    before = contents(tmp_path)

    assert await archived(Told(TOLD), tmp_path, segment=SEGMENT) == []
    assert contents(tmp_path) == before


async def test_what_comes_is_followed_and_written_though_no_segment_is_full(
    tmp_path: Path,
) -> None:
    journal = MemoryJournal(clock=lambda: facts.START)
    added: list[Entry] = []

    async def say(count: int) -> None:
        for _ in range(count):
            last = (await journal.bounds()).last
            await journal.append(Outgoing("a.b", b"{}", f"id-{last + 1}"))

    stream = Stream(facts.CELL, (await journal.bounds()).created)
    with writing(tmp_path, stream) as writer:
        archiver = Archiver(journal, writer, SegmentSize(SEGMENT), written=added.append)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(archiver.follow(every_s=0.02))
            await say(SEGMENT)
            await eventually(lambda: writer.last_seq == SEGMENT)
            await say(2)
            await eventually(lambda: writer.last_seq == SEGMENT + 2)
            following.cancel()

    assert len(list(read_archive(tmp_path))) == SEGMENT + 2
    assert inspect(tmp_path).violations == []


# -- killed in the middle -----------------------------------------------------------------------


async def test_a_segment_that_was_not_renamed_is_as_if_it_never_was(tmp_path: Path) -> None:
    await archived(Told(TOLD[:10]), tmp_path, segment=SEGMENT)
    (tmp_path / UNFINISHED).write_bytes(b"PAR1 half of a segment")

    assert inspect(tmp_path).violations == []
    assert list(read_archive(tmp_path)) == TOLD[:10]
    await archived(Told(TOLD), tmp_path, segment=SEGMENT)
    assert list(read_archive(tmp_path)) == TOLD
    assert not (tmp_path / UNFINISHED).exists()


@pytest.mark.parametrize("before", [0, 5, 10])
async def test_a_line_that_was_not_or_half_written_is_completed(
    tmp_path: Path, before: int
) -> None:
    """A manifest that ends anywhere in its last line."""
    whole = tmp_path / "whole"
    if before:
        await archived(Told(TOLD[:before]), whole, segment=SEGMENT)
    start = len((whole / NAME).read_bytes()) if before else 0
    await archived(Told(TOLD[: before + SEGMENT]), whole, segment=SEGMENT)
    written = contents(whole)
    end = len(written[NAME])
    for length in range(start, end, 7):
        (whole / NAME).write_bytes(written[NAME][:length])

        found = inspect(whole)
        assert found.violations == [], length
        assert found.unfinished == segments(whole)[-1].name
        if before:
            assert list(read_archive(whole)) == TOLD[:before]
        else:
            with pytest.raises(NotFound):
                list(read_archive(whole))
        assert await archived(Told(TOLD[: before + SEGMENT]), whole, segment=SEGMENT) == []
        assert contents(whole) == written, length


class KilledError(BaseException):
    """The end of the process, as far as the code can tell."""


@pytest.mark.parametrize("step", range(1, 17))
async def test_whatever_step_is_the_last_one_the_next_call_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    steps = 0
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            raise KilledError
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(KilledError):
            await archived(Told(TOLD), tmp_path, segment=SEGMENT)
    if (tmp_path / NAME).exists():
        found = inspect(tmp_path)
        assert found.violations == []
        assert list(read_archive(tmp_path)) == TOLD[: found.messages]

    await archived(Told(TOLD), tmp_path, segment=SEGMENT)

    assert list(read_archive(tmp_path)) == TOLD
    assert inspect(tmp_path).violations == []
    assert len(segments(tmp_path)) == 4


@pytest.mark.parametrize("step", range(1, 5))
async def test_a_disk_that_is_full_is_said_and_leaves_a_readable_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    await archived(Told(TOLD[:5]), tmp_path, segment=SEGMENT)
    steps = 0

    def fsync(descriptor: int) -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(Unavailable, match="No space left on device"):
            await archived(Told(TOLD), tmp_path, segment=SEGMENT)

    assert inspect(tmp_path).violations == []
    await archived(Told(TOLD), tmp_path, segment=SEGMENT)
    assert list(read_archive(tmp_path)) == TOLD


async def test_an_archive_can_be_checked_while_it_is_written(tmp_path: Path) -> None:
    await archived(Told(TOLD[:1]), tmp_path, segment=1)
    told = numbered(150)
    writer = threading.Thread(target=lambda: asyncio.run(archived(Told(told), tmp_path, segment=1)))
    writer.start()
    counts = set()
    while writer.is_alive():
        found = inspect(tmp_path)
        assert found.violations == []
        counts.add(found.messages)
    writer.join()

    assert len(counts) > 1
    assert inspect(tmp_path).messages == len(told)


# -- refused ----------------------------------------------------------------------------------


async def test_an_archive_has_one_writer_at_a_time(tmp_path: Path) -> None:
    with writing(tmp_path, STREAM), pytest.raises(Conflict, match="another process is writing"):
        await archived(Told(TOLD), tmp_path, segment=SEGMENT)

    assert await archived(Told(TOLD), tmp_path, segment=20)


async def test_an_archive_of_another_stream_is_left_alone(tmp_path: Path) -> None:
    await archived(Told(TOLD[:5]), tmp_path, segment=SEGMENT)
    before = contents(tmp_path)

    with pytest.raises(Conflict, match="another stream"):
        await archived(Told(TOLD, created="another day"), tmp_path, segment=SEGMENT)
    assert contents(tmp_path) == before


async def test_a_first_segment_of_another_stream_is_not_taken_in(tmp_path: Path) -> None:
    await archived(Told(TOLD[:5]), tmp_path, segment=SEGMENT)
    (tmp_path / NAME).unlink()

    with pytest.raises(Conflict, match="another stream"):
        await archived(Told(TOLD, created="another day"), tmp_path, segment=SEGMENT)


async def test_a_segment_that_continues_another_chain_is_not_taken_in(tmp_path: Path) -> None:
    """The same journal, archived twice and cut in other places."""
    one, two = tmp_path / "one", tmp_path / "two"
    await archived(Told(TOLD[:10]), one, segment=5)
    await archived(Told(TOLD[:10]), two, segment=10)
    (follower,) = await archived(Told(TOLD[:15]), two, segment=10)
    shutil.copy(two / follower.file, one)

    assert inspect(one).violations == [f"{follower.file} is not in {NAME}"]
    with pytest.raises(Damaged, match="is not in"):
        await archived(Told(TOLD), one, segment=5)


async def test_a_journal_that_lost_its_end_is_not_archived_further(tmp_path: Path) -> None:
    await archived(Told(TOLD), tmp_path, segment=SEGMENT)

    with pytest.raises(SequenceGap, match="the journal ends at 12, before the archive's end at 20"):
        await archived(Told(TOLD[:12]), tmp_path, segment=SEGMENT)


async def test_a_journal_that_begins_after_the_archives_end_leaves_a_gap(tmp_path: Path) -> None:
    await archived(Told(TOLD[:5]), tmp_path, segment=SEGMENT)

    with pytest.raises(SequenceGap, match="the journal begins at 7, the archive ends at 5"):
        await archived(Told(TOLD, first=7), tmp_path, segment=SEGMENT)


async def test_a_journal_that_went_another_way_is_not_archived_further(tmp_path: Path) -> None:
    await archived(Told(TOLD[:10]), tmp_path, segment=SEGMENT)
    other = [*TOLD[:9], *numbered(20, word="other")[9:]]

    with pytest.raises(Damaged, match=r"message 10 is not the same .*: id, payload"):
        await archived(Told(other), tmp_path, segment=SEGMENT)


async def test_a_damaged_archive_is_not_written_to(tmp_path: Path) -> None:
    await archived(Told(TOLD[:10]), tmp_path, segment=SEGMENT)
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(content.replace(b"recording", b"recordinG", 1))
    before = contents(tmp_path)

    with pytest.raises((Damaged, Conflict)):
        await archived(Told(TOLD), tmp_path, segment=SEGMENT)
    assert contents(tmp_path) == before


def test_a_file_cannot_be_an_archive(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(UsageError, match="cannot be an archive"),
        writing(tmp_path / "file", STREAM),
    ):
        raise AssertionError
