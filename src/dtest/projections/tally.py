"""How the tests of runs stand while they run: counted as they come, not summed at each look. Pure.

Tells what the view ``testcase_verdicts`` tells, of the runs that somebody looks at.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from dtest.events.suite import HARDWARE_CLASS
from dtest.projections.columns import COLUMNS
from dtest.projections.rows import Row

STANDING = "SELECT task_id, number, nodeid, outcome FROM testcase_verdicts WHERE run_id = ?"
"""How each test of a run stands: what counting begins with."""
HOMES = "SELECT task_id, document FROM tasks WHERE run_id = ?"
_CASE = {name: place for place, name in enumerate(COLUMNS["testcases"])}
_TASK = {name: place for place, name in enumerate(COLUMNS["tasks_new"])}


@dataclass(slots=True)
class _Run:
    """One run."""

    homes: dict[str, str] = field(default_factory=dict)
    """Class of hardware of each task."""
    last: dict[str, dict[int | str, str]] = field(default_factory=dict)
    """The latest outcome of each test, by class of hardware, and number or node id."""
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, task_id: str, test: int | str, outcome: str) -> None:
        """Take an outcome, later than all before."""
        known = self.last.setdefault(self.homes.get(task_id, ""), {})
        before = known.get(test)
        if before is not None:
            self.counts[before] -= 1
        known[test] = outcome
        self.counts[outcome] += 1


class Tally:
    """The runs that are counted."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def counts(self, run_id: str) -> dict[str, int] | None:
        """Return how many tests have each outcome; none for a run that is not counted."""
        run = self._runs.get(run_id)
        if run is None:
            return None
        counts = dict(run.counts)  # a copy: the projector's thread adds to them
        return {name: count for name, count in counts.items() if count}

    def begin(
        self,
        run_id: str,
        homes: Iterable[tuple[str, str]],
        standing: Iterable[tuple[str, int | None, str, str]],
    ) -> None:
        """Begin to count a run, with the answers to ``HOMES`` and ``STANDING``."""
        run = _Run({task: _class_in(document) for task, document in homes})
        for task_id, number, nodeid, outcome in standing:
            run.note(task_id, nodeid if number is None else number, outcome)
        self._runs[run_id] = run

    @property
    def runs(self) -> list[str]:
        """Those that are counted."""
        return list(self._runs)

    def forget(self, run_id: str) -> None:
        """Count a run no more."""
        self._runs.pop(run_id, None)

    def take(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Take the rows that were written, in the order of the journal."""
        if not self._runs:
            return
        for row in rows.get("tasks_new", ()):
            if (run := self._runs.get(row[_TASK["run_id"]])) is not None:
                run.homes[row[_TASK["task_id"]]] = _class_in(row[_TASK["document"]])
        for row in rows.get("testcases", ()):
            if (run := self._runs.get(row[_CASE["run_id"]])) is not None:
                number, nodeid = row[_CASE["number"]], row[_CASE["nodeid"]]
                test = nodeid if number is None else number
                run.note(row[_CASE["task_id"]], test, row[_CASE["outcome"]])


def _class_in(document: str) -> str:
    return str(orjson.loads(document).get("labels", {}).get(HARDWARE_CLASS, ""))
