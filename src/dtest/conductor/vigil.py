"""Waits beside a run for what it waits for, and for whatever ends it before."""

from collections.abc import Callable

from dtest.conducting.cutting import Cut, Seen, cut_of
from dtest.conductor.means import Means
from dtest.events.fields import TaskId
from dtest.scheduling.why import explain
from dtest.state.task import WAITING

UNMATCHED_EVERY_S = 1.0
NEAREST_MAX = 3
_OF_THE_TASK = frozenset({"waiting_dependency", "backoff_until", "breaker_open"})
"""Reasons to wait that say nothing about workers."""


class CutShort(Exception):
    """Ends the steps of a run; says why, if that is not recorded yet."""

    def __init__(self, cut: Cut | None) -> None:
        super().__init__(cut)
        self.cut = cut


class Vigil:
    """Beside one run."""

    def __init__(self, run: Means) -> None:
        self._run = run
        self._unmatched_at = 0.0

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds. Raises CutShort when the run is to be ended before."""
        while True:
            at = self._run.stage.view.moves
            self.check()
            if holds():
                return
            await self.moved(at)

    async def moved(self, at: int, *, wait_s: float | None = None) -> None:
        """Wait until there was another move than ``at``, or so long. Raises CutShort."""
        spec = self._run.spec
        waits = [wait_s] if wait_s is not None else []
        if spec.timeout_seconds is not None:
            due = self._run.suite.submitted_at + spec.timeout_seconds
            waits.append(max(0.0, due - self._run.stage.now()))
        if spec.fail_unmatched:
            waits.append(UNMATCHED_EVERY_S)
        await self._run.stage.view.moved(at, wait_s=min(waits) if waits else None)
        self.check()

    def check(self) -> None:
        """Raise CutShort if the run is to be ended."""
        suite, book, now = self._run.suite, self._run.book, self._run.stage.now()
        if suite.cut is not None:
            raise CutShort(None)
        lists = self._run.lists.values()
        seen = Seen(
            book.failures(several=len(suite.lanes) > 1),
            max((found.failures_max for found in lists), default=0),
            book.stopped,
            self._unmatched(now),
        )
        cut = cut_of(suite, seen, now)
        if cut is not None:
            raise CutShort(cut)

    def _unmatched(self, now: float) -> list[str]:
        """Return what waits for a worker that does not exist, if somebody wants to know now."""
        run, cell = self._run, self._run.cell
        limit_s = run.spec.timeout_seconds
        is_late = limit_s is not None and now >= run.suite.submitted_at + limit_s
        if not is_late and (not run.spec.fail_unmatched or now < self._unmatched_at):
            return []
        self._unmatched_at = now + UNMATCHED_EVERY_S
        alike: dict[int, list[TaskId]] = {}
        for task_id in cell.runs[run.run_id].task_ids:
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
