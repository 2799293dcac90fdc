"""Archive and journal, read as one, are the journal; where they are not, nothing is read."""

from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from dtest.archive.joined import ArchivedJournal, JoinedJournal, join
from dtest.archive.reader import open_archive
from dtest.errors import Conflict, Damaged, SequenceGap
from dtest.events.fields import CellId
from dtest.journal.api import ask_api
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.port import Outgoing, ReadableJournal, Stored, read_to
from dtest.journal.streams import stream_configs
from dtest.leadership.audit import verify
from dtest.runtime.ids import IdSource
from dtest.state.cell import Cell
from dtest.state.fold import apply
from dtest.state.snapshot import dump
from tests.kit import facts
from tests.kit.archives import Told, archived, numbered, segments
from tests.kit.nats import LIMITS, connected, running
from tests.kit.recording import Recording
from tests.projections.story import Story

TOLD = numbered(30)
AFTER = (0, 1, 3, 4, 5, 16, 17, 18, 29, 30)


async def read(
    journal: ReadableJournal,
    after: int = 0,
    *,
    until: int | None = None,
    subject: str | None = None,
) -> list[Stored]:
    last = (await journal.bounds()).last if until is None else until
    async with aclosing(read_to(journal, after, last, subject=subject)) as batches:
        return [stored async for batch in batches for stored in batch]


async def one_of(
    directory: Path, stored: int, told: list[Stored], first: int = 1, created: str = "recording"
) -> JoinedJournal:
    """An archive of so many messages, and a journal that begins later."""
    await archived(Told(TOLD[:stored]), directory, segment=4)
    journal = Told(told, first=first, created=created)
    return await join(open_archive(directory), journal, facts.CELL)


@pytest.mark.parametrize("stored", [1, 4, 17, 30])
@pytest.mark.parametrize("first", [1, 2, 17, 18, 31])
async def test_archive_and_journal_are_read_as_the_journal(
    tmp_path: Path, stored: int, first: int
) -> None:
    if first > stored + 1:
        with pytest.raises(SequenceGap, match=f"begins at {first}, the archive ends at {stored}"):
            await one_of(tmp_path, stored, TOLD, first)
        return
    journal = await one_of(tmp_path, stored, TOLD, first)

    for after in AFTER:
        assert await read(journal, after) == TOLD[after:]
        assert await read(journal, until=after) == TOLD[:after]
    bounds = await journal.bounds()
    assert (bounds.first, bounds.last, bounds.messages) == (1, 30, 30)
    assert [await journal.get(seq) for seq in range(32)] == [None, *TOLD, None]


@pytest.mark.parametrize("first", [1, 9, 18])
async def test_one_subject_is_read_from_both(tmp_path: Path, first: int) -> None:
    journal = await one_of(tmp_path, 17, TOLD, first)
    pattern = "dtest.main.client.c1.>"
    wanted = [stored for stored in TOLD if ".c1." in stored.subject]

    assert await read(journal, subject=pattern, until=wanted[-1].seq) == wanted


async def test_an_archive_alone_is_read_as_the_journal_was(tmp_path: Path) -> None:
    await archived(Told(TOLD), tmp_path, segment=4)
    journal = ArchivedJournal(open_archive(tmp_path))

    for after in AFTER:
        assert await read(journal, after) == TOLD[after:]
    assert await journal.bounds() == await Told(TOLD).bounds()
    assert [await journal.get(seq) for seq in range(32)] == [None, *TOLD, None]
    async with journal.follow(26) as feed:
        assert [stored async for batch in feed for stored in batch] == TOLD[26:]
    with pytest.raises(SequenceGap, match="the archive ends at 30, before 31"):
        async with journal.follow(31):
            raise AssertionError


async def test_an_archive_that_begins_late_says_so(tmp_path: Path) -> None:
    await archived(Told(TOLD, first=5), tmp_path, segment=4)

    for journal in (
        ArchivedJournal(open_archive(tmp_path)),
        await join(open_archive(tmp_path), Told(TOLD), facts.CELL),
    ):
        with pytest.raises(SequenceGap, match="the archive begins at 5"):
            await read(journal)
        assert await read(journal, 4) == TOLD[4:]


# -- where they are not one -------------------------------------------------------------------


@pytest.mark.parametrize("seq", [1, 8, 16])
@pytest.mark.parametrize("what", ["subject", "stored_at", "id", "payload"])
async def test_a_message_that_differs_is_named(tmp_path: Path, seq: int, what: str) -> None:
    other = {"subject": "x.y", "stored_at": 1.0, "id": "other", "payload": b"other"}
    change: dict[str, Any] = {what: other[what]}
    told = [*TOLD]
    told[seq - 1] = replace(told[seq - 1], **change)
    journal = await one_of(tmp_path, 17, told)

    with pytest.raises(Damaged, match=f"message {seq} is not the same .*: {what}$"):
        await read(journal)
    with pytest.raises(Damaged):
        await journal.get(seq)
    report = await verify(journal, facts.CELL)
    assert any(f"message {seq} is not the same" in text for text in report.violations)


