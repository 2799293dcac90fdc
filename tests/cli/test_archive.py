"""``dtest archive``, and the past read from an archive: with the journal as one, or alone."""

import signal
from pathlib import Path

import orjson
import pytest

from dtest.archive.reader import read_archive
from tests.cli.cell import CellUser, command
from tests.cli.command import Person, interrupt


@pytest.fixture
def archive(cell: CellUser) -> Path:
    """What the shared cell's journal holds now."""
    cell.submit(command("true"), command("false"))
    cell.here("archive", "write", "--to", "archive", "--segment-messages", "50").good()
    return cell.cwd / "archive"


def test_the_journal_is_written_and_the_next_call_adds_what_came(cell: CellUser) -> None:
    cell.submit(command("true"))
    words = ("archive", "write", "--to", "archive", "--segment-messages", "20", "--json")
    first = cell.here(*words).good().json
    cell.submit(command("true"))

    second = cell.here(*words).good().json

    assert first["messages_written"] == first["last_seq"]
    assert first["segments_written"] == -(-first["last_seq"] // 20)
    assert second["last_seq"] == first["last_seq"] + second["messages_written"]
    assert second["messages_written"] > 0
    checked = cell.here("archive", "verify", "archive", "--head", first["head"], "--json").good()
    assert checked.json["violations"] == []
    assert checked.json["messages"] == second["last_seq"]
    assert checked.json["head"] == second["head"]


def test_a_person_is_told_what_was_written_and_the_head(cell: CellUser) -> None:
    ended = cell.dtest("archive", "write", "--to", "archive").good()

    checked = cell.here("archive", "verify", "archive").good()
    assert ", in 1 new segment" in ended.err
    assert ended.out.strip() in checked.out
    assert "all holds" in checked.err


def test_an_archive_follows_the_journal_until_it_is_interrupted(cell: CellUser) -> None:
    options = ("--follow", "--segment-messages", "5", "--segment-seconds", "0.1", "--json")
    last = cell.here("status", "--json").json["journal"]["last_seq"]
    with cell.started("archive", "write", "--to", "archive", *options) as call:
        assert call.stdout is not None
        seen = 0
        while seen < last:
            seen = orjson.loads(call.stdout.readline())["label"]["last_seq"]
        cell.submit(command("true"))
        later = orjson.loads(call.stdout.readline())["label"]["last_seq"]
        ended = interrupt(call)

    assert later > last
    assert ended.code == 130
    assert cell.here("archive", "verify", "archive", "--json").good().json["last_seq"] >= later


def test_a_follower_that_is_terminated_leaves_a_sound_archive(cell: CellUser) -> None:
    options = ("--follow", "--segment-messages", "5", "--json")
    with cell.started("archive", "write", "--to", "archive", *options) as call:
        assert call.stdout is not None
        call.stdout.readline()
        ended = interrupt(call, signal.SIGTERM)

    assert ended.code == 143
    cell.here("archive", "verify", "archive").good()


def test_audit_and_replay_are_the_same_with_an_archive(cell: CellUser, archive: Path) -> None:
    cell.submit(command("true"))
    both = ("--archive", str(archive), "--json")

    for words in (("event", "verify"), ("event", "replay"), ("event", "show", "3")):
        alone = cell.here(*words, "--json").good().json
        assert cell.here(*words, *both).good().json == alone


def test_an_archive_is_read_by_somebody_without_a_cell(
    cell: CellUser, archive: Path, person: Person
) -> None:
    last = len(list(read_archive(archive)))
    offline = ("--archive", str(archive), "--offline", "--json")
    expected = cell.here("event", "replay", "--to", str(last), "--json").good().json
    (message,) = (stored for stored in read_archive(archive) if stored.seq == last)

    assert person.here("event", "replay", *offline).good().json == expected
    audited = person.here("event", "verify", *offline).good().json
    assert (audited["violations"], audited["last_seq"]) == ([], last)
    shown = person.here("event", "show", str(last), *offline).good().json
    assert shown["stored_at"] == message.stored_at
    missing = person.here("event", "show", str(last + 1), *offline)
    assert (missing.code, missing.error["code"]) == (2, "not_found")


@pytest.mark.parametrize(
    "words",
    [
        "archive verify DIR",
        "event verify --archive DIR",
        "event verify --archive DIR --offline",
        "event replay --archive DIR",
        "event replay --archive DIR --offline",
        "event show 1 --archive DIR",
    ],
)
def test_a_damaged_archive_is_said_by_each_command(
    cell: CellUser, archive: Path, words: str
) -> None:
    damaged = min(archive.glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1])

    ended = cell.here(*words.replace("DIR", str(archive)).split())

    assert ended.code == 3
    assert f"{damaged.name}: it was cut or grew" in ended.out + ended.err


def test_an_archive_of_another_journal_is_refused(
    cell: CellUser, archive: Path, person: Person
) -> None:
    person.dtest("up", "--workers", "0").good()
    try:
        ended = person.here("event", "replay", "--archive", str(archive))
        appended = person.here("archive", "write", "--to", str(archive))
    finally:
        person.dtest("down", "--purge").good()

    assert ended.code == 3
    assert "the journal ends at" in ended.err
    assert appended.code == 2
    assert "is of another stream" in appended.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("archive write", "requires an argument"),
        ("archive write --to x --segment-messages 0", "--segment-messages is 0, not 1 to"),
        ("archive write --to x --segment-seconds 3", "stands with --follow"),
        ("archive write --to x --follow --segment-seconds 0", "a number above 0"),
        ("archive verify nowhere", "nowhere holds no archive"),
        ("event replay --offline", "name it by --archive DIR"),
        ("event verify --archive nowhere", "`dtest archive write --to DIR` makes one"),
        ("event show 1 --archive nowhere --offline", "nowhere holds no archive"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(person: Person, words: str, says: str) -> None:
    ended = person.here(*words.split())

    assert ended.code == 2
    assert says in ended.err
    assert not (person.cwd / "x").exists()
