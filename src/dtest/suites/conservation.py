"""Whether each planned test of a journal has a result, and no other has one. Pure.

Shares no code with the verdicts, the plans or the fold: it knows numbers, not node ids, and asks
only whether there is a result, not which.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from dtest.events.attempt import TestcaseFinished
from dtest.events.catalogue import Payload
from dtest.events.fields import RunId, TaskId
from dtest.events.suite import HARDWARE_CLASS, SuitePlanned
from dtest.events.suite_decision import (
    WHOLE_FIRST,
    SuiteCollected,
    SuiteDivided,
    SuiteEnded,
    SuitePooled,
    SuiteRerunOrdered,
)
from dtest.events.suite_list import SuiteListed
from dtest.events.task import TaskQueued

_Plan = tuple[RunId, str]
"""A run, and a class of hardware."""


@dataclass
class _Division:
    """What a conductor said of a run."""

    planned: int
    parts: int
    told: int = 0
    ended: SuiteEnded | None = None


class Conservation:
    """The plans of a journal; ``violated`` is told what cannot be."""

    def __init__(self, violated: Callable[[str], None]) -> None:
        self._violated = violated
        self._totals: dict[_Plan, int] = {}
        self._planned: dict[_Plan, set[int]] = defaultdict(set)
        self._unfit: dict[_Plan, int] = defaultdict(int)
        """Tests that no session can run: they are skipped or not proven without a result."""
        self._reported: dict[_Plan, set[int]] = defaultdict(set)
        self._whole: dict[_Plan, set[int]] = defaultdict(set)
        """Files that run as a whole: they are to have a result of some test or other."""
        self._named: dict[_Plan, set[str]] = defaultdict(set)
        """Node ids with results that have no number, and all that those are part of."""
        self._homes: dict[TaskId, _Plan] = {}
        self._lists: dict[str, tuple[int, int, Any]] = {}
        """Parts and tests of each list so far, and its hash."""
        self._files: dict[str, list[str]] = defaultdict(list)
        """Of each list, those that run as a whole."""
        self._digests: dict[_Plan, str] = {}
        self._sizes: dict[_Plan, int] = {}
        """How many tests the list of each plan has."""
        self._divisions: dict[RunId, _Division] = {}

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
            case TestcaseFinished() if data.task_id in self._homes:
                words = data.nodeid.split("::")
                named = self._named[self._homes[data.task_id]]
                named.update("::".join(words[:count]) for count in range(1, len(words) + 1))
            case SuiteListed():
                self._listed(data)
            case _:
                self._decided(data)

    def _plan(self, data: SuitePlanned) -> None:
        plan = data.run_id, data.hardware
        self._totals.setdefault(plan, data.total)
        for test in data.tests:
            self._add(plan, test.number)
            self._unfit[plan] += bool(test.cause)

    def _add(self, plan: _Plan, number: int) -> None:
        if number in self._planned[plan]:
            self._violated(f"run {plan[0]}: the number {number} is planned twice")
        self._planned[plan].add(number)

    def _listed(self, data: SuiteListed) -> None:
        parts, tests, told = self._lists.get(data.digest, (0, 0, hashlib.sha256()))
        if data.part != parts:
            return  # told before
        told.update(orjson.dumps(data.content))
        self._lists[data.digest] = parts + 1, tests + len(data.content.tests), told
        self._files[data.digest] += data.content.whole
        if parts + 1 == data.content.parts and told.hexdigest() != data.digest:
            self._violated(f"the list {data.digest} is not what its digest says")

    def _decided(self, data: Payload) -> None:
        match data:
            case SuiteCollected():
                _, tests, _ = self._lists.get(data.digest, (0, 0, None))
                if tests != data.tests:
                    told = f"{data.tests} tests are collected, and its list has {tests}"
                    self._violated(f"run {data.run_id}: {told}")
                plan = data.run_id, data.hardware
                self._sizes.setdefault(plan, data.tests)
                self._digests.setdefault(plan, data.digest)
            case SuiteDivided():
                division = _Division(data.planned, data.parts)
                self._divisions.setdefault(data.run_id, division)
            case SuitePooled() if (found := self._divisions.get(data.run_id)) is not None:
                if data.part == found.told:
                    found.told += 1
                    self._pooled(data)
            case SuiteRerunOrdered():
                plan = data.run_id, data.hardware
                for first, last in data.tests:
                    if not self._planned[plan].issuperset(range(first, last + 1)):
                        self._violated(f"run {plan[0]}: {first} to {last} run again, unplanned")
            case SuiteEnded() if (found := self._divisions.get(data.run_id)) is not None:
                found.ended = found.ended or data
            case _:
                pass

    def _pooled(self, data: SuitePooled) -> None:
        plan = data.run_id, data.hardware
        for first, last in data.tests:
            if data.queue is not None and first >= WHOLE_FIRST:
                self._whole[plan].update(range(first, last + 1))
                continue  # nobody knows how many tests they have
            if first < WHOLE_FIRST and last >= self._sizes.get(plan, 0):
                self._violated(f"run {plan[0]}: {last} is planned, beyond the list")
            for number in range(first, last + 1):
                self._add(plan, number)
                self._unfit[plan] += data.queue is None

    def finish(self) -> Iterator[str]:
        """Yield the plans that are short of results; tell what no plan explains."""
        for run_id, division in self._divisions.items():
            yield from self._of_division(run_id, division)
        for plan in dict.fromkeys([*self._totals, *self._planned, *self._whole]):
            known, seen = self._planned[plan], self._reported[plan]
            total = self._totals.get(plan, len(known))
            named = f"run {plan[0]}" + (f" on {plan[1]}" if plan[1] else "")
            if len(known) < total:  # who told the plan died over it
                yield f"{named}: of {total} planned tests {len(known)} are told"
            for number in sorted(seen - known)[:1]:
                self._violated(f"{named}: the result {number} is of no planned test")
            missing = self._missing(plan)
            if missing > 0:
                yield f"{named}: {missing} of {len(known)} planned tests have no result"
            if silent := self._silent(plan):
                yield f"{named}: nothing is told of {silent[0]}" + (
                    f" and {len(silent) - 1} more files" if len(silent) > 1 else ""
                )

    def _missing(self, plan: _Plan) -> int:
        known = self._planned[plan]
        return len(known) - len(known & self._reported[plan]) - self._unfit[plan]

    def _silent(self, plan: _Plan) -> list[str]:
        """Return the files that were to run as a whole, and of which nothing is told."""
        files = self._files.get(self._digests.get(plan, ""), [])
        told = self._named.get(plan, set())
        places = (number - WHOLE_FIRST for number in sorted(self._whole.get(plan, ())))
        names = (files[at] if at < len(files) else f"file {at}, beyond its list" for at in places)
        return [name for name in names if name not in told]

    def _of_division(self, run_id: RunId, division: _Division) -> Iterator[str]:
        """Hold the sums of a conductor against what the journal tells."""
        plans = [plan for plan in self._planned if plan[0] == run_id]
        known = sum(len(self._planned[plan]) for plan in plans)
        if division.told == division.parts and known != division.planned:
            told = f"{division.planned} tests are planned, and its pools hold {known}"
            self._violated(f"run {run_id}: {told}")
        if division.ended is None:
            yield f"run {run_id}: its suite has not ended"
            return
        counts = division.ended.counts
        if sum(counts.values()) < known:
            told = f"it ended with {sum(counts.values())} results of {known} planned tests"
            self._violated(f"run {run_id}: {told}")
        missing = sum(max(0, self._missing(plan)) for plan in plans)
        missing += sum(len(self._silent(plan)) for plan in self._whole if plan[0] == run_id)
        if missing > counts.get("not_proven", 0):
            told = f"{missing} planned tests have no result, and its sums do not say so"
            self._violated(f"run {run_id}: {told}")
