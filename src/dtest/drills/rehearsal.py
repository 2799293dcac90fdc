"""A rehearsal on a copy of a journal: what a new leader would find and do, and what a loss costs.

Nothing is written anywhere but to the copy in memory.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from dtest.drills.checks import keep_books
from dtest.drills.replica import replica
from dtest.errors import InvalidDocument, NotFound
from dtest.events import codec, subject
from dtest.events.envelope import Correlation, Event
from dtest.events.fields import CellId, EventId, WorkerId
from dtest.events.leader import LeaderElected
from dtest.events.worker import WorkerSuspected
from dtest.journal.port import Outgoing, Stored
from dtest.leadership.audit import verify
from dtest.leadership.decision import Signature, messages
from dtest.leadership.rules import CURRENT, elected
from dtest.runtime.clock import SystemClock
from dtest.state.cell import Cell
from dtest.state.fold import apply
from dtest.state.snapshot import dump, load
from dtest.state.worker import GONE

_now = SystemClock().monotonic
LEADER = "rehearsal"
DECISIONS_MAX = 1_000
AFTER_S = 1.0
"""Between the last message and the take-over that is rehearsed."""


@dataclass(slots=True)
class Rehearsal:
    """What was found. Durations in seconds, on this machine."""

    cell: str = ""
    messages: int = 0
    events: int = 0
    violations: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    decisions_not_again: dict[str, int] = field(default_factory=dict)
    """Decisions of the past of which only the facts were checked, by the reason why."""
    fold_s: float = 0.0
    """A start without a snapshot."""
    snapshot_bytes: int = 0
    snapshot_load_s: float = 0.0
    """A start with one."""
    tasks: dict[str, int] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    lost_workers: list[str] = field(default_factory=list)
    attempts_given_away: int = 0
    """That ran on the workers that are lost in the rehearsal."""
    decided: dict[str, int] = field(default_factory=dict)
    """What the new leader records until it has nothing more to say, by type."""
    decisions: int = 0
    tasks_afterwards: dict[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return it as plain values."""
        return asdict(self)


async def rehearse(stored: Iterable[Stored], lose: Sequence[str] = ()) -> Rehearsal:
    """Rehearse a take-over on a copy, with the loss of some workers.

    Raises InvalidDocument for an empty journal, NotFound for a worker that is not there.
    """
    whole = list(stored)
    if not whole:
        nothing = "the journal holds no message"
        raise InvalidDocument(nothing, hint="give an archive of a cell that did something")
    found = Rehearsal(whole[0].subject.split(".")[1], len(whole))
    cell_id = CellId(found.cell)
    audit = await verify(await replica(whole), cell_id)
    found.violations = [*audit.violations, *keep_books(whole).violations]
    found.doubts = audit.doubts
    found.decisions_not_again = audit.decisions_not_again
    cell = _folded(whole, cell_id, found)
    _snapshot(cell, found)
    found.tasks = Counter(str(task.status) for task in cell.tasks.values())
    found.workers = Counter(str(worker.status) for worker in cell.workers.values())
    _take_over(cell, whole[-1], lose, found)
    found.tasks_afterwards = Counter(str(task.status) for task in cell.tasks.values())
    return found


def _folded(whole: Sequence[Stored], cell_id: CellId, found: Rehearsal) -> Cell:
    cell = Cell(cell_id)
    begun = _now()
    for stored in whole:
        record = stored.record()
        apply(cell, record)
        found.events += len(record.events)
    found.fold_s = round(_now() - begun, 3)
    return cell


def _snapshot(cell: Cell, found: Rehearsal) -> None:
    document = dump(cell)
    begun = _now()
    again = load(document)
    found.snapshot_load_s = round(_now() - begun, 3)
    found.snapshot_bytes = len(document)
    if dump(again) != document:
        found.violations.append("a snapshot of this state is not read back as it was")


def _take_over(cell: Cell, last: Stored, lose: Sequence[str], found: Rehearsal) -> None:
    ids = iter(range(1, 1 << 62))
    now = last.stored_at + AFTER_S

    def record(message: Outgoing) -> None:
        apply(
            cell, Stored(cell.seq + 1, message.subject, now, message.id, message.payload).record()
        )

    def say(where: str, data: LeaderElected | WorkerSuspected) -> None:
        source = codec.source(cell.id, "scheduler", LEADER)
        event = Event(EventId(f"rehearsal-{next(ids)}"), source, now, data)
        record(Outgoing(where, codec.encode([event]), event.id))

    say(subject.epoch(cell.id), elected(LEADER, cell.epoch))
    for name in lose:
        worker = cell.workers.get(WorkerId(name))
        if worker is None or worker.status in GONE:
            there = sorted(w.id for w in cell.workers.values() if w.status not in GONE)
            absent = f"no worker {name} is there at the end of this journal"
            raise NotFound(absent, hint=f"there are: {', '.join(there) or 'none'}")
        found.lost_workers.append(worker.id)
        found.attempts_given_away += len(worker.running)
        say(
            subject.observed(cell.id),
            WorkerSuspected(worker.id, worker.incarnation, "silence", AFTER_S),
        )
    decided: Counter[str] = Counter()
    while found.decisions < DECISIONS_MAX:
        cell.wake(now)
        parts = CURRENT.decide(cell, now)
        if not parts:
            break
        decided.update(data.TYPE for payloads in parts.values() for data in payloads)
        signature = Signature(cell.id, LEADER, Correlation(cell.epoch, cell.seq), now)
        for message in list(messages(parts, signature, lambda: f"rehearsal-{next(ids)}")):
            record(message)
        found.decisions += 1
    found.decided = decided
