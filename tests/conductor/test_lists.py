"""Lists of tests stand in the journal once, whole, under the digest of what they hold."""

import asyncio

import pytest

from dtest.conductor.following import View
from dtest.conductor.lists import read_list, tell_list
from dtest.conductor.office import Pen
from dtest.errors import Damaged
from dtest.events.conductor import ConductorElected
from dtest.events.suite_list import SuiteListed
from dtest.leadership.leader import Deposed, Identity
from dtest.state.cell import Cell
from dtest.suites.suite import Suite, digest_of
from tests.kit import facts
from tests.kit.stage import Stage

SUITE = Suite(tuple((f"tests/test_{n % 7}.py::test_{n}", "") for n in range(5_000)))


class Place:
    """A journal, one view of it, and pens."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.view = View(self.stage.journal, Cell(facts.CELL), since=1)

    async def pen(self) -> Pen:
        epoch = await self.stage.say(ConductorElected("c1"))
        who = Identity(facts.CELL, "c1", "here", "0")
        stage = self.stage
        return Pen(stage.journal, who, epoch, clock=stage.clock, new_id=stage.new_id)


def test_a_list_is_told_once_and_read_by_its_digest() -> None:
    async def told() -> tuple[str, int, int, Suite]:
        place = Place()
        following = asyncio.ensure_future(place.view.run())
        pen = await place.pen()
        digest = await tell_list(SUITE, place.view, pen)
        first = (await place.stage.journal.bounds()).last
        assert await tell_list(SUITE, place.view, pen) == digest
        second = (await place.stage.journal.bounds()).last
        found = await read_list(place.stage.journal, place.view.cell, digest)
        following.cancel()
        return digest, first, second, found

    digest, first, second, found = asyncio.run(told())

    assert digest == digest_of(SUITE.parts())
    assert first == second == 1 + len(SUITE.parts())
    assert found == SUITE


def test_a_list_that_is_half_told_is_told_to_its_end_by_the_next() -> None:
    async def told() -> Suite:
        place = Place()
        following = asyncio.ensure_future(place.view.run())
        parts = SUITE.parts()
        pen = await place.pen()
        digest = digest_of(parts)
        await place.view.reached(await pen.decide([SuiteListed(digest, 0, parts[0])]))
        await tell_list(SUITE, place.view, await place.pen())
        found = await read_list(place.stage.journal, place.view.cell, digest)
        following.cancel()
        return found

    assert asyncio.run(told()) == SUITE


def test_a_list_that_is_not_what_its_digest_says_is_damage() -> None:
    async def told() -> None:
        place = Place()
        following = asyncio.ensure_future(place.view.run())
        pen = await place.pen()
        for part in SUITE.parts():
            wrong = SuiteListed("ab" * 32, SUITE.parts().index(part), part)
            await place.view.reached(await pen.decide([wrong]))
        try:
            await read_list(place.stage.journal, place.view.cell, "ab" * 32)
        finally:
            following.cancel()

    with pytest.raises(Damaged, match="not what its digest says"):
        asyncio.run(told())


def test_who_was_deposed_writes_nothing_more() -> None:
    async def told() -> None:
        place = Place()
        old = await place.pen()
        await place.pen()
        await old.decide([SuiteListed("ab" * 32, 0, SUITE.parts()[0])])

    with pytest.raises(Deposed):
        asyncio.run(told())
