"""docs/archive.md does what it says: its programs run over a real archive, without dtest."""

import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import duckdb
import orjson

from dtest.archive.archiver import SegmentSize
from dtest.archive.inspection import inspect
from dtest.archive.manifest import BEFORE_ALL, FORMAT, NAME
from dtest.archive.reader import read_archive
from dtest.archive.segment import LABEL_KEY, SCHEMA
from dtest.archive.writer import UNFINISHED
from dtest.cli.archive import SEGMENT_MESSAGES_DEFAULT, SEGMENT_SECONDS_DEFAULT
from dtest.events.codec import wire_type
from dtest.events.envelope import Event
from dtest.runtime.clock import instant
from tests.kit.archives import Told, archived, segments
from tests.kit.markdown import DOCS, blocks, blocks_in
from tests.projections.story import Story

PAGE = "archive.md"
PLACE = "ARCHIVE"
TOLD = Story(3).tell(60).journal


async def made(tmp_path: Path) -> Path:
    directory = tmp_path / PLACE
    await archived(Told(TOLD), directory, segment=40)
    return directory


def run(program: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_no_code_block_goes_without_a_test() -> None:
    assert Counter(block.language for block in blocks(PAGE)) == {"bash": 1, "sql": 1, "python": 1}


async def test_the_query_counts_the_events_of_each_type(tmp_path: Path) -> None:
    directory = await made(tmp_path)
    expected: dict[str, list[datetime]] = {}
    for stored in read_archive(directory):
        for event in stored.record().events:
            if isinstance(event, Event):
                at = instant(stored.stored_at).replace(tzinfo=None)
                expected.setdefault(wire_type(event.type), []).append(at)
    (sql,) = blocks_in(PAGE, "sql")

    with duckdb.connect() as connection:
        rows = connection.execute(sql.replace(PLACE, str(directory))).fetchall()

    counted = {name: rest for name, *rest in rows if name and name.startswith("dev.dtest.")}
    assert counted == {name: [len(at), min(at), max(at)] for name, at in expected.items()}
    assert len(counted) > 5


async def test_the_program_checks_an_archive_and_finds_what_is_wrong(tmp_path: Path) -> None:
    directory = await made(tmp_path)
    (program,) = blocks_in(PAGE, "python")

    good = run(program, tmp_path)
    assert (good.returncode, good.stdout.strip()) == (0, inspect(directory).head)

    second = segments(directory)[1]
    second.write_bytes(second.read_bytes()[:-1])
    bad = run(program, tmp_path)
    assert bad.returncode != 0
    assert f"{second.name} was changed" in bad.stderr


async def test_the_format_is_the_one_on_the_page(tmp_path: Path) -> None:
    directory = await made(tmp_path)
    text = (DOCS / PAGE).read_text(encoding="utf-8")

    for name in SCHEMA.names:
        assert f"\n| `{name}` |" in text
    for word in (FORMAT, NAME, UNFINISHED, LABEL_KEY.decode(), segments(directory)[0].suffix):
        assert word in text
    entry = orjson.loads((directory / NAME).read_bytes().splitlines()[0])
    assert list(entry) == ["file", "size_bytes", "sha256", "label"]
    for name in entry["label"]:
        assert f"`label.{name}`" in text
    assert entry["label"]["previous"] == BEFORE_ALL == "0" * 64
    assert f"has {SEGMENT_MESSAGES_DEFAULT:,} messages" in text
    assert SegmentSize().messages == SEGMENT_MESSAGES_DEFAULT
    assert f"fewer that hold {SegmentSize().payload_bytes >> 20} MiB" in text
    assert f"after {SEGMENT_SECONDS_DEFAULT:.0f} s" in text
