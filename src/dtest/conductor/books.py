"""What is known of each run of a suite that has not ended, from the rows of the read model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from dtest.conducting.spans import numbers_in
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import RunId
from dtest.events.suite_decision import WHOLE_FIRST, SuiteDivided, SuitePooled, SuiteRerunOrdered
from dtest.projections.columns import COLUMNS
from dtest.projections.rows import Row
from dtest.reports.observation import Known, Observation
from dtest.reports.reading import attempt_of, cut_of, observation_of, part_of, planned_of, run_of
from dtest.reports.verdicts import BAD
from dtest.state.cell import Cell
from dtest.state.suite import SuiteRun
from dtest.suites.ends import STOPPED
from dtest.suites.suite import Suite

_Attempt = tuple[str, int]
_MESSAGE_CHARS_MAX = 300
"""Of what is remembered of a test: verdicts ask how a message begins."""


@dataclass(slots=True)
class Book:
    """One run."""

    pools: list[SuitePooled] = field(default_factory=list)
    orders: dict[int, list[SuiteRerunOrdered]] = field(default_factory=dict)
    """Of re-runs, by round."""
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: dict[_Attempt, dict[str, Any]] = field(default_factory=dict)
    observations: list[Observation] = field(default_factory=list)
    stopped: str = ""
    """How a session says that the suite ended its run itself."""
    _bad: dict[tuple[str, object], bool] = field(default_factory=dict)
    """Whether each test that ever failed did so at last."""
    _ever: set[str] = field(default_factory=set)

    def observe(self, seen: Observation) -> None:
        """Take what a session reported of a test."""
        self.observations.append(seen)
        key = seen.task_id if seen.number is None else "", seen.number or seen.nodeid
        if seen.outcome in BAD:
            self._bad[key] = True
            self._ever.add(seen.nodeid)
        elif key in self._bad:
            self._bad[key] = False

    def failures(self, *, several: bool) -> int:
        """Count the failures; where several classes of hardware run, each test counts once."""
        return len(self._ever) if several else sum(self._bad.values())

    def known(self, suite: SuiteRun, planned: Iterable[Mapping[str, Any]]) -> Known:
        """Return all that a verdict follows from."""
        row = {"cut": suite.cut, "cut_detail": suite.cut_detail, "cut_hint": suite.cut_hint}
        name = suite.spec.name if suite.spec is not None else suite.run_id
        run: dict[str, Any] = {
            "run_id": suite.run_id,
            "name": name,
            "labels": {},
            "opened_at": None,
        }
        return Known(
            run_of({**run, "finished": True}),
            tuple(part_of(task) for task in self.tasks.values()),
            tuple(attempt_of(attempt) for attempt in self.attempts.values()),
            tuple(self.observations),
            tuple(map(planned_of, planned)),
            cut_of(row),
            suite.notes,
        )


class Books:
    """All of them."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._books: dict[RunId, Book] = {}
        self._home: dict[str, RunId] = {}
        """The run of each session."""

    def of(self, run_id: RunId) -> Book:
        """Return the book of a run."""
        return self._books.setdefault(run_id, Book())

    def note(self, record: Recorded) -> None:
        """Take the facts of one message, which was folded, that no row holds as a whole."""
        for event in record.events:
            if not isinstance(event, Event):
                continue
            match event.data:
                case SuiteDivided(run_id=run_id) if run_id in self._cell.conducted:
                    self.of(run_id).pools.clear()
                case SuitePooled(run_id=run_id, part=part) if run_id in self._cell.conducted:
                    pools = self.of(run_id).pools
                    if part == len(pools):
                        pools.append(event.data)
                case SuiteRerunOrdered(run_id=run_id) if run_id in self._cell.conducted:
                    orders = self.of(run_id).orders.setdefault(event.data.round, [])
                    if event.data.part == len(orders):
                        orders.append(event.data)
                case _:
                    pass

    def take(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Take what changed, by statement; forget the runs that have ended."""
        self._take_tasks(rows)
        for row in _named(rows, "attempts_new"):
            if (home := self._home.get(row["task_id"])) is not None:
                found = {**row, "started_at": None, "finished_at": None, "artifacts": None}
                self.of(home).attempts[row["task_id"], row["attempt"]] = found
        for row in _named(rows, "attempts_changed"):
            if (home := self._home.get(row["task_id"])) is not None:
                self._moved(self.of(home), row)
        for row in _named(rows, "testcases"):
            if (home := self._home.get(row["task_id"])) is not None:
                brief = {"output": "", "message": row["message"][:_MESSAGE_CHARS_MAX]}
                bare = {"properties": None, "suite_properties": None}
                self.of(home).observe(observation_of({**row, **brief, **bare}))
        for run_id in [run_id for run_id in self._books if run_id not in self._cell.conducted]:
            book = self._books.pop(run_id)
            for task_id in book.tasks:
                self._home.pop(task_id, None)

    def _take_tasks(self, rows: Mapping[str, Sequence[Row]]) -> None:
        for row in _named(rows, "tasks_new"):
            if row["run_id"] in self._cell.conducted:
                self._home[row["task_id"]] = row["run_id"]
                task = {**row, "document": orjson.loads(row["document"])}
                self.of(row["run_id"]).tasks[row["task_id"]] = task
        for row in _named(rows, "tasks_changed"):
            if (home := self._home.get(row["task_id"])) is not None:
                self.of(home).tasks[row["task_id"]].update(row)

    @staticmethod
    def _moved(book: Book, row: dict[str, Any]) -> None:
        attempt = book.attempts.get((row["task_id"], row["attempt"]))
        if attempt is None:
            return
        detail = row["detail"] or attempt["detail"]
        attempt.update(status=row["status"], reason=row["reason"], detail=detail)
        if row["status"] == "failed" and (detail or "").startswith(STOPPED):
            book.stopped = book.stopped or str(detail)


def _named(rows: Mapping[str, Sequence[Row]], statement: str) -> Iterator[dict[str, Any]]:
    columns = COLUMNS[statement]
    for row in rows.get(statement, ()):
        yield dict(zip(columns, row, strict=True))


def planned_rows(
    pools: Iterable[SuitePooled], lists: Mapping[str, Suite]
) -> Iterator[dict[str, Any]]:
    """Yield what the read model holds of a plan; ``lists`` are those of each class."""
    for pool in pools:
        suite = lists[pool.hardware]
        told = {"hardware": pool.hardware, "cause": pool.cause, "applies": pool.applies}
        for number in numbers_in(pool.tests):
            if number < WHOLE_FIRST:
                yield {**told, "number": number, "nodeid": suite.tests[number][0]}
            else:
                yield {**told, "number": number, "nodeid": suite.whole[number - WHOLE_FIRST]}
    for hardware, suite in lists.items():
        for file in (*suite.broken, *suite.skipped):
            told = {"hardware": hardware, "cause": "", "applies": True}
            yield {**told, "number": None, "nodeid": file}
