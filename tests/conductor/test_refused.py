"""A conductor learns of facts that were refused, and that it is in office no more."""

import asyncio
from typing import Any

import pytest

from dtest.conductor.following import View
from dtest.conductor.means import Means
from dtest.conductor.means import Stage as Around
from dtest.conductor.office import Pen
from dtest.errors import InvalidDocument, Unavailable
from dtest.events.conductor import ConductorElected
from dtest.events.fields import RunId
from dtest.events.suite import SuiteSubmitted
from dtest.events.suite_decision import Lane, SuiteBegun, SuiteCut
from dtest.leadership.leader import Deposed, Identity
from dtest.leadership.rules import RULES, elected
from dtest.state.cell import Cell
from tests.kit import facts
from tests.kit.stage import Stage

RUN = RunId("run")


async def in_office(stage: Stage) -> tuple[Means, "asyncio.Future[None]"]:
    """What a conductor has for one run, while its view follows."""
    view = View(stage.journal, Cell(facts.CELL), since=1)
    following = asyncio.ensure_future(view.run())
    epoch = await stage.say(ConductorElected("c1"))
    who = Identity(facts.CELL, "c1", "here", "0")
    pen = Pen(stage.journal, who, epoch, clock=stage.clock, new_id=stage.new_id)
    await view.reached(epoch)
    nothing: Any = None
    around = Around(view, stage.journal, nothing, nothing, stage.clock.now)
    return Means(around, pen, RUN), following


def test_facts_that_an_older_leader_does_not_know_are_told_later() -> None:
    async def played() -> None:
        stage = Stage()
        await stage.say(elected("new"))
        await stage.say(SuiteSubmitted(RUN, cwd="/srv"))
        run, following = await in_office(stage)
        await run.decide(SuiteBegun(RUN, (Lane("q"),)))
        old = await stage.say(elected("old", rules=RULES[2]))

        with pytest.raises(Unavailable, match=r"refuses suite\.cut"):
            await run.decide(SuiteCut(RUN, "stopped", "why"))

        before = run.suite.cut
        await stage.say(elected("new-again", old))
        await run.decide(SuiteCut(RUN, "stopped", "why"))
        assert (before, run.suite.cut) == (None, "stopped")
        following.cancel()

    asyncio.run(played())


def test_facts_that_make_no_sense_are_no_reason_to_wait() -> None:
    async def played() -> None:
        stage = Stage()
        await stage.say(elected("new"))
        await stage.say(SuiteSubmitted(RUN, cwd="/srv"))
        run, following = await in_office(stage)

        with pytest.raises(InvalidDocument, match="lanes"):
            await run.decide(SuiteBegun(RUN, ()))
        following.cancel()

    asyncio.run(played())


def test_who_was_deposed_learns_it_before_an_effect_without_a_guard() -> None:
    async def played() -> None:
        stage = Stage()
        run, following = await in_office(stage)
        await run.pen.confirm()
        await stage.say(ConductorElected("c2", run.pen.epoch))

        with pytest.raises(Deposed):
            await run.pen.confirm()
        with pytest.raises(Deposed):
            await run.fill("q", [])
        following.cancel()

    asyncio.run(played())
