"""Journals that older code wrote: for ever the same state, the same rows, and no violation.

A journal that changes here means that a rule changed. See "Golden journals" in CONTRIBUTING.md.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dtest.archive.inspection import inspect
from dtest.archive.reader import open_archive
from dtest.events.catalogue import PAYLOADS
from dtest.events.envelope import Event
from dtest.events.fields import CellId
from dtest.events.parameters import UNRECORDED, UNRECORDED_STRATEGIES
from dtest.journal.port import Stored
from dtest.leadership.audit import verify
from dtest.leadership.rules import RULES
from dtest.state.cell import Cell
from dtest.state.fold import apply
from dtest.state.snapshot import dump, load
from tests.golden.account import Section, folded, rows_of, state_of, sums_of
from tests.golden.record import EXPECTED, JOURNALS
from tests.kit.recording import Recording

GOLDEN = sorted(path.parent for path in JOURNALS.glob(f"*/*/{EXPECTED}"))
SIZE_BYTES_MAX = 3_000_000
"""Size of all golden journals in bytes: a checkout carries them for ever."""
journals = pytest.mark.parametrize(
    "directory", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.name}"
)


@cache
def read(directory: Path) -> tuple[CellId, list[Stored]]:
    """The messages of a golden journal."""
    archive = open_archive(directory)
    return archive.stream.cell, [stored for batch in archive.batches() for stored in batch]


def expected(directory: Path) -> dict[str, Any]:
    """What the code of that day made of it."""
    found: dict[str, Any] = json.loads((directory / EXPECTED).read_bytes())
    return found


def check(found: dict[str, Section], stated: dict[str, Any], directory: Path) -> None:
    """Compare section by section, in the fields that were known then."""
    name = f"{directory.parent.name}/{directory.name}"
    hint = f"`python -m tests.golden.record --account {name}` shows it; compare two checkouts"
    for section, summary in stated.items():
        fields = summary["fields"].split()
        assert found[section].narrowed(fields).summary() == summary, f"{name}: {section}; {hint}"


@journals
def test_the_archive_is_whole(directory: Path) -> None:
    assert inspect(directory).violations == []


@journals
def test_the_fold_gives_the_same_state(directory: Path) -> None:
    cell_id, stored = read(directory)

    check(state_of(folded(stored, cell_id)), expected(directory)["state"], directory)


@journals
def test_a_fold_from_a_snapshot_gives_the_same_state(directory: Path) -> None:
    cell_id, stored = read(directory)
    half = len(stored) // 2
    cell = go_on(load(dump(folded(stored[:half], cell_id))), stored[half:])

    check(state_of(cell), expected(directory)["state"], directory)


def go_on(cell: Cell, stored: Sequence[Stored]) -> Cell:
    for message in stored:
        apply(cell, message.record())
    return cell


@journals
async def test_the_projection_gives_the_same_rows(directory: Path) -> None:
    cell_id, stored = read(directory)
    stated = expected(directory)["rows"]
    columns = {table: tuple(summary["fields"].split()) for table, summary in stated.items()}

    check(await rows_of(stored, cell_id, columns), stated, directory)


@journals
async def test_the_audit_finds_no_violation_and_the_same_sums(directory: Path) -> None:
    cell_id, stored = read(directory)
    report = await verify(Recording(stored), cell_id)

    assert (report.violations, report.doubts) == ([], [])
    not_again = sum(report.decisions_not_again.values())
    assert report.decisions_again == report.decisions - not_again
    sums = expected(directory)["sums"]
    if int(directory.parent.name.removeprefix("rules-")) in RULES:
        assert not_again == 0 or len(report.terms) > 1, "only older leaders after newer ones"
    else:  # these rules are not kept any more: their decisions are checked in their facts
        sums["decisions_partial"] = 0
    assert sums_of(report) == sums


def test_what_was_in_force_without_being_recorded_never_changes() -> None:
    stated = json.loads(Path(__file__).with_name("unrecorded.json").read_bytes())

    assert stated["parameters"].items() <= asdict(UNRECORDED).items()
    assert stated["strategies"] == UNRECORDED_STRATEGIES


def test_every_event_stands_in_some_golden_journal() -> None:
    seen = {
        event.type
        for directory in GOLDEN
        for stored in read(directory)[1]
        for event in stored.record().events
        if isinstance(event, Event)
    }

    assert set(PAYLOADS) - seen == set()


def test_the_golden_journals_are_small() -> None:
    sizes = (path.stat().st_size for path in JOURNALS.rglob("*") if path.is_file())

    assert sum(sizes) <= SIZE_BYTES_MAX


async def test_a_journal_of_rules_from_before_they_were_recorded_is_no_violation() -> None:
    """It was written before a task went back to a worker that was lost and came back (ADR 29)."""
    cell_id, stored = read(JOURNALS / "older" / "simulated")
    report = await verify(Recording(stored), cell_id)
    assert report.violations == []
    assert len(report.doubts) > 0
    assert report.verdict == "it cannot be told whether the journal holds"

    trusting = await verify(Recording(stored), cell_id, unrecorded="trust")
    assert (trusting.violations, trusting.doubts) == ([], [])
    assert sum(trusting.decisions_not_again.values()) == trusting.decisions
