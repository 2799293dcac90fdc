"""The rows of suites: what was asked for, what there is, what runs where, what came of it.

Pure.
"""

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from dtest.events.attempt import Property, TestcaseFinished
from dtest.events.catalogue import Payload
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import RunId
from dtest.events.suite import NODEIDS_MAX, SuitePlanned, SuiteSubmitted
from dtest.events.suite_decision import WHOLE_FIRST, SuiteCollected, SuitePooled
from dtest.events.suite_list import SuiteListed
from dtest.state.cell import Cell
from dtest.state.suite import SuiteRun
from dtest.suites.requirement import in_words

Row = tuple[Any, ...]
Emit = Callable[[str, Row], None]
FILES_FIRST = 2 * WHOLE_FIRST
"""Place in a list of the first file that is to be collected and no more."""


class SuiteRows:
    """Notes the rows of suites; ``emit`` takes each with its statement."""

    def __init__(self, cell: Cell, emit: Emit, *, lists: bool = True) -> None:
        self._cell = cell
        self._keeps_lists = lists
        self._emit = emit
        self._changed: dict[RunId, None] = {}

    def after(self, event: Event, record: Recorded, index: int) -> None:
        """Note what an event, which was folded, says of suites."""
        if (record.seq, index) in self._cell.refusals:
            return
        match event.data:
            case TestcaseFinished() as data:
                task = self._cell.tasks.get(data.task_id)
                if task is not None:
                    self._emit("testcases", testcase_row(data, task.run_id, record.seq))
            case SuitePlanned() as data if data.run_id in self._cell.runs:
                for row in plan_rows(data, record.seq, index):
                    self._emit("plans", row)
            case SuiteListed() as data:
                if self._keeps_lists:
                    self._listed(data, record)
            case data:
                self._about(data, record, index)

    def _about(self, data: Payload, record: Recorded, index: int) -> None:
        run_id = getattr(data, "run_id", None)
        suite = self._cell.suites.get(run_id) if run_id is not None else None
        if suite is None:
            return
        match data:
            case SuiteSubmitted() if suite.seq == record.seq:
                muted = orjson.dumps(data.muted).decode()
                document = orjson.dumps(data).decode()
                self._emit("suites_new", (data.run_id, document, muted, record.seq))
            case SuiteCollected() if suite.collected.get(data.hardware) is data:
                self._emit("suite_lists", (data.run_id, data.hardware, data.digest, record.seq))
            case SuitePooled() if suite.pooled > data.part:
                self._pooled(suite, data, record.seq, index)
        if data.TYPE.startswith(("suite.", "run.")):
            self._changed[suite.run_id] = None

    def _listed(self, data: SuiteListed, record: Recorded) -> None:
        known = self._cell.lists.get(data.digest)
        if known is None or known.last_seq != record.seq or known.told != data.part + 1:
            return  # told before
        content = data.content
        told = known.tests - len(content.tests)
        for place, (nodeid, _) in enumerate(content.tests):
            where = ""
            if content.places:
                function, number, _ = content.places[place]
                of = content.functions[function]
                where = place_key(of.file, of.name, number)
            row = (data.digest, told + place, "test", nodeid, where)
            self._emit("lists", row)
        files = (*content.broken, *content.skipped)
        for kind, first, names in (
            ("whole", WHOLE_FIRST + known.whole - len(content.whole), content.whole),
            ("file", FILES_FIRST + known.files - len(files), files),
        ):
            for place, name in enumerate(names):
                self._emit("lists", (data.digest, first + place, kind, name, ""))

    def _pooled(self, suite: SuiteRun, data: SuitePooled, seq: int, index: int) -> None:
        of_class = suite.collected.get(data.hardware)
        if of_class is None:
            return
        lane = next(lane for lane in suite.lanes if lane.name == data.hardware)
        asked = "" if data.requirements == lane.requirements else in_words(data.requirements)
        told = (data.queue, data.cause, data.applies, asked, data.sessions, seq, index)
        for first, last in data.tests:
            row = (data.run_id, data.hardware, of_class.digest, first, last)
            self._emit("pools", (*row, *told))

    def take(self) -> list[Row]:
        """Return how each suite stands that moved."""
        rows = [_suite_row(self._cell.suites[run_id]) for run_id in self._changed]
        self._changed.clear()
        return rows


def _suite_row(suite: SuiteRun) -> Row:
    tests = sum(each.tests for each in suite.collected.values())
    return (
        *(
            suite.run_id,
            str(suite.phase),
            suite.parts is not None,
            tests,
            suite.planned,
            suite.predicted_s,
        ),
        *(orjson.dumps(suite.notes).decode(), suite.round),
        *(suite.cut, suite.cut_detail, suite.cut_hint, suite.exit_code),
        orjson.dumps(suite.counts).decode(),
    )


def place_key(file: str, function: str, index: int) -> str:
    """Return what names a test by its place, in runs in which ids are new each time."""
    return f"{file}::{function} @{index}"


def testcase_row(data: TestcaseFinished, run_id: RunId, seq: int) -> Row:
    """Return the row of a test case."""
    return (
        *(data.task_id, data.attempt, data.ordinal, run_id, data.worker_id),
        *(data.nodeid, data.outcome, data.phase, data.duration_s),
        *(data.message, data.output, data.file, data.line, data.number),
        *(_pairs(data.properties), _pairs(data.suite_properties), seq),
    )


def plan_rows(data: SuitePlanned, seq: int, index: int) -> Iterator[Row]:
    """Yield a row for each planned test, then for each file that is to be collected.

    The last number of a row orders those of one message.
    """
    first = index * NODEIDS_MAX * 2
    plan = data.run_id, data.hardware
    for place, test in enumerate(data.tests):
        told = test.number, test.nodeid, test.cause, test.applies
        yield (*plan, *told, seq, first + place)
    first += len(data.tests)
    for place, file in enumerate(data.files):
        yield (*plan, None, file, "", True, seq, first + place)


def _pairs(properties: tuple[Property, ...]) -> str | None:
    pairs = [(each.name, each.value) for each in properties]
    return orjson.dumps(pairs).decode() if pairs else None
