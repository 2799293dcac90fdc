"""``dtest event verify`` on archives alone: sound, forged, of other rules, of none."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dtest.events import codec
from dtest.events.attempt import AttemptAssigned
from dtest.events.catalogue import Payload
from dtest.events.envelope import Event
from dtest.journal.port import Stored
from dtest.leadership.rules import CURRENT, RULES, Rules
from dtest.state.term import UNRECORDED_RULES
from tests.cli.command import Ended, Person
from tests.kit.archives import archived
from tests.kit.facts import finished, machine, registered, started, task
from tests.kit.recording import Recording
from tests.kit.world import World

NEWER = replace(CURRENT, version=CURRENT.version + 1)


def journal(rules: Rules) -> list[Stored]:
    """Some decisions by these rules."""
    world = World(rules).led().given(registered("w", machine(2)))
    for name in "abc":
        world.given(task(name))
        for one in world.assign():
            world.given(started(one), finished(one))
    return world.journal


def forged(stored: Stored) -> Stored:
    """The message; an assignment with another limit than was decided."""
    (event, *_) = stored.record().events
    if not isinstance(event, Event) or not isinstance(event.data, AttemptAssigned):
        return stored
    fact: Payload = replace(event.data, timeout_seconds=1.0)
    return replace(stored, payload=codec.encode([replace(event, data=fact)]))


def verified(person: Person, messages: list[Stored], *words: str) -> Ended:
    place = person.cwd / "archive"
    place.mkdir()
    asyncio.run(archived(Recording(messages), place, segment=100))
    return person.dtest("event", "verify", "--archive", str(place), "--offline", *words)


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Someone without a cell."""
    return Person(tmp_path, tmp_path)


def test_a_sound_journal_holds_and_says_what_was_trusted(person: Person) -> None:
    ended = verified(person, journal(CURRENT)).good()

    assert ended.err.strip() == "all holds"
    assert "decisions: 3\ndecisions again: 3\n" in ended.out
    assert f"terms of rules {CURRENT.version}: 1" in ended.out
    assert "trusted: the parameters that the terms recorded" in ended.out
    assert "NOT DECIDED AGAIN" not in ended.out


def test_a_forged_decision_is_a_violation(person: Person) -> None:
    ended = verified(person, [forged(stored) for stored in journal(CURRENT)])

    assert ended.code == 3
    assert ended.out.count("VIOLATION decision") == 3
    assert "the journal does not hold" in ended.err


def test_a_journal_of_newer_rules_holds_as_far_as_it_can_be_told(person: Person) -> None:
    ended = verified(person, [forged(stored) for stored in journal(NEWER)]).good()

    assert f"NOT DECIDED AGAIN: 3 decisions by rules {NEWER.version}, newer than" in ended.out
    assert "3 decisions were not decided again" in ended.err


def test_the_same_for_programs(person: Person) -> None:
    found = verified(person, journal(NEWER), "--json").good().json

    assert found["violations"] == found["doubts"] == []
    assert list(found["decisions_not_again"].values()) == [3]
    assert found["verdict"] == "all holds that was checked; 3 decisions were not decided again"


@pytest.mark.parametrize("words", [(), ("--unrecorded-rules", "trust")])
def test_a_difference_where_no_rules_were_recorded_is_a_doubt_that_can_be_left(
    person: Person, words: tuple[str, ...]
) -> None:
    older = [forged(stored) for stored in journal(RULES[UNRECORDED_RULES])]
    ended = verified(person, older, *words)

    if words:
        assert ended.code == 0
        assert "NOT DECIDED AGAIN: 3 decisions by unrecorded rules" in ended.out
        return
    assert ended.code == 3
    assert "DOUBT decision" in ended.out
    assert "VIOLATION" not in ended.out
    assert "it cannot be told whether the journal holds" in ended.err
    assert "--unrecorded-rules trust" in ended.err
