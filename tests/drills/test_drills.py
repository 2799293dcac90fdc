"""Drills as an operator runs them: real processes, real kills, and everything holds afterwards."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtest.drills.catalogue import DRILLS
from dtest.drills.layout import Way
from tests.cli.command import Person
from tests.kit.namespaces import refusal


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    someone = Person(tmp_path / "home", tmp_path)
    try:
        yield someone
    finally:
        someone.end_all()


def drilled(
    person: Person, name: str, runs: int, nodes: int = 1, more: tuple[str, ...] = ()
) -> dict[str, object]:
    """Run a drill; everything must hold and nothing may be left."""
    words = ("--nodes", str(nodes), "--runs", str(runs), "--json", "--report", "page.html")
    found = person.dtest("drill", "run", name, *words, *more).good().json
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


def test_parameters_change_under_load_and_the_next_leader_decides_by_them(person: Person) -> None:
    found = drilled(person, "policy", 1)

    assert found["client_errors"] == []
    assert "the parameters in force are those that were chosen" in str(found["checks"])


@pytest.mark.slow
def test_a_worker_dies_and_its_work_goes_elsewhere(person: Person) -> None:
    drilled(person, "worker", 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(DRILLS.keys() - {"leader", "policy", "worker", "acknowledgements"})
)
def test_every_drill_holds(person: Person, name: str) -> None:
    drill = DRILLS[name]
    refused = asyncio.run(refusal()) if drill.layout.ways == (Way.NETNS,) else ""
    if refused:
        ended = person.dtest("drill", "run", name, "--nodes", str(drill.nodes[0]))
        assert refused in ended.err
        return
    drilled(person, name, 2, drill.nodes[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["worker-partition", "leader-partition"])
def test_a_wire_can_be_cut_where_there_are_no_namespaces(person: Person, name: str) -> None:
    found = drilled(person, name, 1, more=("--partition", "proxy"))

    assert (found["partition"], found["partition_why"]) == ("proxy", "it was asked for")


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
        (("leader", "--partition", "proxy"), 2, "leader cuts nothing off"),
        (("acknowledgements", "--partition", "netns"), 2, "can be cut off by proxy alone"),
        (
            ("broker-partition", "--nodes", "3", "--partition", "proxy"),
            2,
            "can be cut off by netns alone",
        ),
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
    ways = {one["name"]: one["partition"] for one in listed if one["partition"]}
    assert ways == {
        "worker-partition": ["netns", "proxy"],
        "leader-partition": ["netns", "proxy"],
        "acknowledgements": ["proxy"],
        "broker-partition": ["netns"],
    }