async def test_a_message_where_they_meet_that_differs_is_found_at_once(tmp_path: Path) -> None:
    told = [*TOLD[:16], *numbered(30, word="other")[16:]]

    with pytest.raises(Damaged, match="message 17 is not the same"):
        await one_of(tmp_path, 17, told)


@pytest.mark.parametrize("seq", [4, 16])
async def test_a_message_that_left_its_subject_is_noticed(tmp_path: Path, seq: int) -> None:
    told = [replace(one, subject="x.y") if one.seq == seq else one for one in TOLD]
    journal = await one_of(tmp_path, 17, told)

    with pytest.raises(Damaged):
        await read(journal, subject="dtest.main.client.c1.>", until=28)


async def test_a_journal_that_ends_before_the_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SequenceGap, match="the journal ends at 9, before the archive's end at 17"):
        await one_of(tmp_path, 17, TOLD[:9])


async def test_a_new_and_empty_journal_is_refused(tmp_path: Path) -> None:
    await archived(Told(TOLD), tmp_path, segment=4)

    with pytest.raises(SequenceGap, match="the journal ends at 0"):
        await join(open_archive(tmp_path), Recording([]), facts.CELL)


async def test_an_archive_of_another_cell_is_refused(tmp_path: Path) -> None:
    await archived(Told(TOLD), tmp_path, segment=4, cell=CellId("other"))

    with pytest.raises(Conflict, match="the archive is of the cell other"):
        await join(open_archive(tmp_path), Told(TOLD), facts.CELL)


async def test_another_stream_counts_as_the_same_journal_if_it_holds_the_same(
    tmp_path: Path,
) -> None:
    journal = await one_of(tmp_path, 17, TOLD, 17, created="when the mirror was promoted")

    assert await read(journal) == TOLD


async def test_another_stream_that_shares_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="they share no message"):
        await one_of(tmp_path, 17, TOLD, 18, created="another day")


async def test_a_damaged_archive_is_a_violation_for_the_audit(tmp_path: Path) -> None:
    journal = await one_of(tmp_path, 17, TOLD)
    segments(tmp_path)[2].write_bytes(b"")

    report = await verify(journal, facts.CELL)

    assert any("was cut or grew" in text for text in report.violations)


# -- what is made of it -------------------------------------------------------------------------


async def folded(journal: ReadableJournal) -> bytes:
    cell = Cell(facts.CELL)
    for stored in await read(journal):
        apply(cell, stored.record())
    return dump(cell)


@pytest.mark.parametrize("seed", range(2))
async def test_audit_and_replay_say_the_same_as_of_the_journal(tmp_path: Path, seed: int) -> None:
    told = Story(seed).tell(50).journal
    alone = Told(told)
    await archived(alone, tmp_path / "all", segment=13)
    await archived(Told(told[: len(told) // 2]), tmp_path / "half", segment=13)
    expected = await verify(alone, facts.CELL)
    assert expected.messages == len(told)

    for journal in (
        ArchivedJournal(open_archive(tmp_path / "all")),
        await join(open_archive(tmp_path / "all"), alone, facts.CELL),
        await join(open_archive(tmp_path / "half"), alone, facts.CELL),
        await join(open_archive(tmp_path / "half"), Told(told, first=len(told) // 2), facts.CELL),
    ):
        assert asdict(await verify(journal, facts.CELL)) == asdict(expected)
        assert await folded(journal) == await folded(alone)


async def test_a_real_stream_without_its_beginning_is_whole_with_its_archive(
    tmp_path: Path,
) -> None:
    cell = CellId("purged")
    (config, *_) = stream_configs(cell, LIMITS)
    config["deny_purge"] = False
    async with running(tmp_path / "nats") as server, connected(server.address) as connection:
        await ask_api(connection, f"STREAM.CREATE.{config['name']}", config)
        journal = JetStreamJournal(connection, str(config["name"]), new_id=IdSource())
        for stored in TOLD:
            where = stored.subject.replace("main", cell)
            await journal.append(Outgoing(where, stored.payload, stored.id))
        before = await read(journal)
        await archived(journal, tmp_path / "archive", segment=4, cell=cell)
        for first in (8, 31):
            await ask_api(connection, f"STREAM.PURGE.{config['name']}", {"seq": first})
            both = await join(open_archive(tmp_path / "archive"), journal, cell)

            assert (await journal.bounds()).first == first
            assert await read(both) == before
            assert (await both.bounds()).messages == len(TOLD)
        await journal.append(Outgoing(before[0].subject, b"later", "later"))
        assert [one.payload for one in await read(both, 30)] == [b"later"]
        (added,) = await archived(journal, tmp_path / "archive", segment=4, cell=cell)
        assert added.label.span == "the messages 31 to 31"
