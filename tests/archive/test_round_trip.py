"""What is archived is read back exactly, whatever it is and however it is cut."""

import asyncio
import tempfile
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtest.archive.inspection import inspect
from dtest.archive.reader import open_archive, read_archive
from dtest.errors import InvalidDocument, NotFound
from dtest.journal.port import Stored
from tests.kit.archives import Told, archived, numbered, segments, sizes
from tests.kit.recording import Recording

YEAR_2100_US = 4_102_444_800_000_000
TEXTS = st.text(max_size=12)
MESSAGES = st.lists(
    st.tuples(
        TEXTS, st.integers(0, YEAR_2100_US), TEXTS, st.binary(max_size=40) | st.just(b"\0" * 9000)
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=40)
@given(MESSAGES, st.integers(1, 12), st.integers(1, 10_000))
def test_any_messages_are_read_back_exactly(
    drawn: list[tuple[str, int, str, bytes]], segment: int, payload_bytes: int
) -> None:
    told = [
        Stored(seq, subject, us / 1e6, name, payload)
        for seq, (subject, us, name, payload) in enumerate(drawn, 1)
    ]
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        asyncio.run(archived(Told(told), directory, segment=segment, payload_bytes=payload_bytes))

        assert list(read_archive(directory)) == told
        found = inspect(directory)
        assert (found.violations, found.messages) == ([], len(told))


@settings(max_examples=20)
@given(st.lists(st.integers(0, YEAR_2100_US), min_size=1))
def test_instants_are_exact_for_readers_in_other_languages(instants_us: list[int]) -> None:
    told = [Stored(seq, "a.b", us / 1e6, "id", b"{}") for seq, us in enumerate(instants_us, 1)]
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(archived(Told(told), Path(name), segment=1_000))
        with duckdb.connect() as connection:
            found = connection.execute(
                "SELECT epoch_us(stored_at) FROM read_parquet(?) ORDER BY seq",
                [f"{name}/*.parquet"],
            ).fetchall()

        assert [us for (us,) in found] == instants_us


async def test_an_instant_that_would_be_rounded_is_refused(tmp_path: Path) -> None:
    told = Stored(1, "a.b", 1_800_000_000.000_000_3, "id", b"{}")

    with pytest.raises(InvalidDocument, match=r"message 1: .* whole microseconds"):
        await archived(Told([told]), tmp_path, segment=1)


async def test_segments_have_the_size_that_was_asked_for(tmp_path: Path) -> None:
    added = await archived(Told(numbered(23)), tmp_path, segment=10)

    assert sizes(added) == [10, 10, 3]
    assert [path.name for path in segments(tmp_path)] == [entry.file for entry in added]


async def test_large_messages_make_a_segment_full_earlier(tmp_path: Path) -> None:
    told = [Stored(seq, "a.b", 0.0, "", b"x" * 100) for seq in range(1, 8)]

    assert sizes(await archived(Told(told), tmp_path, segment=5, payload_bytes=250)) == [3, 3, 1]


async def test_an_archive_begins_where_its_journal_begins(tmp_path: Path) -> None:
    told = numbered(9)
    await archived(Told(told, first=4), tmp_path, segment=2)

    assert list(read_archive(tmp_path)) == told[3:]


async def test_a_message_is_found_by_its_number(tmp_path: Path) -> None:
    told = numbered(9)
    await archived(Told(told), tmp_path, segment=4)
    archive = open_archive(tmp_path)

    assert [archive.get(seq) for seq in range(11)] == [None, *told, None]
    assert [stored for batch in archive.batches(5) for stored in batch] == told[5:]


async def test_an_empty_journal_makes_no_archive(tmp_path: Path) -> None:
    assert await archived(Recording([]), tmp_path, segment=4) == []

    with pytest.raises(NotFound, match="holds no archive"):
        list(read_archive(tmp_path))
    with pytest.raises(NotFound, match="holds no archive"):
        inspect(tmp_path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        open_archive(tmp_path / "nowhere")
