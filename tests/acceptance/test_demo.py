"""The demo goes wrong in every planned way, ends as it should, and leaves nothing behind."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtest.cli.demo_tasks import expectations
from tests.cli.command import Person

pytestmark = pytest.mark.acceptance


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    someone = Person(tmp_path / "home", tmp_path)
    try:
        yield someone
    finally:
        someone.end_all()


def test_the_demo_ends_as_expected_and_its_journal_holds(person: Person) -> None:
    told = person.dtest("demo", "--exit", "--json").good().json

    assert told["as_expected"] is True
    rows = {row["task"]: row for row in told["tasks"]}
    assert set(rows) == set(expectations())
    assert all(row["as_expected"] for row in rows.values())
    assert Counter(row["status"] for row in rows.values()) == {
        "passed": 9,
        "errored": 2,
        "failed": 1,
        "cancelled": 1,
        "skipped": 1,
    }
    assert rows["flaky"]["flaky"]
    assert told["killed"].startswith("local-")
    assert rows["survives-its-worker"]["attempts"] >= 2
    assert rows["survives-its-worker"]["worker"] != told["killed"]
    assert {name for name, row in rows.items() if row["simulated"]} == {
        "train-on-cuda",
        "train-on-rocm",
        "train-on-any-gpu",
    }
    counts = told["testcases"]
    assert (counts["failed"], counts["error"], counts["skipped"]) == (1, 1, 1)
    assert told["verify"]["violations"] == []
    assert told["verify"]["tasks_accepted"] == told["verify"]["tasks_terminal"] == len(rows)
    assert told["verify"]["tasks_open"] == 0
    person.nothing_is_left()


@pytest.mark.slow
def test_a_load_of_simulated_tasks_loses_and_repeats_none(person: Person) -> None:
    figures = person.dtest("stress", "--tasks", "2000", "--workers", "2", "--json").good().json

    assert (figures["lost"], figures["duplicated"]) == (0, 0)
    names = ("completed_per_s", "dispatch_ms_p50", "dispatch_ms_p99", "projected_per_s")
    assert all(figures[name] > 0 for name in names)
    person.nothing_is_left()
