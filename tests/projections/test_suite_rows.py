"""Rows of suites: refused ones have none, and lists are numbered alike over any restart."""

import pytest

from dtest.events import codec
from dtest.events.catalogue import Payload
from dtest.events.envelope import Event
from dtest.events.fields import EventId, RunId
from dtest.events.suite import SuiteSubmitted
from dtest.events.suite_list import ListPart, SuiteListed
from dtest.journal.port import Stored
from dtest.leadership.rules import RULES, elected
from dtest.projections.rows import Rows
from dtest.state.cell import Cell
from tests.kit import facts

DIGEST = "ab" * 32


def stored(seq: int, data: Payload) -> Stored:
    event = Event(EventId(f"e{seq}"), facts.source(data), facts.START, data)
    return Stored(seq, facts.where(data), facts.START, event.id, codec.encode([event]))


def add(rows: Rows, message: Stored) -> None:
    rows.add(message.record(), message.payload)


def test_a_suite_that_an_older_leader_refuses_has_no_row_and_ends_no_reader() -> None:
    rows = Rows(Cell(facts.CELL))
    add(rows, stored(1, elected("old", rules=RULES[2])))
    add(rows, stored(2, SuiteSubmitted(RunId("r"), cwd="/srv")))

    taken = rows.take()

    assert "runs" not in taken
    assert "suites_new" not in taken
    assert [row[-1] for row in taken["events"]][1].startswith("unknown_event")


@pytest.mark.parametrize("read_before", [0, 1, 2])
def test_a_list_is_numbered_alike_wherever_its_reader_began_again(read_before: int) -> None:
    messages = [
        stored(1, SuiteListed(DIGEST, 0, ListPart(3, (("a", ""), ("b", ""))))),
        stored(2, SuiteListed(DIGEST, 1, ListPart(3, (("c", ""),)))),
        stored(3, SuiteListed(DIGEST, 2, ListPart(3, (("d", ""), ("e", ""))))),
    ]
    rows = Rows(Cell(facts.CELL))
    for message in messages[:read_before]:
        rows.fold(message.record())
    for message in messages[read_before:]:
        add(rows, message)

    found = [(number, name) for _, number, _, name, _ in rows.take()["lists"]]

    assert found == list(enumerate("abcde"))[[0, 2, 3][read_before] :]
