"""Re-runs of failed tests go to another worker, where there is one."""

import json

import pytest

from tests.cli.command import Person
from tests.cli.conftest import Suite

FAILS_AT_FIRST = """
import pathlib

def test_second_try():
    seen = pathlib.Path("seen")
    first = not seen.exists()
    seen.touch()
    assert not first
"""


@pytest.mark.parametrize("workers", [2, 1])
def test_the_second_try_is_elsewhere_if_it_can_be(
    person: Person, suite: Suite, workers: int
) -> None:
    home = suite(test_flaky=FAILS_AT_FIRST, test_bad="def test_bad():\n    assert False\n")
    owner = person.at(home)
    person.dtest("up", "--workers", str(workers), "--slots", "2").good()

    ended = owner.dtest("test", "--workers", "1", "--reruns", "2")
    told = owner.here("report", "build", "@last", "--format", "json").good()
    person.dtest("down", "--purge").good()

    assert ended.code == 1, ended.err
    assert ended.out == "1 failed, 1 flaky\n"
    places = {
        result["nodeid"]: [seen["worker_id"] for seen in result["observations"]]
        for result in json.loads(told.out)["results"]
    }
    first, second = places["test_flaky.py::test_second_try"]
    assert (first != second) == (workers == 2)
    assert len(places["test_bad.py::test_bad"]) == 3
    assert len(set(places["test_bad.py::test_bad"])) == workers
