"""One run of a suite, from its document to its sums: whoever conducts goes on where facts end.

Each step looks at what is recorded first and does only what is missing, under names that follow
from the run. So a conductor may die anywhere, and what it did twice was done once.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from dtest.conducting.cutting import Cut, Seen, cut_by, cut_of, uncollectable
from dtest.conducting.lanes import derived, for_suites, kinds_of, lanes_of
from dtest.conducting.orders import Order, muted_by
from dtest.conducting.planning import Planner, collected_as, completed
from dtest.conducting.rerunning import rerun_orders, units_again
from dtest.conducting.sessions import Sessions
from dtest.conductor.books import Book, planned_rows
from dtest.conductor.following import View
from dtest.conductor.lists import read_list, tell_list
from dtest.conductor.office import Pen
from dtest.conductor.recalling import Memory, remembered
from dtest.errors import NotFound, NoWorkerMatches, UsageError
from dtest.events.catalogue import ConductorPayload
from dtest.events.fields import RunId, TaskId
from dtest.events.run import RunCancelRequested
from dtest.events.suite import (
    Lane,
    SuiteBegun,
    SuiteEnded,
    SuitePooled,
    SuiteRerunOrdered,
    SuiteSubmitted,
)
from dtest.events.task import TaskQueued
from dtest.journal.connection import Connection
from dtest.journal.port import Journal
from dtest.journal.queue import UnitQueue
from dtest.journal.stores import OutputStore
from dtest.reports.report import Report, compose
from dtest.reports.verdicts import Result, verdicts
from dtest.scheduling.why import explain
from dtest.state.suite import Phase, SuiteRun
from dtest.state.task import TERMINAL, WAITING
from dtest.suites.suite import Suite, joined, parts_of
from dtest.suites.unit import Unit, encode

log = structlog.get_logger()

LOOK_S = 0.25
"""How often is asked whether a suite is collected, besides at each word about it."""
UNMATCHED_EVERY_S = 1.0
REFILLS_MAX = 3
"""How often sessions that ended before their work are replaced."""
UNITS_AT_ONCE = 200
LARGE_TESTS = 2_000
"""From so many on what is computed is computed beside the loop, which answers others meanwhile."""
NEAREST_MAX = 3
_OF_THE_TASK = frozenset({"waiting_dependency", "backoff_until", "breaker_open"})
"""Reasons to wait that say nothing about workers."""
Made = TypeVar("Made")


class CutShort(Exception):
    """Ends the steps of a run; says why, if that is not recorded yet."""

    def __init__(self, cut: Cut | None) -> None:
        super().__init__(cut)
        self.cut = cut


@dataclass(frozen=True)
class Stage:
    """What every performance works with."""

    view: View
    journal: Journal
    connection: Connection
    output: OutputStore
    now: Callable[[], float]

    def queue(self, name: str) -> UnitQueue:
        """Return a queue of the cell."""
        return UnitQueue(self.connection, self.view.cell.id, name)


class Performance:
    """One run."""

    def __init__(self, stage: Stage, pen: Pen, run_id: RunId) -> None:
        self._stage = stage
        self._pen = pen
        self._run_id = run_id
        self._lists: dict[str, Suite] = {}
        """By class of hardware."""
        self._memory: asyncio.Task[Memory] | None = None
        self._unmatched_at = 0.0

    @property
    def _suite(self) -> SuiteRun:
        return self._stage.view.cell.suites[self._run_id]

    @property
    def _book(self) -> Book:
        return self._stage.view.books.of(self._run_id)

    @property
    def _spec(self) -> SuiteSubmitted:
        spec = self._suite.spec
        if spec is None:
            message = f"the suite {self._run_id} has ended"
            raise AssertionError(message)
        return spec

    async def run(self) -> None:
        """Carry the run to its end. Raises Deposed, and as the journal does."""
        order = Order(self._spec)
        try:
            if self._suite.cut is None:
                await self._steps(order)
        except CutShort as short:
            await self._record_cut(short.cut)
        except (UsageError, NoWorkerMatches) as error:
            await self._record_cut(cut_by(error))
        finally:
            if self._memory is not None:
                self._memory.cancel()
        if self._suite.cut is not None:
            await self._stop()
        await self._end()

    async def _steps(self, order: Order) -> None:
        self._check_cut()
        await self._begin(order)
        sessions = Sessions(order, self._suite.lanes)
        await self._collect(order, sessions)
        await self._divide(order)
        pools = self._book.pools
        await self._open_pools(sessions, pools)
        await self._carried(sessions, _distinct(pools))
        for number in range(1, self._spec.reruns + 1):
            if not await self._rerun(sessions, number):
                return

    # -- steps ------------------------------------------------------------------------------------

    async def _begin(self, order: Order) -> None:
        """Start the sessions; they warm up while the suite is collected."""
        cell = self._stage.view.cell
        if not self._suite.lanes:
            lanes = lanes_of(order, for_suites(cell.workers.values()), self._run_id)
            await self._decide(SuiteBegun(self._run_id, lanes))
        lanes = self._suite.lanes
        if self._suite.phase is not Phase.RUNNING:
            stated = self._stage.queue(self._run_id) if self._spec.recalls else None
            name = self._spec.name
            self._memory = asyncio.get_running_loop().create_task(
                remembered(self._stage.connection, cell, name, kinds_of(lanes), stated)
            )
        await self._ask_for(list(Sessions(order, lanes).first()))

    async def _collect(self, order: Order, sessions: Sessions) -> None:
        """Wait until each lane has a list, and record which."""
        journal, cell = self._stage.journal, self._stage.view.cell
        for name, told in self._suite.collected.items():
            self._lists[name] = await read_list(journal, cell, told.digest)
        lanes = self._suite.lanes
        if len(self._lists) == len(lanes):
            return
        found: dict[str, Suite] = {}
        waiting = [lane for lane in lanes if lane.sessions]
        while len(found) < len(waiting):
            at = self._stage.view.moves
            for lane in waiting:
                if lane.name not in found:
                    suite = await self._told(order, sessions, lane)
                    if suite is not None:
                        found[lane.name] = suite
            if len(found) < len(waiting):
                await self._moved(at, wait_s=LOOK_S)
        for lane, suite in zip(
            lanes, completed([found.get(each.name) for each in lanes]), strict=True
        ):
            digest = await tell_list(suite, self._stage.view, self._pen)
            await self._decide(collected_as(lane, order, suite, digest))
            self._lists[lane.name] = suite

    async def _told(self, order: Order, sessions: Sessions, lane: Lane) -> Suite | None:
        """Return what a lane has collected; none while nothing is told. Raises CutShort."""
        queue = self._stage.queue(lane.queue)
        collector = self._stage.view.cell.tasks.get(sessions.collector(lane))
        # A session may end between the two: what it told is asked for once more.
        is_over = collector is not None and collector.status in TERMINAL
        first = await queue.told(0)
        if first is not None:
            rest = [await queue.told(part) for part in range(1, parts_of(first))]
            suite = joined([first, *(each for each in rest if each is not None)])
            if lane.is_crowded:  # it holds room that others collect in
                await queue.open()
                await queue.close()
            return suite
        if is_over and collector is not None:
            said = await self._said(collector.id, collector.attempt)
            ended = f"{collector.status}, {collector.reason}"
            raise CutShort(uncollectable(order.runner, lane.name, said, ended))
        return None

    async def _said(self, task_id: TaskId, attempt: int) -> str:
        chunks = [chunk async for _, chunk in self._stage.output.chunks(task_id, attempt)]
        return b"".join(chunks).decode(errors="replace")

    async def _divide(self, order: Order) -> None:
        """Decide what runs where, fill the queues, and record it."""
        if self._suite.phase is Phase.RUNNING:
            return
        memory = await self._memory if self._memory is not None else Memory()
        fleet = for_suites(self._stage.view.cell.workers.values())
        planner = Planner(order, memory, fleet)
        lanes = self._suite.lanes
        lists = [self._lists[lane.name] for lane in lanes]
        plan = await _made(sum(len(suite.tests) for suite in lists), planner.plan, lanes, lists)
        self._check_cut()
        if plan.is_empty:
            raise CutShort(Cut("empty", f"no tests ran: {order.runner} found none"))
        for lot in plan.lots:
            await self._fill(lot.queue, lot.units, edition=f"e{self._pen.epoch}")
        divided, pooled = plan.facts(order)
        await self._decide(divided, *pooled)

    async def _open_pools(self, sessions: Sessions, pools: Sequence[SuitePooled]) -> None:
        """Close the queues; where some tests ask for more, all sessions of a class begin anew."""
        used = {pool.queue for pool in pools if pool.queue is not None}
        for queue in dict.fromkeys([*(lane.queue for lane in self._suite.lanes), *used]):
            handle = self._stage.queue(str(queue))
            if queue not in used:
                await handle.open()
            await handle.close()
        await self._ask_for(list(sessions.anew(pools)))

    async def _carried(
        self, sessions: Sessions, pools: Sequence[SuitePooled | SuiteRerunOrdered]
    ) -> None:
        """Wait until all is done; replace sessions that ended while there was work."""
        while True:
            await self._until(self._has_ended)
            spare = [task for pool in pools if (task := await self._spare(sessions, pool))]
            if not spare:
                return
            await self._ask_for(spare)

    async def _spare(
        self, sessions: Sessions, pool: SuitePooled | SuiteRerunOrdered
    ) -> TaskQueued | None:
        """Return another session for a pool whose sessions have ended before their work."""
        try:
            state = await self._stage.queue(str(pool.queue)).state()
        except NotFound:
            return None
        if not state.waiting and not state.held:
            return None
        tasks = self._stage.view.cell.tasks
        made = (sessions.spare(pool, number) for number in range(1, REFILLS_MAX + 1))
        return next((task for task in made if task.task_id not in tasks), None)

    async def _rerun(self, sessions: Sessions, number: int) -> bool:
        """Run what failed again, in new processes and elsewhere; say whether there was anything."""
        if self._suite.round < number:
            orders = rerun_orders(self._run_id, number, await self._verdicts(), self._book.pools)
            if not orders:
                return False
            await self._decide(*orders)
        orders = self._book.orders[number]
        for order in orders:
            wanted = list(sessions.rerunning(order))
            if any(task.task_id not in self._stage.view.cell.tasks for task in wanted):
                await self._fill(order.queue, units_again(order, self._lists), edition="r")
                await self._stage.queue(order.queue).close()
                await self._ask_for(wanted)
        await self._carried(sessions, orders)
        return True

    async def _verdicts(self) -> Sequence[Result]:
        known = self._book.known(self._suite, planned_rows(self._book.pools, self._lists))
        return await _made(len(known.observations), verdicts, known)

    # -- the end ----------------------------------------------------------------------------------

    async def _record_cut(self, cut: Cut | None) -> None:
        if cut is not None and self._suite.cut is None:
            log.info("suite_cut", run=self._run_id, cause=cut.cause, detail=cut.detail)
            await self._decide(cut.fact(self._suite))

    async def _stop(self) -> None:
        """Cancel what runs and wait until it has ended."""
        if not self._has_ended():
            fact = RunCancelRequested(self._run_id, str(self._suite.cut))
            name = derived(self._run_id, "cancel", self._pen.epoch)
            await self._stage.view.reached(await self._pen.ask([fact], [name]))
        at = self._stage.view.moves
        while not self._has_ended():
            at = await self._stage.view.moved(at)
        for queue in {lane.queue for lane in self._suite.lanes} | {
            str(pool.queue) for pool in self._book.pools if pool.queue is not None
        }:
            await self._stage.queue(queue).purge()

    async def _end(self) -> None:
        """Record the sums."""
        if len(self._lists) < len(self._suite.collected):
            journal, cell = self._stage.journal, self._stage.view.cell
            for name, told in self._suite.collected.items():
                self._lists[name] = await read_list(journal, cell, told.digest)
        pools = self._book.pools
        planned = planned_rows(pools, self._lists) if self._suite.parts is not None else ()
        known = self._book.known(self._suite, planned)
        muted = muted_by(self._spec.muted)

        def judged() -> Report:
            return compose(known, flaky=muted)

        report = await _made(len(known.observations), judged)
        counts = {str(name): count for name, count in report.counts.items()}
        fact = SuiteEnded(self._run_id, report.exit_code, counts, report.planned or 0)
        await self._pen.decide([fact])
        log.info("suite_ended", run=self._run_id, exit_code=report.exit_code, **counts)

    # -- means ------------------------------------------------------------------------------------

    async def _decide(self, *facts: ConductorPayload) -> None:
        await self._stage.view.reached(await self._pen.decide(facts))

    async def _ask_for(self, tasks: Sequence[TaskQueued]) -> None:
        """Submit the tasks that are not known yet."""
        known = self._stage.view.cell.tasks
        missing = [task for task in tasks if task.task_id not in known]
        if missing:
            names = [derived(task.task_id, "queued") for task in missing]
            await self._stage.view.reached(await self._pen.ask(missing, names))

    async def _fill(self, queue: str, units: Sequence[Unit], *, edition: str) -> None:
        """Put units in; those of an earlier conductor, who may have had others, are forgotten."""
        handle = self._stage.queue(queue)
        await handle.open()
        if (await handle.state()).waiting:
            await handle.purge()
        for first in range(0, len(units), UNITS_AT_ONCE):
            some = units[first : first + UNITS_AT_ONCE]
            await handle.put((f"{edition}.{unit.id}", encode(unit)) for unit in some)

    def _has_ended(self) -> bool:
        run = self._stage.view.cell.runs.get(self._run_id)
        return run is None or not run.unfinished

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds. Raises CutShort when the run is to be ended before."""
        while True:
            at = self._stage.view.moves
            self._check_cut()
            if holds():
                return
            await self._moved(at)

    async def _moved(self, at: int, *, wait_s: float | None = None) -> None:
        limit_s = self._spec.timeout_seconds
        waits = [wait_s] if wait_s is not None else []
        if limit_s is not None:
            left_s = self._suite.submitted_at + limit_s - self._stage.now()
            waits.append(max(0.0, left_s))
        if self._spec.fail_unmatched:
            waits.append(UNMATCHED_EVERY_S)
        await self._stage.view.moved(at, wait_s=min(waits) if waits else None)
        self._check_cut()

    def _check_cut(self) -> None:
        """Raise CutShort if the run is to be ended."""
        suite, book, now = self._suite, self._book, self._stage.now()
        if suite.cut is not None:
            raise CutShort(None)
        several = len(suite.lanes) > 1
        seen = Seen(
            book.failures(several=several),
            max((found.failures_max for found in self._lists.values()), default=0),
            book.stopped,
            self._unmatched(now),
        )
        cut = cut_of(suite, seen, now)
        if cut is not None:
            raise CutShort(cut)

    def _unmatched(self, now: float) -> list[str]:
        """Return what waits for a worker that does not exist, if somebody wants to know now."""
        spec, suite, cell = self._spec, self._suite, self._stage.view.cell
        limit_s = spec.timeout_seconds
        is_late = limit_s is not None and now >= suite.submitted_at + limit_s
        if not is_late and (not spec.fail_unmatched or now < self._unmatched_at):
            return []
        self._unmatched_at = now + UNMATCHED_EVERY_S
        alike: dict[int, list[TaskId]] = {}
        for task_id in cell.runs[self._run_id].task_ids:
            task = cell.tasks[task_id]
            if task.status in WAITING:
                alike.setdefault(id(task.demand), []).append(task_id)
        found = []
        for names in alike.values():
            reasons = explain(cell, cell.tasks[names[0]], now)
            if {reason.code for reason in reasons} - _OF_THE_TASK == {"no_match"}:
                nearest = [reason.text for reason in reasons if reason.code == "no_match"]
                more = f" and {len(names) - 1} more like it" if len(names) > 1 else ""
                told = "; ".join(nearest[:NEAREST_MAX])
                found.append(f"no worker can ever run {names[0]}{more}: {told}")
        return found


def _distinct(pools: Sequence[SuitePooled]) -> list[SuitePooled]:
    """Return one part for each queue."""
    found = {pool.queue: pool for pool in pools if pool.queue is not None}
    return list(found.values())


async def _made(size: int, make: Callable[..., Made], *words: object) -> Made:
    """Compute something; beside the loop if it is large."""
    if size < LARGE_TESTS:
        return make(*words)
    return await asyncio.to_thread(make, *words)
