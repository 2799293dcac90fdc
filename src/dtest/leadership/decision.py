"""One decision: what all deciders say about one state at one instant. Pure.

The deciders do not know each other; they meet here and in the log. ``basis`` and ``now`` make a
decision checkable: fold to the basis, decide again, compare.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dtest.events import codec, subject
from dtest.events.attempt import AttemptAssigned, AttemptStopRequested
from dtest.events.breaker import BreakerOpened
from dtest.events.catalogue import Payload
from dtest.events.envelope import Correlation, Event
from dtest.events.fields import CellId, EventId
from dtest.events.worker import WorkerQuarantined
from dtest.journal.port import Outgoing
from dtest.recovery.decider import decide_recovery
from dtest.scheduling.decider import decide_assignments
from dtest.state.cell import Cell

_BARRING = (BreakerOpened, WorkerQuarantined)
Parts = dict[tuple[str, str], list[Payload]]
"""``(subject, event type)`` maps to what is said there."""


def decide(cell: Cell, now: float) -> Parts:
    """Return everything to be recorded now, by subject; empty if there is nothing.

    The caller lets ``cell.wake(now)`` precede. While rulings are left over nothing is assigned:
    one of them may bar a worker.
    """
    rulings, is_cut = decide_recovery(cell, now)
    return _decided(cell, rulings, assigns=not is_cut)


def decide_unrecorded(cell: Cell, now: float) -> Parts:
    """Decide as before rules were recorded: rulings as they came up, assignments beside a part."""
    rulings, _ = decide_recovery(cell, now, order=list)
    return _decided(cell, rulings, assigns=True)


def _decided(cell: Cell, rulings: Iterable[Payload], *, assigns: bool) -> Parts:
    parts: Parts = {}
    for ruling in rulings:
        parts.setdefault((_subject(cell, ruling), ruling.TYPE), []).append(ruling)
        assigns = assigns and not isinstance(ruling, _BARRING)  # recorded before work may pass
    for assignment in decide_assignments(cell) if assigns else ():
        parts.setdefault((_subject(cell, assignment), assignment.TYPE), []).append(assignment)
    return parts


def _subject(cell: Cell, data: Payload) -> str:
    match data:
        case AttemptAssigned():
            return subject.work(cell.id, data.hardware, data.worker_id)
        case AttemptStopRequested():
            task = cell.tasks.get(data.task_id)
            hardware = task.hardware if task is not None and task.hardware else "cpu"
            return subject.work(cell.id, hardware, data.worker_id)
        case _:
            return subject.decided(cell.id)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who decided, on what, and when."""

    cell: CellId
    leader_id: str
    correlation: Correlation
    now: float


def messages(parts: Parts, signature: Signature, new_id: Callable[[], str]) -> Iterator[Outgoing]:
    """Write a decision down, as few messages as the limits allow."""
    source = codec.source(signature.cell, "scheduler", signature.leader_id)
    correlation = str(signature.correlation)
    for (where, _), payloads in parts.items():
        events = [
            Event(EventId(new_id()), source, signature.now, payload, correlation)
            for payload in payloads
        ]
        for first_id, payload in codec.split(events):
            yield Outgoing(where, payload, first_id)
