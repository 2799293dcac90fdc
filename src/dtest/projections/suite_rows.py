"""The rows of suites: what was planned, and what became of each test. Pure."""

from collections.abc import Iterator
from typing import Any

import orjson

from dtest.events.attempt import Property, TestcaseFinished
from dtest.events.fields import RunId
from dtest.events.suite import NODEIDS_MAX, SuitePlanned

Row = tuple[Any, ...]


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
