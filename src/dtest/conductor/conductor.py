"""A term in office: every run that has not ended is carried on, each by itself."""

import asyncio
from contextlib import suppress

import structlog

from dtest.conductor.means import Stage
from dtest.conductor.office import Pen
from dtest.conductor.performance import Performance
from dtest.errors import DtestError, Unavailable
from dtest.events import subject
from dtest.events.fields import RunId
from dtest.events.suite_decision import SuiteCut
from dtest.leadership.leader import Deposed

log = structlog.get_logger()

AGAIN_S = (0.2, 1.0, 5.0, 30.0)
"""Between tries of a run whose conducting failed."""
AWAY_S = (0.2, 1.0, 5.0)
"""Between tries while the brokers, or a leader that knows suites, are away."""
CUT_AFTER = 3
"""A run whose conducting failed so often at one place is cut."""


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
    """Carry one run to its end, whatever becomes of a try: one run must not end the others."""
    failures, waits, reached = 0, 0, None
    while True:
        try:
            await Performance(stage, pen, run_id).run()
        except (Deposed, asyncio.CancelledError):
            raise
        except Unavailable as error:
            log.warning("conducting_waits", run=run_id, detail=error.message)
            waits += 1
            wait_s = AWAY_S[min(waits, len(AWAY_S)) - 1]
        except Exception as error:
            log.exception("conducting_failed", run=run_id)
            suite = stage.view.cell.suites[run_id]
            here = len(suite.lanes), len(suite.collected), suite.pooled, suite.round, suite.cut
            failures = failures + 1 if here == reached else 1
            waits, reached = 0, here
            wait_s = AGAIN_S[min(failures, len(AGAIN_S)) - 1]
            if failures >= CUT_AFTER and suite.cut is None:
                detail = error.message if isinstance(error, DtestError) else repr(error)
                await _cut(stage, pen, run_id, f"the conductor failed: {detail}")
        else:
            return
        await asyncio.sleep(wait_s)


async def _cut(stage: Stage, pen: Pen, run_id: RunId, detail: str) -> None:
    with suppress(Unavailable):  # then the next try that fails does it
        told = SuiteCut(run_id, "invalid", detail)
        await stage.view.reached(await pen.decide([told]))
