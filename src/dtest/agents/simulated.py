"""A simulated executor: declared hardware, the real protocol, a wait instead of work.

For demonstrations, load tests and drills; a worker that uses it says so when it registers.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from dtest.agents.reporter import Reporter
from dtest.events.attempt import (
    AttemptAssigned,
    AttemptFinished,
    AttemptReleased,
    AttemptStarted,
)
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import Reason
from dtest.events.worker import HeldAttempt
from dtest.runtime.clock import instant

_Key = tuple[TaskId, int]


class SimulatedExecutor:
    """Waits for as long as each task's ``config.simulate`` says."""

    def __init__(
        self,
        reporter: Reporter,
        *,
        worker_id: WorkerId,
        now: Callable[[], float],
        default_s: float,
    ) -> None:
        self._reporter = reporter
        self._worker_id = worker_id
        self._now = now
        self._default_s = default_s
        self._running: dict[_Key, tuple[AttemptAssigned, asyncio.TimerHandle, float]] = {}
        self._unstored: set[_Key] = set()
        """Attempts that ended, and whose result the journal does not have."""
        self._empty = asyncio.Event()
        self._empty.set()

    def held(self) -> tuple[HeldAttempt, ...]:
        """See ``Executor.held``."""
        return tuple(HeldAttempt(*key) for key in sorted(self._unstored | set(self._running)))

    def output_bytes_dropped(self) -> int:
        """See ``Executor.output_bytes_dropped``: there is no output."""
        return 0

    def start(self, assigned: AttemptAssigned) -> None:
        """See ``Executor.start``."""
        key = (assigned.task_id, assigned.attempt)
        if key in self._running or key in self._unstored:
            return
        plan: dict[str, Any] = assigned.config.get("simulate") or {}
        seconds = float(plan.get("seconds", self._default_s))
        started_at = self._now()
        if seconds <= 0:
            self._finish(assigned, started_at, str(plan.get("outcome", "passed")))
            return
        self._reporter.tell(AttemptStarted(*key, self._worker_id, started_at=instant(started_at)))
        handle = asyncio.get_running_loop().call_later(seconds, self._elapsed, key)
        self._running[key] = (assigned, handle, started_at)
        self._empty.clear()

    def _elapsed(self, key: _Key) -> None:
        assigned, _, started_at = self._take(key)
        plan: dict[str, Any] = assigned.config.get("simulate") or {}
        self._finish(assigned, started_at, str(plan.get("outcome", "passed")))

    def _take(self, key: _Key) -> tuple[AttemptAssigned, asyncio.TimerHandle, float]:
        found = self._running.pop(key)
        if not self._running:
            self._empty.set()
        return found

    def _finish(self, assigned: AttemptAssigned, started_at: float, outcome: str) -> None:
        reasons = {"failed": Reason.EXIT_NONZERO, "faulted": Reason.ENV_SETUP_FAILED}
        reason = Reason.CANCELLED_USER if outcome == "cancelled" else reasons.get(outcome)
        key = (assigned.task_id, assigned.attempt)
        finished = AttemptFinished(
            *key,
            self._worker_id,
            outcome,  # type: ignore[arg-type]  # checked when the task was admitted
            instant(started_at),
            instant(self._now()),
            reason,
            "simulated" if outcome != "passed" else "",
        )
        self._unstored.add(key)
        self._reporter.tell(finished, stored=lambda: self._unstored.discard(key))

    def stop(self, task_id: TaskId, attempt: int, reason: Reason) -> None:
        """See ``Executor.stop``."""
        key = (task_id, attempt)
        if key not in self._running:
            return
        assigned, handle, started_at = self._take(key)
        handle.cancel()
        if reason is not Reason.WORKER_LOST:  # given away: nobody waits for a report
            self._finish(assigned, started_at, "cancelled")

    async def run(self) -> None:
        """See ``Executor.run``: timers do the work."""
        await asyncio.Event().wait()

    async def drain(self, grace_s: float) -> None:
        """See ``Executor.drain``."""
        try:
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        except TimeoutError:
            for key in list(self._running):
                assigned, handle, _ = self._take(key)
                handle.cancel()
                self._reporter.tell(
                    AttemptReleased(assigned.task_id, assigned.attempt, self._worker_id)
                )
