"""Whether each planned test of a journal has a result, and no other has one. Pure.

Shares no code with the verdicts: it knows numbers, not node ids, and asks only whether there is a
result, not which.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

from dtest.events.attempt import TestcaseFinished
from dtest.events.catalogue import Payload
from dtest.events.fields import RunId, TaskId
from dtest.events.suite import HARDWARE_CLASS, SuitePlanned
from dtest.events.task import TaskQueued

_Plan = tuple[RunId, str]
"""A run, and a class of hardware."""


class Conservation:
    """The plans of a journal; ``violated`` is told what cannot be."""

    def __init__(self, violated: Callable[[str], None]) -> None:
        self._violated = violated
        self._totals: dict[_Plan, int] = {}
        self._planned: dict[_Plan, set[int]] = defaultdict(set)
        self._unfit: dict[_Plan, int] = defaultdict(int)
        """Tests that no session can run: they are skipped or not proven without a result."""
        self._reported: dict[_Plan, set[int]] = defaultdict(set)
        self._homes: dict[TaskId, _Plan] = {}

    @property
    def planned(self) -> int:
        """How many tests were planned."""
        return sum(map(len, self._planned.values()))

    def take(self, data: Payload) -> None:
        """Take a fact that was accepted, in the order of the journal."""
        match data:
            case TaskQueued(type="test") if "queue" in data.config:
                run = data.run_id or RunId("")
                self._homes.setdefault(data.task_id, (run, data.labels.get(HARDWARE_CLASS, "")))
            case SuitePlanned():
                self._plan(data)
            case TestcaseFinished(number=int(number)) if data.task_id in self._homes:
                self._reported[self._homes[data.task_id]].add(number)
            case _:
                pass

    def _plan(self, data: SuitePlanned) -> None:
        plan = data.run_id, data.hardware
        self._totals.setdefault(plan, data.total)
        for test in data.tests:
            if test.number in self._planned[plan]:
                self._violated(f"run {plan[0]}: the number {test.number} is planned twice")
            self._planned[plan].add(test.number)
            self._unfit[plan] += bool(test.cause)

    def finish(self) -> Iterator[str]:
        """Yield the plans that are short of results; tell what no plan explains."""
        for plan, total in self._totals.items():
            known, seen = self._planned[plan], self._reported[plan]
            named = f"run {plan[0]}" + (f" on {plan[1]}" if plan[1] else "")
            if len(known) < total:  # who told the plan died over it
                yield f"{named}: of {total} planned tests {len(known)} are told"
            for number in sorted(seen - known)[:1]:
                self._violated(f"{named}: the result {number} is of no planned test")
            missing = len(known) - len(known & seen) - self._unfit[plan]
            if missing > 0:
                yield f"{named}: {missing} of {len(known)} planned tests have no result"
