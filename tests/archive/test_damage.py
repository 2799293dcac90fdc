"""Whatever is done to an archive is found, named, and never read as history."""

import asyncio
import random
import shutil
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dtest.archive.inspection import VIOLATIONS_MAX, inspect
from dtest.archive.manifest import NAME
from dtest.archive.reader import read_archive
from dtest.errors import Damaged, NotFound
from tests.kit.archives import Told, archived, contents, numbered, segments

SEGMENT = 5
TOLD = numbered(20)
FLIPS = 150
FIRST, SECOND, THIRD, LAST = (
    f"{first:020}-{first + SEGMENT - 1:020}.parquet" for first in range(1, 20, SEGMENT)
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four segments of five messages."""
    directory = tmp_path / "archive"
    asyncio.run(archived(Told(TOLD), directory, segment=SEGMENT))
    return directory


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """The same cell's, of another stream with other messages."""
    directory = tmp_path / "foreign"
    other = Told(numbered(20, word="other"), created="another day")
    asyncio.run(archived(other, directory, segment=SEGMENT))
    return directory


def lines(archive: Path) -> list[bytes]:
    return (archive / NAME).read_bytes().splitlines(keepends=True)


def rewrite(archive: Path, content: list[bytes]) -> None:
    (archive / NAME).write_bytes(b"".join(content))


def edit(line: bytes, **more: object) -> bytes:
    """Change fields of a line, in its canonical form."""
    entry = orjson.loads(line)
    for name, value in more.items():
        (entry["label"] if name in entry["label"] else entry)[name] = value
    return orjson.dumps(entry) + b"\n"


def is_read(archive: Path) -> bool:
    try:
        return list(read_archive(archive)) == TOLD
    except (Damaged, NotFound):
        return False


def check(archive: Path, *words: str) -> None:
    """It is named, and not read."""
    found = inspect(archive)

    for word in words:
        assert any(word in text for text in found.violations), found.violations
    with pytest.raises((Damaged, NotFound)):
        list(read_archive(archive))


def test_a_sound_archive_is_sound(archive: Path) -> None:
    found = inspect(archive)

    assert found.violations == []
    assert (found.segments, found.messages, found.first_seq, found.last_seq) == (4, 20, 1, 20)
    assert is_read(archive)


# -- segments -------------------------------------------------------------------------------------


def test_a_missing_segment_is_named(archive: Path) -> None:
    (archive / SECOND).unlink()

    check(archive, f"{SECOND} is missing")


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_segment_that_was_cut_is_named(archive: Path, length: int) -> None:
    content = (archive / THIRD).read_bytes()
    (archive / THIRD).write_bytes(content[:length])

    check(archive, f"{THIRD}: it was cut or grew: {len(content[:length])} bytes")


def test_a_segment_that_grew_is_named(archive: Path) -> None:
    with (archive / FIRST).open("ab") as file:
        file.write(b"\0")

    check(archive, f"{FIRST}: it was cut or grew")


def test_exchanged_segments_are_named_with_what_they_hold(archive: Path) -> None:
    one, two = (archive / SECOND).read_bytes(), (archive / THIRD).read_bytes()
    (archive / SECOND).write_bytes(two)
    (archive / THIRD).write_bytes(one)

    check(
        archive,
        f"{SECOND}: it was exchanged: it holds the messages 11 to 15",
        f"{THIRD}: it was exchanged: it holds the messages 6 to 10",
    )


def test_a_segment_of_another_stream_is_named(archive: Path, foreign: Path) -> None:
    shutil.copy(foreign / SECOND, archive / SECOND)

    check(archive, f"{SECOND}: it is a segment of another stream (cell main, stream made at")


def test_a_file_that_is_no_segment_is_named(archive: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), archive / THIRD)

    check(archive, THIRD)


@pytest.mark.parametrize("name", ["stray.parquet", SECOND.replace("10", "11")])
def test_a_segment_that_nobody_listed_is_named(archive: Path, name: str) -> None:
    shutil.copy(archive / SECOND, archive / name)

    assert inspect(archive).violations == [f"{name} is not in {NAME}"]


# -- the manifest ---------------------------------------------------------------------------------


def test_a_missing_manifest_is_noticed(archive: Path) -> None:
    (archive / NAME).unlink()

    check(archive, f"{SECOND} is not in {NAME}", f"{LAST} is not in {NAME}")


def test_exchanged_lines_are_named(archive: Path) -> None:
    one, two, three, four = lines(archive)
    rewrite(archive, [one, three, two, four])

    check(archive, f"line 2 of {NAME}: it does not follow", f"line 2 of {NAME}: 11 follows 5")


def test_a_segment_that_was_removed_with_its_line_is_noticed(archive: Path) -> None:
    one, _, three, four = lines(archive)
    rewrite(archive, [one, three, four])
    (archive / SECOND).unlink()

    check(archive, f"line 2 of {NAME}: it does not follow", f"line 2 of {NAME}: 11 follows 5")


def test_a_beginning_that_was_removed_is_noticed(archive: Path) -> None:
    rewrite(archive, lines(archive)[1:])
    (archive / FIRST).unlink()

    check(archive, f"line 1 of {NAME}: it does not follow")


