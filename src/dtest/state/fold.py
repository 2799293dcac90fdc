"""``apply``: one message of the journal, folded into the state of its cell.

Total: whatever the journal holds, ``apply`` returns; what cannot be accepted is noted for
refusal, what no longer applies is counted.
"""

from collections.abc import Iterable

from dtest.events.catalogue import ROLE_OF, version_of
from dtest.events.envelope import Correlation, Event, Malformed, Recorded
from dtest.events.leader import EventRefused, LeaderElected
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import RefusalCode
from dtest.state.cell import Cell, Folds
from dtest.state.fold_attempt import ATTEMPT_FOLDS
from dtest.state.fold_health import HEALTH_FOLDS
from dtest.state.fold_suite import SUITE_FOLDS
from dtest.state.fold_task import TASK_FOLDS, admit
from dtest.state.fold_worker import WORKER_FOLDS
from dtest.state.term import term_of, unknown_to


def apply(cell: Cell, record: Recorded) -> None:
    """Fold one message; messages that were folded before change nothing."""
    if record.seq <= cell.seq:
        return
    cell.seq = record.seq
    if record.stored_at - cell.now > cell.parameters.pause_s_min:
        cell.resumed_at = record.stored_at
    cell.now = max(cell.now, record.stored_at)
    batch = None
    for index, event in enumerate(record.events):
        if isinstance(event, Malformed):
            cell.refuse(record, index, event.code, event.detail)
            continue
        if event.type in NEWER and not _is_known(cell, event):
            detail = f"the leader in office knows no such {event.type}"
            cell.refuse(record, index, RefusalCode.UNKNOWN_EVENT, detail)
            continue
        fold = FOLDS.get(type(event.data))
        if fold is not None:
            fold(cell, event.data, event, record, index)
        elif event.data.TYPE == "task.queued":
            batch = batch or []
            batch.append(index)
    if batch:
        admit(cell, record, batch)


def _is_known(cell: Cell, event: Event) -> bool:
    """Say whether the leader in office knows such an event; before the first one all are known."""
    since = NEWER[event.type].get(event.version or version_of(type(event.data)), 0)
    return not cell.epoch or cell.term.rules >= since


def apply_all(cell: Cell, records: Iterable[Recorded]) -> Cell:
    """Fold a series of messages."""
    for record in records:
        apply(cell, record)
    return cell


def _elected(cell: Cell, data: LeaderElected, _: Event, record: Recorded, __: int) -> None:
    cell.epoch = record.seq
    cell.leader_id = data.leader_id
    cell.term = term_of(data)
    cell.settle_parameters()


def _policy(cell: Cell, data: PolicyChanged, _: Event, record: Recorded, index: int) -> None:
    unknown = unknown_to(cell.term, data)
    if unknown:
        detail = f"the leader in office knows no parameter {', '.join(unknown)}"
        cell.refuse(record, index, RefusalCode.INVALID_DATA, detail)
        return
    cell.ranking = data.ranking or cell.ranking
    cell.strategy = data.strategy or cell.strategy
    cell.timeouts = data.timeouts or cell.timeouts
    if cell.timeouts == "declared":
        cell.durations.clear()
    for name in data.reset:
        cell.chosen.pop(name, None)
    cell.chosen |= data.parameters
    cell.settle_parameters()


def _refused(cell: Cell, data: EventRefused, _: Event, __: Recorded, ___: int) -> None:
    if cell.refusals.pop((data.refused_seq, data.index), None) is not None:
        cell.refused += 1


def decision_of(event: Event | Malformed) -> Correlation | None:
    """Return the decision an event belongs to, if it is part of one."""
    return None if isinstance(event, Malformed) else Correlation.parse(event.correlation)


NEWER: dict[str, dict[int, int]] = {
    "suite.planned": {1: 2},
    "testcase.finished": {2: 2},
    "suite.submitted": {1: 3},
    **{name: {1: 3} for name, role in ROLE_OF.items() if role == "conductor"},
}
"""By type and its version: the first rules whose leaders know the event. Older ones refuse it."""

FOLDS: Folds = {
    LeaderElected: _elected,
    EventRefused: _refused,
    PolicyChanged: _policy,
    **TASK_FOLDS,
    **ATTEMPT_FOLDS,
    **WORKER_FOLDS,
    **HEALTH_FOLDS,
    **SUITE_FOLDS,
}
