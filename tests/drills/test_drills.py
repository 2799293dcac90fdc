"""Drills as an operator runs them: real processes, real kills, and everything holds afterwards."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtest.drills.catalogue import DRILLS
from tests.cli.command import Person


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    someone = Person(tmp_path / "home", tmp_path)
    try:
        yield someone
    finally:
        someone.end_all()


def drilled(person: Person, name: str, runs: int, nodes: int = 1) -> dict[str, object]:
    """Run a drill; everything must hold and nothing may be left."""
    words = ("--nodes", str(nodes), "--runs", str(runs), "--json", "--report", "page.html")
    found = person.dtest("drill", "run", name, *words).good().json
    assert (found["lost"], found["duplicated"], found["violations"]) == (0, 0, [])
    assert found["tasks"] > 0
    assert found["runs"] >= runs
    assert len(found["checks"]) >= 5
    assert "<svg" in (person.cwd / "page.html").read_text()
    person.nothing_runs()
    return dict(found)


def test_a_leader_is_killed_and_stopped_and_nobody_notices(person: Person) -> None:
    found = drilled(person, "leader", 2)

    assert found["client_errors"] == []
    assert found["faulted_attempts"] == 0
    assert set(json.loads(json.dumps(found["recovery_ms_by_kind"]))) == {"SIGKILL", "SIGSTOP"}


def test_a_worker_dies_and_its_work_goes_elsewhere(person: Person) -> None:
    drilled(person, "worker", 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DRILLS.keys() - {"leader", "worker", "acknowledgements"}))
def test_every_drill_holds(person: Person, name: str) -> None:
    drilled(person, name, 2, DRILLS[name].nodes[0])


@pytest.mark.slow
def test_acknowledgements_are_kept_away_for_a_minute(person: Person) -> None:
    drilled(person, "acknowledgements", 1)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nothing",), 2, "there is no drill 'nothing'"),
        (("leader", "--nodes", "2"), 2, "leader runs on 1"),
        (("leader", "--nodes", "one"), 2, "leader runs on 1"),
        (("leader", "--runs", "0"), 2, "at least 1 is needed"),
    ],
)
def test_what_cannot_be_run_is_told(
    person: Person, words: tuple[str, ...], code: int, said: str
) -> None:
    ended = person.dtest("drill", "run", *words)

    assert ended.code == code
    assert said in ended.err


def test_the_drills_are_listed(person: Person) -> None:
    listed = person.dtest("drill", "ls", "--json").good().json["drills"]

    assert [one["name"] for one in listed] == list(DRILLS)