def test_a_repeated_line_is_noticed(archive: Path) -> None:
    rewrite(archive, [*lines(archive), lines(archive)[-1]])

    check(archive, f"line 5 of {NAME}: it does not follow")


def test_a_line_of_another_archive_is_noticed(archive: Path, foreign: Path) -> None:
    rewrite(archive, [*lines(archive)[:3], lines(foreign)[3]])

    check(archive, f"line 4 of {NAME}: it is of another stream", f"line 4 of {NAME}: it does not")


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 64},
        {"size_bytes": 1},
        {"file": FIRST + "x"},
        {"first_seq": 2},
        {"last_seq": 21},
        {"messages": 4},
        {"messages": 0},
        {"previous": "f" * 64},
        {"cell": "other"},
        {"stream_created": "other"},
        {"format": "dtest.archive.v2"},
        {"note": "more"},
    ],
    ids=lambda change: str(*change),
)
def test_an_edited_line_is_noticed(archive: Path, number: int, change: dict[str, object]) -> None:
    content = lines(archive)
    content[number] = edit(content[number], **change)
    rewrite(archive, content)

    check(archive)
    assert inspect(archive).violations


@pytest.mark.parametrize("name", ["renamed.parquet", "../renamed.parquet"])
def test_a_segment_that_was_renamed_in_its_line_too_is_named(archive: Path, name: str) -> None:
    *rest, last = lines(archive)
    (archive / LAST).rename(archive / name)
    rewrite(archive, [*rest, edit(last, file=name)])

    check(archive, f"line 4 of {NAME}: the messages 16 to 20 do not belong into '{name}'")


def test_a_line_in_another_spelling_is_noticed(archive: Path) -> None:
    *rest, last = lines(archive)
    rewrite(archive, [*rest, last.replace(b":", b": ", 1)])

    check(archive, f"line 4 of {NAME} is no entry")


def test_an_edit_whose_hashes_were_made_to_fit_is_noticed_by_the_segment(archive: Path) -> None:
    *rest, last = lines(archive)
    content = (archive / THIRD).read_bytes()
    (archive / LAST).write_bytes(content)
    forged = edit(last, sha256=orjson.loads(rest[2])["sha256"], size_bytes=len(content))
    rewrite(archive, [*rest, forged])

    check(archive, f"{LAST} does not agree with its line")


# -- anything ---------------------------------------------------------------------------------


def test_no_flipped_bit_goes_unnoticed(archive: Path) -> None:
    luck = random.Random(1)
    intact = contents(archive)
    names = sorted(intact)
    for _ in range(FLIPS):
        name = luck.choice([NAME, *names])
        damaged = bytearray(intact[name])
        place = luck.randrange(len(damaged))
        damaged[place] ^= 1 << luck.randrange(8)
        (archive / name).write_bytes(damaged)

        assert inspect(archive).violations, (name, place)
        assert not is_read(archive), (name, place)
        (archive / name).write_bytes(intact[name])


def test_the_last_byte_of_the_manifest_is_as_good_as_any(archive: Path) -> None:
    content = bytearray((archive / NAME).read_bytes())
    content[-1] ^= 1
    (archive / NAME).write_bytes(content)

    assert inspect(archive).violations == [
        f"the last line of {NAME} has no end, and fits no segment"
    ]


def test_all_that_is_wrong_is_named_not_only_the_first(archive: Path) -> None:
    (archive / FIRST).unlink()
    (archive / THIRD).write_bytes(b"")

    assert [text.partition(".")[0] for text in inspect(archive).violations] == [
        FIRST.removesuffix(".parquet"),
        THIRD.removesuffix(".parquet"),
    ]


async def test_violations_in_words_are_bounded(tmp_path: Path) -> None:
    await archived(Told(numbered(VIOLATIONS_MAX + 5)), tmp_path, segment=1)
    for path in segments(tmp_path):
        path.unlink()

    assert len(inspect(tmp_path).violations) == VIOLATIONS_MAX


# -- the head ---------------------------------------------------------------------------------


async def test_a_head_that_was_kept_holds_for_an_archive_that_grew(tmp_path: Path) -> None:
    journal = Told(TOLD[:8])
    await archived(journal, tmp_path, segment=SEGMENT)
    kept = inspect(tmp_path).head
    await archived(Told(TOLD), tmp_path, segment=SEGMENT)

    assert inspect(tmp_path, head=kept).violations == []
    assert inspect(tmp_path).head != kept


def test_an_end_that_was_cut_off_cleanly_is_shown_by_the_head_alone(archive: Path) -> None:
    kept = inspect(archive).head
    rewrite(archive, lines(archive)[:-1])
    (archive / LAST).unlink()

    assert inspect(archive).violations == []
    (text,) = inspect(archive, head=kept).violations
    assert "an end was cut off" in text


def test_an_archive_that_was_replaced_as_a_whole_is_shown_by_the_head(
    archive: Path, foreign: Path
) -> None:
    kept = inspect(archive).head

    assert inspect(foreign).violations == []
    assert inspect(foreign, head=kept).violations
