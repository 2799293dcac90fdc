"""``dtest test`` on a machine that never ran the suite: the cell remembers."""

import asyncio
import zlib
from typing import Any

import orjson
import pytest

from dtest.conductor.recalling import Memory, remembered
from dtest.events.fields import CellId
from dtest.journal.connection import Answer
from dtest.state.cell import Cell
from dtest.suites.history import History


class Answers:
    """A cell with one answer, or none."""

    def __init__(self, content: object) -> None:
        self._content = content

    async def ask(self, where: str, question: bytes, *, timeout_s: float) -> Answer:
        """Answer, or do not."""
        assert where == "dtest.main.memory"
        assert orjson.loads(question) == {"suite": "s", "hardware": "cpu"}
        if self._content is None:
            raise TimeoutError
        return Answer(0, zlib.compress(orjson.dumps(self._content)), {})


class Stated:
    """What a client stored."""

    def __init__(self, content: object) -> None:
        packed = zlib.compress(orjson.dumps(content))
        self._pieces = [packed[at : at + 20] for at in range(0, len(packed), 20)]

    async def recalled(self, part: int) -> bytes | None:
        """Return a part."""
        return self._pieces[part] if part < len(self._pieces) else None


TOLD = {"nodeids": ["a", "b"], "durations_s": [1.0, 2.0], "failed": [True, True]}
HERE = {"cpu": {"durations": {"a": 5.0}, "failed": []}}


def memory(answer: object, stated: object = None) -> Memory:
    own: Any = Stated(stated) if stated is not None else None
    asked: Any = Answers(answer)
    return asyncio.run(remembered(asked, Cell(CellId("main")), "s", ["cpu"], own))


def test_the_answer_becomes_a_history() -> None:
    assert memory(TOLD).load("cpu") == History({"a": 1.0, "b": 2.0}, frozenset({"a", "b"}))
    assert memory(TOLD).load("cuda") == History({}, frozenset())


def test_what_the_client_knows_counts_for_more() -> None:
    found = memory(TOLD, {"hardware": HERE, "only_stated_fail": False})

    assert found.load("cpu") == History({"a": 5.0, "b": 2.0}, frozenset({"b"}))


def test_a_client_may_say_alone_what_failed() -> None:
    stated = {"hardware": {"": {"durations": {}, "failed": ["c"]}}, "only_stated_fail": True}

    assert memory(TOLD, stated).load("cpu") == History({"a": 1.0, "b": 2.0}, frozenset({"c"}))


@pytest.mark.parametrize("answer", [None, {"no": "history"}])
def test_a_cell_that_cannot_say_costs_nothing_but_knowledge(answer: object) -> None:
    stated = {"hardware": HERE, "only_stated_fail": False}

    assert memory(answer, stated).load("cpu") == History({"a": 5.0}, frozenset())
