"""``dtest test`` on a machine that never ran the suite: the cell remembers."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtest.cli import cell_memory
from dtest.cli.cell_memory import CellMemory
from dtest.errors import Unavailable
from dtest.suites.history import History
from tests.cli.cell import CellUser
from tests.cli.conftest import Suite
from tests.cli.test_suites import ALL_OUTCOMES, names


def test_what_failed_elsewhere_is_known_here(
    cell: CellUser, suite: Suite, tmp_path: Path, new_id: Callable[[str], str]
) -> None:
    name = new_id("suite")
    one, other, third = (suite(f"{place}/{name}", test_all=ALL_OUTCOMES) for place in "abc")
    mine = cell.at(one, XDG_CACHE_HOME=str(tmp_path / "mine"))
    yours = cell.at(other, XDG_CACHE_HOME=str(tmp_path / "yours"))
    failed = {"test_all.py::test_bad", "test_all.py::test_without_its_fixture"}

    assert names(yours.here("test", "--lf", "--json")) > failed  # nobody knows anything
    assert names(mine.here("test", "--lf", "--json")) == failed
    (third / "test_all.py").write_text("def test_bad():\n    pass\n\ndef test_new():\n    pass\n")
    nobody = cell.at(third, XDG_CACHE_HOME=str(tmp_path / "nobody's"))
    assert names(nobody.here("test", "--lf", "--json")) == {"test_all.py::test_bad"}


class Answers:
    """An API with one answer."""

    def __init__(self, answer: Callable[[], dict[str, Any]]) -> None:
        self._answer = answer

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Answer, or do not."""
        assert (path, query) == ("/api/history", {"suite": "s", "hardware": "cpu"})
        return self._answer()


NOTHING = History({}, frozenset())


class Known:
    """What is known here, of all hardware the same."""

    def __init__(self, history: History) -> None:
        self._history = history

    def load(self, *_: str) -> History:
        """Return it."""
        return self._history


def memory(answer: Callable[[], dict[str, Any]], known: Known | None = None) -> CellMemory:
    return CellMemory(Answers(answer), "s", ["cpu"], kept=known or Known(NOTHING))


def test_the_answer_becomes_a_history() -> None:
    told = {"nodeids": ["a", "b"], "durations_s": [1.0, 2.0], "failed": [False, True]}

    assert memory(lambda: told).load("cpu") == History({"a": 1.0, "b": 2.0}, frozenset({"b"}))
    assert memory(lambda: told).load("cuda") == NOTHING


def test_what_is_known_here_counts_for_more() -> None:
    told = {"nodeids": ["a", "b"], "durations_s": [1.0, 2.0], "failed": [True, True]}
    here = Known(History({"a": 5.0}, frozenset()))

    assert memory(lambda: told, here).load("cpu") == History({"a": 5.0, "b": 2.0}, frozenset({"b"}))


def test_a_cell_that_cannot_say_costs_nothing_but_knowledge() -> None:
    def fails() -> dict[str, Any]:
        raise Unavailable("the read model is made anew")

    assert memory(fails).load("cpu") == NOTHING


def test_a_late_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_memory, "LATE_S_MAX", 0.0)
    gate = threading.Event()

    def late() -> dict[str, Any]:
        gate.wait()
        return {"nodeids": ["a"], "durations_s": [1.0], "failed": [False]}

    found = memory(late).load("cpu")
    gate.set()

    assert found == NOTHING
