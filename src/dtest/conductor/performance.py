"""One run of a suite, from its document to its sums: whoever conducts goes on where facts end.

Each step looks at what is recorded first and does only what is missing, under names that follow
from the run. So a conductor may die anywhere, and what it did twice was done once.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog

from dtest.conducting.cutting import Cut, cut_by, uncollectable
from dtest.conducting.lanes import derived, for_suites, kinds_of, lanes_of
from dtest.conducting.orders import Order, muted_by
from dtest.conducting.planning import Plan, Planner, collected_as, completed
from dtest.conducting.rerunning import rerun_orders, units_again
from dtest.conducting.sessions import Sessions
from dtest.conductor.books import planned_rows
from dtest.conductor.lists import tell_list
from dtest.conductor.means import Means, Stage
from dtest.conductor.office import Pen
from dtest.conductor.recalling import Memory, remembered
from dtest.conductor.vigil import CutShort, Vigil
from dtest.errors import NotFound, NoWorkerMatches, UsageError
from dtest.events.fields import RunId, TaskId
from dtest.events.run import RunCancelRequested
from dtest.events.suite_decision import Lane, SuiteBegun, SuiteEnded, SuitePooled, SuiteRerunOrdered
from dtest.events.task import TaskQueued
from dtest.reports.report import Report, compose
from dtest.reports.verdicts import Result, verdicts
from dtest.state.suite import Phase
from dtest.state.task import TERMINAL, WAITING, Status
from dtest.suites.suite import TESTS_AT_ONCE, Suite, joined, parts_of

log = structlog.get_logger()

LOOK_S = 0.25
"""How often is asked whether a suite is collected, besides at each word about it."""
REFILLS_MAX = 3
"""How often sessions that ended before their work are replaced."""
SAID_BYTES_MAX = 262_144
"""Of what a session wrote that could not collect."""
LARGE_TESTS = 2_000
"""From so many on what is computed is computed beside the loop, which answers others meanwhile."""
_BEFORE_ITS_TESTS = frozenset({"cancelled", "failures", "stopped", "timeout"})
"""Cuts of runs whose tests were sound, and could have been planned."""
Made = TypeVar("Made")


class Performance:
    """One run."""

    def __init__(self, stage: Stage, pen: Pen, run_id: RunId) -> None:
        self._run = Means(stage, pen, run_id)
        self._vigil = Vigil(self._run)
        self._memory: asyncio.Task[Memory] | None = None

    async def run(self) -> None:
        """Carry the run to its end. Raises Deposed, and as the journal does."""
        order = Order(self._run.spec)
        try:
            if self._run.suite.cut is None:
                await self._steps(order)
        except CutShort as short:
            await self._record_cut(short.cut)
        except (UsageError, NoWorkerMatches) as error:
            await self._record_cut(cut_by(error))
        finally:
            if self._memory is not None and not self._memory.done():
                self._memory.cancel()
                self._memory = None
        if self._run.suite.cut is not None:
            await self._stop()
            await self._plan_what_is_cut(order)
        await self._end()

    async def _steps(self, order: Order) -> None:
        self._vigil.check()
        await self._begin(order)
        sessions = Sessions(order, self._run.suite.lanes)
        await self._collect(order, sessions)
        await self._divide(order)
        pools = self._run.book.pools
        await self._open_pools(sessions, pools)
        await self._carried(sessions, _distinct(pools))
        for number in range(1, self._run.spec.reruns + 1):
            if not await self._rerun(sessions, number):
                return

    # -- steps ------------------------------------------------------------------------------------

    async def _begin(self, order: Order) -> None:
        """Start the sessions; they warm up while the suite is collected."""
        cell = self._run.cell
        if not self._run.suite.lanes:
            lanes = lanes_of(order, for_suites(cell.workers.values()), self._run.run_id)
            await self._run.decide(SuiteBegun(self._run.run_id, lanes))
        lanes = self._run.suite.lanes
        if self._run.suite.phase is not Phase.RUNNING:
            stated = self._run.stage.queue(self._run.run_id) if self._run.spec.recalls else None
            name = self._run.spec.name
            self._memory = asyncio.get_running_loop().create_task(
                remembered(self._run.stage.connection, cell, name, kinds_of(lanes), stated)
            )
        await self._run.ask_for(list(Sessions(order, lanes).first()))

    async def _collect(self, order: Order, sessions: Sessions) -> None:
        """Wait until each lane has a list, and record which."""
        await self._run.read_lists()
        lanes = self._run.suite.lanes
        if len(self._run.lists) == len(lanes):
            return
        found: dict[str, Suite] = {}
        waiting = [lane for lane in lanes if lane.sessions]
        while len(found) < len(waiting):
            at = self._run.stage.view.moves
            for lane in waiting:
                if lane.name not in found:
                    suite = await self._told(order, sessions, lane)
                    if suite is not None:
                        found[lane.name] = suite
            if len(found) < len(waiting):
                await self._vigil.moved(at, wait_s=LOOK_S)
        for lane, suite in zip(
            lanes, completed([found.get(each.name) for each in lanes]), strict=True
        ):
            digest = await tell_list(suite, self._run.stage.view, self._run.pen)
            await self._run.decide(collected_as(lane, order, suite, digest))
            self._run.lists[lane.name] = suite

    async def _told(self, order: Order, sessions: Sessions, lane: Lane) -> Suite | None:
        """Return what a lane has collected; none while nothing is told. Raises CutShort."""
        queue = self._run.stage.queue(lane.queue)
        collector = self._run.cell.tasks.get(sessions.collector(lane))
        # A session may end between the two: what it told is asked for once more.
        is_over = collector is not None and collector.status in TERMINAL
        first = await queue.told(0)
        if first is not None:
            rest = [await queue.told(part) for part in range(1, parts_of(first))]
            parts = [first, *(each for each in rest if each is not None)]
            if len(parts) <= len(rest):
                return None  # another telling is under way
            suite = await _made(TESTS_AT_ONCE * len(parts), joined, parts)
            if lane.is_crowded:  # it holds room that others collect in
                await queue.open()
                await queue.close()
            return suite
        if is_over and collector is not None:
            said = await self._said(collector.id, collector.attempt)
            ended = f"{collector.status}, {collector.reason}"
            raise CutShort(uncollectable(order, lane.name, said, ended, collector.id))
        return None

    async def _said(self, task_id: TaskId, attempt: int) -> str:
        """Return the end of what a session wrote."""
        said = b""
        async for _, chunk in self._run.stage.output.chunks(task_id, attempt):
            said = (said + chunk)[-SAID_BYTES_MAX:]
        return said.decode(errors="replace")

    async def _divide(self, order: Order) -> None:
        """Decide what runs where, fill the queues, and record it."""
        if self._run.suite.phase is Phase.RUNNING:
            return
        plan = await self._planned(order)
        self._vigil.check()
        if plan.is_empty:
            raise CutShort(Cut("empty", f"no tests ran: {order.runner} found none"))
        for lot in plan.lots:
            await self._run.fill(lot.queue, lot.units)
        divided, pooled = plan.facts(order)
        await self._run.decide(divided, *pooled)

    async def _planned(self, order: Order) -> Plan:
        memory = await self._memory if self._memory is not None else Memory()
        fleet = for_suites(self._run.cell.workers.values())
        planner = Planner(order, memory, fleet)
        lanes = self._run.suite.lanes
        lists = [self._run.lists[lane.name] for lane in lanes]
        return await _made(sum(len(suite.tests) for suite in lists), planner.plan, lanes, lists)

    async def _plan_what_is_cut(self, order: Order) -> None:
        """Record what was to run, where that is known: what does not run now is not proven."""
        suite = self._run.suite
        known = bool(suite.lanes) and len(suite.collected) == len(suite.lanes)
        if not known or suite.parts is not None or suite.cut not in _BEFORE_ITS_TESTS:
            return
        await self._run.read_lists()
        with suppress(UsageError, NoWorkerMatches):
            divided, pooled = (await self._planned(order)).facts(order)
            await self._run.decide(divided, *pooled)

    async def _open_pools(self, sessions: Sessions, pools: Sequence[SuitePooled]) -> None:
        """Close the queues; where some tests ask for more, all sessions of a class begin anew."""
        used = {pool.queue for pool in pools if pool.queue is not None}
        for queue in dict.fromkeys([*(lane.queue for lane in self._run.suite.lanes), *used]):
            handle = self._run.stage.queue(str(queue))
            if queue not in used:
                await handle.open()
            await handle.close()
        await self._run.ask_for(list(sessions.anew(pools)))

    async def _carried(
        self, sessions: Sessions, pools: Sequence[SuitePooled | SuiteRerunOrdered]
    ) -> None:
        """Wait until all is done; replace sessions that ended while there was work."""
        while True:
            await self._vigil.until(lambda: self._run.has_ended)
            spare = [task for pool in pools if (task := await self._spare(sessions, pool))]
            if not spare:
                return
            await self._run.ask_for(spare)

    async def _spare(
        self, sessions: Sessions, pool: SuitePooled | SuiteRerunOrdered
    ) -> TaskQueued | None:
        """Return another session for a pool whose sessions have ended before their work."""
        if any(task.status is Status.CANCELLED for task in self._run.sessions):
            return None  # somebody has cancelled sessions, and means it
        try:
            state = await self._run.stage.queue(str(pool.queue)).state()
        except NotFound:
            return None
        if not state.waiting and not state.held:
            return None
        tasks = self._run.cell.tasks
        made = (sessions.spare(pool, number) for number in range(1, REFILLS_MAX + 1))
        return next((task for task in made if task.task_id not in tasks), None)

    async def _rerun(self, sessions: Sessions, number: int) -> bool:
        """Run what failed again, in new processes and elsewhere; say whether there was anything."""
        if self._run.suite.round < number:
            orders = rerun_orders(
                self._run.run_id, number, await self._verdicts(), self._run.book.pools
            )
            if not orders:
                return False
            await self._run.decide(*orders)
        orders = self._run.book.orders[number]
        for order in orders:
            wanted = list(sessions.rerunning(order))
            if any(task.task_id not in self._run.cell.tasks for task in wanted):
                await self._run.fill(order.queue, units_again(order, self._run.lists))
                await self._run.stage.queue(order.queue).close()
                await self._run.ask_for(wanted)
        await self._carried(sessions, orders)
        return True

    async def _verdicts(self) -> Sequence[Result]:
        known = self._run.book.known(
            self._run.suite, planned_rows(self._run.book.pools, self._run.lists)
        )
        return await _made(len(known.observations), verdicts, known)

    # -- the end ----------------------------------------------------------------------------------

    async def _record_cut(self, cut: Cut | None) -> None:
        if cut is not None and self._run.suite.cut is None:
            log.info("suite_cut", run=self._run.run_id, cause=cut.cause, detail=cut.detail)
            await self._run.decide(cut.fact(self._run.suite))

    async def _stop(self) -> None:
        """Cancel what runs and wait until it has ended; where nothing is to run, it ends itself."""
        run = self._run
        queues = {lane.queue for lane in run.suite.lanes}
        queues |= {str(pool.queue) for pool in run.book.pools if pool.queue is not None}
        queues |= {order.queue for orders in run.book.orders.values() for order in orders}
        if run.suite.cut == "empty":
            for queue in queues:
                await run.stage.queue(queue).open()
                await run.stage.queue(queue).close()
        ends_itself = run.suite.cut == "empty" and not any(
            task.status in WAITING for task in run.sessions
        )
        if not (run.has_ended or ends_itself):
            fact = RunCancelRequested(run.run_id, str(run.suite.cut))
            name = derived(run.run_id, "cancel", run.pen.epoch)
            await run.stage.view.reached(await run.pen.ask([fact], [name]))
        at = run.stage.view.moves
        while not run.has_ended:
            at = await run.stage.view.moved(at)
        await run.pen.confirm()
        for queue in queues:
            await run.stage.queue(queue).purge()

    async def _end(self) -> None:
        """Record the sums."""
        run = self._run
        await run.read_lists()
        is_planned = run.suite.parts is not None
        planned = planned_rows(run.book.pools, run.lists) if is_planned else ()
        known = run.book.known(run.suite, planned)
        muted = muted_by(run.spec.muted)

        def judged() -> Report:
            return compose(known, flaky=muted)

        report = await _made(len(known.observations), judged)
        counts = {str(name): count for name, count in report.counts.items()}
        await run.decide(SuiteEnded(run.run_id, report.exit_code, counts, report.planned or 0))
        log.info("suite_ended", run=run.run_id, exit_code=report.exit_code, **counts)


def _distinct(pools: Sequence[SuitePooled]) -> list[SuitePooled]:
    """Return one part for each queue."""
    found = {pool.queue: pool for pool in pools if pool.queue is not None}
    return list(found.values())


async def _made(size: int, make: Callable[..., Made], *words: object) -> Made:
    """Compute something; beside the loop if it is large."""
    if size < LARGE_TESTS:
        return make(*words)
    return await asyncio.to_thread(make, *words)
