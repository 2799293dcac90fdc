"""A term in office: every run that has not ended is carried on, each by itself."""

import asyncio

import structlog

from dtest.conductor.means import Stage
from dtest.conductor.office import Pen
from dtest.conductor.performance import Performance
from dtest.errors import DtestError
from dtest.events import subject
from dtest.events.fields import RunId
from dtest.events.suite_decision import SuiteCut
from dtest.leadership.leader import Deposed

log = structlog.get_logger()

AGAIN_S = (0.2, 1.0, 5.0)
"""Between tries of a run whose conducting failed; then it is cut."""


async def conduct(stage: Stage, pen: Pen) -> None:
    """Conduct until deposed (raises Deposed) or cancelled."""
    loop = asyncio.get_running_loop()
    known: set[RunId] = set()
    words: set[asyncio.Task[None]] = set()

    def stir(_: str, __: bytes) -> None:
        word = loop.create_task(stage.view.stir())
        words.add(word)
        word.add_done_callback(words.discard)

    stop = await stage.connection.listen(subject.any_collected(stage.view.cell.id), stir)
    try:
        async with asyncio.TaskGroup() as group:
            at = -1
            while True:
                for run_id in stage.view.cell.conducted:
                    if run_id not in known:
                        known.add(run_id)
                        group.create_task(_carried(stage, pen, run_id))
                known.intersection_update(stage.view.cell.conducted)
                at = await stage.view.moved(at)
    finally:
        await stop()


async def _carried(stage: Stage, pen: Pen, run_id: RunId) -> None:
    """Carry one run to its end, whatever becomes of a try."""
    for wait_s in (*AGAIN_S, None):
        try:
            await Performance(stage, pen, run_id).run()
        except (Deposed, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("conducting_failed", run=run_id)
            detail = error.message if isinstance(error, DtestError) else repr(error)
            if wait_s is None:  # one run must not end the others
                log.warning("run_given_up", run=run_id, detail=detail)
                return
            if wait_s == AGAIN_S[-1]:
                told = SuiteCut(run_id, "invalid", f"the conductor failed: {detail}")
                await stage.view.reached(await pen.decide([told]))
            await asyncio.sleep(wait_s)
        else:
            return
