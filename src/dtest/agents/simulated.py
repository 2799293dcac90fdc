"""A simulated executor: declared hardware, the real protocol, a wait instead of work.

For demonstrations, load tests and drills; a worker that uses it says so when it registers.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
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
from dtest.events.worker import Device, HeldAttempt
from dtest.runtime.clock import instant

_Key = tuple[TaskId, int]


def _peak_bytes(assigned: AttemptAssigned) -> int | None:
    """Return what an attempt that ran out of memory must have used."""
    limit_gb = assigned.memory_limit_gb
    return None if limit_gb is None else math.ceil(limit_gb * 1e9)


class SimulatedExecutor:
    """Waits for as long as each task's ``config.simulate`` says."""

    def __init__(
        self,
        reporter: Reporter,
        *,
        worker_id: WorkerId,
        now: Callable[[], float],
        default_s: float,
        devices: Sequence[Device] = (),
    ) -> None:
        self._reporter = reporter
        self._worker_id = worker_id
        self._now = now
        self._default_s = default_s
        self._device_gb = {item.device_id: item.memory_gb for item in devices}
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
            self._end(assigned, started_at)
            return
        self._reporter.tell(AttemptStarted(*key, self._worker_id, started_at=instant(started_at)))
        if assigned.timeout_seconds is not None:
            seconds = min(seconds, assigned.timeout_seconds)
        handle = asyncio.get_running_loop().call_later(seconds, self._elapsed, key)
        self._running[key] = (assigned, handle, started_at)
        self._empty.clear()

    def _elapsed(self, key: _Key) -> None:
        assigned, _, started_at = self._take(key)
        self._end(assigned, started_at)

    def _end(self, assigned: AttemptAssigned, started_at: float) -> None:
        plan: dict[str, Any] = assigned.config.get("simulate") or {}
        outcome = str(plan.get("outcome", "passed"))
        fault = Reason(plan.get("fault", Reason.ENV_SETUP_FAILED))
        limit_s = assigned.timeout_seconds
        needed_gb = float(plan.get("device_memory_gb", 0.0))
        had_gb = [self._device_gb.get(name) for name in assigned.devices]
        if any(gb is not None and gb < needed_gb for gb in had_gb):
            outcome, fault = "faulted", Reason.OOM_DEVICE
        elif limit_s is not None and float(plan.get("seconds", self._default_s)) > limit_s:
            outcome, fault = "faulted", Reason.RUN_TIMEOUT
        self._finish(assigned, started_at, outcome, fault)

    def _take(self, key: _Key) -> tuple[AttemptAssigned, asyncio.TimerHandle, float]:
        found = self._running.pop(key)
        if not self._running:
            self._empty.set()
        return found

    def _finish(
        self,
        assigned: AttemptAssigned,
        started_at: float,
        outcome: str,
        fault: Reason = Reason.ENV_SETUP_FAILED,
    ) -> None:
        reasons = {"failed": Reason.EXIT_NONZERO, "faulted": fault}
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
            memory_bytes_peak=_peak_bytes(assigned) if reason is Reason.OOM_TASK else None,
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
