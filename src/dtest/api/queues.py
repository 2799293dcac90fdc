"""Queues of units of tests: fill one, and see how far it is."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from dtest.api.body import StrictRoute
from dtest.api.context import Context
from dtest.events.fields import TOKEN_PATTERN
from dtest.suites.suite import Suite, joined, parts_of
from dtest.suites.unit import Unit, encode

router = APIRouter(prefix="/api/queues", tags=["queues"], route_class=StrictRoute)

UNITS_MAX = 20_000
LOOK_EVERY_S = 0.02
Wait = Annotated[float, Query(ge=0, le=10)]
Name = Annotated[str, Path(pattern=TOKEN_PATTERN)]


class UnitsBody(BaseModel):
    """Units to append, and whether they are the last."""

    model_config = ConfigDict(extra="forbid")

    units: Annotated[list[Unit], Field(max_length=UNITS_MAX)] = Field(default_factory=list)
    close: bool = False


class SuiteAnswer(BaseModel):
    """What a suite holds."""

    suite: Suite | None = Field(description="None while it is being collected.")


class QueueAnswer(BaseModel):
    """How far a queue is."""

    waiting: int
    held: int = Field(description="Units in the hands of sessions.")
    pullers: int = Field(description="Sessions that wait for a unit.")
    closed: bool


@router.post("/{name}", status_code=202, summary="Append units of tests to a queue")
async def fill(context: Context, name: Name, body: UnitsBody) -> QueueAnswer:
    """Make the queue if it is not there. A unit whose id is in the queue already is left alone."""
    queue = context.queue(name)
    await queue.open()
    await queue.put((unit.id, encode(unit)) for unit in body.units)
    if body.close:
        await queue.close()
    return await _answer(context, name)


@router.get("/{name}", summary="How far a queue is")
async def show(context: Context, name: Name) -> QueueAnswer:
    """Return the numbers of units; those that are done are in neither."""
    return await _answer(context, name)


@router.get("/{name}/suite", summary="What the suite holds, once it is collected")
async def show_suite(context: Context, name: Name, wait_s: Wait = 0.0) -> SuiteAnswer:
    """Return it, or none if it is not known within the time."""
    queue = context.queue(name)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while (first := await queue.told(0)) is None:
        if loop.time() > deadline:
            return SuiteAnswer(suite=None)
        await asyncio.sleep(LOOK_EVERY_S)
    rest = [await queue.told(part) for part in range(1, parts_of(first))]
    return SuiteAnswer(suite=joined([first, *(each for each in rest if each is not None)]))


async def _answer(context: Context, name: str) -> QueueAnswer:
    state = await context.queue(name).state()
    return QueueAnswer(
        waiting=state.waiting, held=state.held, pullers=state.pullers, closed=state.closed
    )
