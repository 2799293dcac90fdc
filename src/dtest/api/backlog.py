"""The unfinished tasks of the cell: how many more the API takes, and how soon to ask again."""

from collections import deque
from collections.abc import Callable

from dtest.api.lanes import RETRY_S_MAX, RETRY_S_MIN, whole_seconds
from dtest.errors import InvalidDocument, Overloaded
from dtest.state.cell import Cell

RATE_S = 30.0
"""The rate at which tasks end is that of so many seconds."""
SAMPLE_EVERY_S = 0.25
RATE_S_MIN = 1.0
"""A shorter time says nothing about a rate."""


class Backlog:
    """What was accepted and has not ended."""

    def __init__(self, tasks_max: int, *, monotonic: Callable[[], float]) -> None:
        self.tasks_max = tasks_max
        self.refused = 0
        """Tasks."""
        self._monotonic = monotonic
        self._sending = 0
        """Tasks that are on their way to the journal."""
        self._unseen: deque[tuple[int, int]] = deque()
        """Where tasks stand in the journal that the read model has not reached, and how many."""
        self._ended: deque[tuple[float, int]] = deque()

    def unfinished(self, cell: Cell) -> int:
        """Return how many tasks the cell has to finish, those on their way included."""
        while self._unseen and self._unseen[0][0] <= cell.seq:
            self._unseen.popleft()
        known = len(cell.tasks) - sum(cell.ended.values())
        return known + self._sending + sum(count for _, count in self._unseen)

    def admit(self, cell: Cell, tasks: int) -> None:
        """Take tasks into account until ``sent``; raises Overloaded, or InvalidDocument."""
        self.look(cell)
        if tasks > self.tasks_max:
            message = f"{tasks} tasks are more than the cell ever takes at once: {self.tasks_max}"
            raise InvalidDocument(message, hint="send them in parts, or raise backlog_tasks_max")
        over = self.unfinished(cell) + tasks - self.tasks_max
        if over > 0:
            self.refused += tasks
            message = (
                f"the cell takes {self.tasks_max} unfinished tasks and has"
                f" {self.unfinished(cell)}; {tasks} more do not fit"
            )
            raise Overloaded(message, retry_after_s=self._retry_after_s(over))
        self._sending += tasks

    def sent(self, tasks: int, seq: int | None) -> None:
        """Note that admitted tasks stand in the journal up to ``seq``, or were not sent: none."""
        self._sending -= tasks
        if seq is not None:
            self._unseen.append((seq, tasks))

    def look(self, cell: Cell) -> None:
        """Note how many tasks have ended until now."""
        now = self._monotonic()
        if self._ended and now - self._ended[-1][0] < SAMPLE_EVERY_S:
            return
        self._ended.append((now, sum(cell.ended.values())))
        while now - self._ended[0][0] > RATE_S:
            self._ended.popleft()

    @property
    def ended_per_s(self) -> float | None:
        """How many tasks end in a second; none if it is not known yet."""
        if not self._ended or self._ended[-1][0] - self._ended[0][0] < RATE_S_MIN:
            return None
        (first_at, first), (last_at, last) = self._ended[0], self._ended[-1]
        return max(0, last - first) / (last_at - first_at)

    def _retry_after_s(self, over: int) -> int:
        rate = self.ended_per_s
        if rate is None:
            return RETRY_S_MIN
        return whole_seconds(over / rate) if rate > 0 else RETRY_S_MAX
