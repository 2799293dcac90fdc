"""The output of an attempt as it comes: what is there, or the next of it, by long polling."""

import asyncio
import base64
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from dtest.api.body import StrictRoute
from dtest.api.context import ApiContext, Context
from dtest.journal.stores import OutputPlace
from dtest.state.task import LIVE, TERMINAL, Task

WAIT_S_MAX = 20.0
"""Below the time after which callers give up on a request."""

router = APIRouter(prefix="/api", tags=["tasks"], route_class=StrictRoute)


class OutputPiece(BaseModel):
    """Some output of one attempt, and where the next begins."""

    task_id: str
    attempt: int
    data: str = Field(description="The bytes, in base64.")
    next: str = Field(description="`after` of the question for what follows.")
    complete: bool = Field(description="The attempt has ended, and this is the last of its output.")
    latest_attempt: int = Field(description="0 before the first.")
    final: bool = Field(description="The task has ended: there will be no other attempt.")


@router.get("/tasks/{task_id}/output", summary="The output of an attempt as it comes")
async def output(
    context: Context,
    task_id: str,
    attempt: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    after: Annotated[str, Query(pattern=r"^\d{1,15}:\d{1,15}$")] = "0:0",
    wait_s: Annotated[float, Query(ge=0, le=WAIT_S_MAX, allow_inf_nan=False)] = 0.0,
) -> OutputPiece:
    """Return what was stored after a place, of the latest attempt by default.

    With ``wait_s`` the answer waits so long, in seconds, for output or for the attempt's end. No
    byte is told twice, and none is left out, if each question takes ``next`` of the answer before.
    """
    task = context.task(task_id)
    number = attempt or max(1, task.attempt)
    place = OutputPlace(*map(int, after.split(":")))
    if wait_s:
        await _something_new(context, task, number, place, wait_s)
    # In this order: what an attempt wrote is stored before its end is told.
    ended, final = is_over(task, number), task.status in TERMINAL
    found = await context.output.after(task.id, number, place)
    return OutputPiece(
        task_id=task.id,
        attempt=number,
        data=base64.b64encode(found.data).decode(),
        next=f"{found.next.seq}:{found.next.offset}",
        complete=ended and found.is_last,
        latest_attempt=task.attempt,
        final=final,
    )


def is_over(task: Task, attempt: int) -> bool:
    """Say whether an attempt has ended, or can never begin."""
    if attempt > task.attempt:
        return task.status in TERMINAL
    return attempt < task.attempt or task.status not in LIVE


async def _something_new(
    context: ApiContext, task: Task, attempt: int, place: OutputPlace, wait_s: float
) -> None:
    """Wait until there is output after a place, or the attempt is over, or the time is."""
    coming = context.output.arrival(task.id, attempt, place)
    ending = context.projector.until(lambda: is_over(task, attempt), wait_s=wait_s)
    waiting = {asyncio.ensure_future(each) for each in (coming, ending)}  # noqa: TID251 - see below
    try:
        done, _ = await asyncio.wait(waiting, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:  # both are awaited here
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    for each in done:
        each.result()  # a journal that cannot be read is told as such
