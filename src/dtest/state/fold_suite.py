"""Fold of what is asked and decided about suites.

What a conductor writes is fenced by the server: one of an earlier epoch is never stored. What comes
a second time, because a conductor died between two facts, changes nothing.
"""

from dtest.events.codec import fingerprint
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import RunId
from dtest.events.reasons import RefusalCode
from dtest.events.suite import SuitePlanned, SuiteSubmitted
from dtest.events.suite_decision import (
    SuiteBegun,
    SuiteCollected,
    SuiteCut,
    SuiteDivided,
    SuiteEnded,
    SuitePooled,
    SuiteRerunOrdered,
)
from dtest.events.suite_list import SuiteListed
from dtest.state.cell import Cell, Folds
from dtest.state.suite import Listing, Phase, SuiteRun
from dtest.state.task import Run


def _submitted(cell: Cell, data: SuiteSubmitted, _: Event, record: Recorded, index: int) -> None:
    known = cell.suites.get(data.run_id)
    if known is not None and _is_same(known, data):
        cell.ignore("suite_known")
        return
    if known is not None or (data.run_id in cell.runs and cell.runs[data.run_id].task_ids):
        detail = f"the run {data.run_id} is already known with other content"
        cell.refuse(record, index, RefusalCode.TASK_CONFLICT, detail)
        return
    run = cell.runs.setdefault(data.run_id, Run(data.run_id, data.name, record.stored_at))
    run.name = run.name or data.name
    cell.suites[data.run_id] = SuiteRun(data.run_id, record.seq, record.stored_at, data)
    cell.conducted.setdefault(data.run_id)


def _is_same(known: SuiteRun, data: SuiteSubmitted) -> bool:
    """Say whether the same was asked for before; other content under a known id is refused."""
    if known.spec is not None:
        return known.spec == data
    return known.fingerprint == fingerprint(data).hex()


def _open(cell: Cell, run_id: RunId) -> SuiteRun | None:
    """Return a suite that has not ended; note what is said of any other."""
    suite = cell.suites.get(run_id)
    if suite is None or suite.phase is Phase.ENDED:
        cell.ignore("suite_out_of_date")
        return None
    return suite


def _begun(cell: Cell, data: SuiteBegun, _: Event, __: Recorded, ___: int) -> None:
    suite = _open(cell, data.run_id)
    if suite is not None and not suite.lanes:
        suite.lanes = data.lanes


def _listed(cell: Cell, data: SuiteListed, _: Event, record: Recorded, __: int) -> None:
    known = cell.lists.get(data.digest)
    if known is None and data.part == 0:
        cell.lists[data.digest] = known = Listing(data.content.parts, 1, record.seq, record.seq)
        known.take(data.content)
    elif known is not None and data.part == known.told < known.parts:
        known.told += 1
        known.last_seq = record.seq
        known.take(data.content)
    else:
        cell.ignore("list_known")


def _collected(cell: Cell, data: SuiteCollected, _: Event, __: Recorded, ___: int) -> None:
    suite = _open(cell, data.run_id)
    if suite is not None:
        suite.collected.setdefault(data.hardware, data)


def _divided(cell: Cell, data: SuiteDivided, _: Event, __: Recorded, ___: int) -> None:
    suite = _open(cell, data.run_id)
    if suite is not None and suite.phase is not Phase.RUNNING:
        suite.parts, suite.pooled = data.parts, 0
        suite.planned, suite.predicted_s = data.planned, data.predicted_seconds
        suite.notes = data.notes


def _pooled(cell: Cell, data: SuitePooled, _: Event, __: Recorded, ___: int) -> None:
    suite = _open(cell, data.run_id)
    if suite is not None and suite.parts is not None and data.part == suite.pooled < suite.parts:
        suite.pooled += 1


def _rerun(cell: Cell, data: SuiteRerunOrdered, _: Event, __: Recorded, ___: int) -> None:
    suite = _open(cell, data.run_id)
    if suite is None or data.round != suite.round + 1:
        return
    told = suite.ordering[1] if suite.ordering[0] == data.round else 0
    if data.part != told:
        return
    suite.ordering = (data.round, told + 1)
    if told + 1 == data.parts:
        suite.round = data.round


def _cut(cell: Cell, data: SuiteCut, _: Event, __: Recorded, ___: int) -> None:
    suite = _open(cell, data.run_id)
    if suite is not None and suite.cut is None:
        suite.cut, suite.cut_detail, suite.cut_hint = data.cause, data.detail, data.hint


def _ended(cell: Cell, data: SuiteEnded, _: Event, record: Recorded, __: int) -> None:
    suite = _open(cell, data.run_id)
    if suite is not None:
        if suite.spec is not None:
            suite.fingerprint = fingerprint(suite.spec).hex()
        suite.exit_code, suite.counts, suite.spec = data.exit_code, data.counts, None
        suite.ended_seq = record.seq
        cell.conducted.pop(data.run_id, None)


def _planned(cell: Cell, data: SuitePlanned, _: Event, __: Recorded, ___: int) -> None:
    """Plans of clients are read where results are judged; the state needs none of it."""
    if data.run_id not in cell.runs:
        cell.ignore("plan_of_unknown_run")


SUITE_FOLDS: Folds = {
    SuiteSubmitted: _submitted,
    SuiteBegun: _begun,
    SuiteListed: _listed,
    SuiteCollected: _collected,
    SuiteDivided: _divided,
    SuitePooled: _pooled,
    SuiteRerunOrdered: _rerun,
    SuiteCut: _cut,
    SuiteEnded: _ended,
    SuitePlanned: _planned,
}
