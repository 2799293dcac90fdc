"""The history of a suite over HTTP: the latest of each test, by name of run and hardware."""

import sys
from pathlib import Path

import pytest

from tests.kit.stack import Api, Json

BOTH = "def test_stays():\n    pass\n\ndef test_turns():\n    assert {0}\n"


def ran(api: Api, home: Path, name: str, text: str) -> int:
    """Run a suite to its end; return where the journal stands then."""
    home.mkdir(exist_ok=True)
    (home / "test_it.py").write_text(text)
    config = {"cwd": str(home), "paths": ["test_it.py"], "python": sys.executable}
    answer = api.submit({"type": "test", "config": config}, name=name)
    (task,) = answer["tasks"]
    return int(api.finished(task["task_id"], after=answer["seq"] - 1)["as_of_seq"])


def known(api: Api, suite: str, **query: object) -> dict[str, tuple[float, bool]]:
    found: Json = api.get("/api/history", suite=suite, **query)
    assert found["suite"] == suite
    assert not found["truncated"]
    values = zip(found["durations_s"], found["failed"], strict=True)
    return dict(zip(found["nodeids"], values, strict=True))


def test_the_latest_of_each_test_is_told(api: Api, tmp_path: Path) -> None:
    ran(api, tmp_path / "a", "told", BOTH.format("False"))
    before = known(api, "told", after=ran(api, tmp_path / "b", "another", BOTH.format("True")))
    text = "import time\n\ndef test_turns():\n    time.sleep(0.1)\n"
    after = known(api, "told", after=ran(api, tmp_path / "c", "told", text))

    assert {name: failed for name, (_, failed) in before.items()} == {
        "test_it.py::test_stays": False,
        "test_it.py::test_turns": True,
    }
    assert set(after) == set(before)
    assert after["test_it.py::test_stays"] == before["test_it.py::test_stays"]
    assert after["test_it.py::test_turns"][0] >= 0.1
    assert not after["test_it.py::test_turns"][1]
    assert known(api, "told", hardware="cuda") == {}


def test_a_suite_that_never_ran_has_no_history(api: Api) -> None:
    assert known(api, "nobody's ' suite") == {}


@pytest.mark.parametrize("query", [{}, {"suite": ""}, {"suite": "x", "hardware": ""}])
def test_a_history_of_nothing_is_refused(api: Api, query: Json) -> None:
    api.refused(422, "GET", "/api/history", params=query)
