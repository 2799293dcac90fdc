"""The tasks of a run: its sessions, each with an id that follows from the run. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dtest.conducting.lanes import derived
from dtest.conducting.orders import Order
from dtest.conducting.planning import asks_no_more
from dtest.events.fields import TaskId
from dtest.events.suite import HARDWARE_CLASS
from dtest.events.suite_decision import Lane, SuitePooled, SuiteRerunOrdered
from dtest.events.task import Requirements, TaskQueued
from dtest.suites.requirement import in_words
from dtest.suites.session import SPEAKS

USUAL_PRIORITY, EARLY_PRIORITY = 5, 4
"""Of sessions: those that can run in few places come before those that can run in more."""
RERUN_LABEL = "rerun"


@dataclass(frozen=True, slots=True)
class Sessions:
    """Makes the sessions of one run."""

    order: Order
    lanes: tuple[Lane, ...]

    def lane(self, hardware: str) -> Lane:
        """Return the lane of a class of hardware."""
        return next(lane for lane in self.lanes if lane.name == hardware)

    def collector(self, lane: Lane) -> TaskId:
        """Return the session that collects the suite of a lane."""
        return self._id(lane.queue, 1)

    def _id(self, queue: str, number: int, word: str = "session") -> TaskId:
        return TaskId(derived(self.order.spec.run_id, queue, word, number))

    @property
    def first_count(self) -> int:
        """How many there are before anything is collected."""
        return sum(lane.first_sessions for lane in self.lanes)

    def first(self) -> Iterator[TaskQueued]:
        """Yield those that there are before anything is collected; they warm up meanwhile."""
        place = 0
        for lane in self.lanes:
            title = f" ({lane.name})" if lane.name else ""
            for number in range(1, lane.first_sessions + 1):
                task = self._task(
                    self._id(lane.queue, number),
                    (lane, lane.queue, lane.requirements),
                    (place, self.first_count),
                    name=f"session {number}/{lane.first_sessions}{title}",
                )
                config = {**task.config, "collect": True} if number == 1 else task.config
                yield replace(task, config=config)
                place += 1

    def anew(self, pools: Sequence[SuitePooled]) -> Iterator[TaskQueued]:
        """Yield those of the pools that begin anew, because tests of the lane ask for more.

        Those that ask for more have the better priority: the others leave them their machines.
        """
        found = {pool.queue: pool for pool in reversed(pools) if pool.queue is not None}
        of_lanes = {lane.queue for lane in self.lanes}
        begin = [found[queue] for queue in reversed(found) if queue not in of_lanes]
        place = self.first_count
        count = place + sum(pool.sessions for pool in begin)
        for pool in begin:
            lane = self.lane(pool.hardware)
            early = not asks_no_more(lane, pool.requirements)
            for number in range(1, pool.sessions + 1):
                queue = str(pool.queue)
                yield self._task(
                    self._id(queue, number),
                    (lane, queue, pool.requirements),
                    (place, count),
                    name=f"tests {number}/{pool.sessions}{title_of(lane, pool.requirements)}",
                    priority=EARLY_PRIORITY if early else USUAL_PRIORITY,
                )
                place += 1

    def spare(self, pool: SuitePooled | SuiteRerunOrdered, number: int) -> TaskQueued:
        """Return the n-th session that takes the place of all that ended before their work."""
        queue = str(pool.queue)
        task = self._task(
            self._id(queue, number, "again"),
            (self.lane(pool.hardware), queue, pool.requirements),
            (0, self.first_count),
            name="session again",
        )
        if isinstance(pool, SuiteRerunOrdered):
            return replace(task, labels={**task.labels, RERUN_LABEL: str(pool.round)})
        return task

    def rerunning(self, order: SuiteRerunOrdered) -> Iterator[TaskQueued]:
        """Yield the sessions of a re-run; those before have ended, and their names are free."""
        lane = self.lane(order.hardware)
        title = title_of(lane, order.requirements)
        for number in range(1, order.sessions + 1):
            worker = order.first_session + number - 1
            task = self._task(
                self._id(order.queue, number),
                (lane, order.queue, order.requirements),
                (worker, max(self.first_count, worker + 1)),
                name=f"re-run {order.round}.{order.part + 1}, session {number}{title}",
                avoid_workers=order.avoid_workers,
            )
            yield replace(task, labels={**task.labels, RERUN_LABEL: str(order.round)})

    def _task(
        self,
        task_id: TaskId,
        place: tuple[Lane, str, Requirements],
        among: tuple[int, int],
        *,
        name: str,
        **more: Any,  # noqa: ANN401 - fields of a task
    ) -> TaskQueued:
        """Return a session; ``among`` is its place and number of those at the same time."""
        lane, queue, requirements = place
        worker, count = among
        spec = self.order.spec
        own = {"queue": queue, "worker": f"gw{worker}", "workers": count}
        asked = replace(requirements, labels={**requirements.labels, **SPEAKS})
        return TaskQueued(
            task_id,
            "test",
            {**self.order.config, **own},
            spec.run_id,
            name,
            requirements=asked,
            memory_limit_gb=spec.memory_limit_gb,
            labels={HARDWARE_CLASS: lane.name} if lane.name else {},
            **more,
        )


def title_of(lane: Lane, requirements: Requirements) -> str:
    """Return what the names of sessions end with, to tell them from others."""
    said = lane.name if asks_no_more(lane, requirements) else in_words(requirements)
    return f" ({said})" if said else ""
