"""Checks a journal from its events alone: nothing lost, nothing twice, every decision right.

Independent of the processes that ran: it reads, folds and decides again. Checks that a fold could
hide (two live attempts, a violated requirement) are made on the raw events, not on the state.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from dtest.errors import Damaged, SequenceGap
from dtest.events.attempt import (
    AttemptAssigned,
    AttemptFinished,
    AttemptRefused,
    AttemptReleased,
    AttemptReturned,
)
from dtest.events.catalogue import ROLE_OF
from dtest.events.codec import fingerprint
from dtest.events.envelope import Correlation, Event, Malformed, Recorded
from dtest.events.fields import CellId, TaskId, WorkerId
from dtest.events.leader import LeaderElected
from dtest.events.worker import WorkerLeft, WorkerLost, WorkerRegistered
from dtest.journal.port import ReadableJournal, read_to
from dtest.leadership.decision import Policy, decide
from dtest.state.cell import Cell
from dtest.state.fold import apply
from dtest.state.matching import Refusal, match
from dtest.state.task import TERMINAL, Status
from dtest.state.worker import GONE

VIOLATIONS_MAX = 100
_Recorded = Counter[tuple[str, bytes]]
_DECIDED = frozenset(name for name, role in ROLE_OF.items() if role == "scheduler") - {
    "leader.elected",
    "worker.suspected",
}


@dataclass(slots=True)
class Report:
    """What was found. ``violations`` is empty when all holds."""

    messages: int = 0
    events: int = 0
    refused: int = 0
    first_seq: int = 0
    last_seq: int = 0
    tasks_accepted: int = 0
    tasks_terminal: int = 0
    tasks_open: int = 0
    attempts: int = 0
    late_reports: int = 0
    decisions: int = 0
    decisions_partial: int = 0
    epochs: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Note a violation, the first hundred in words."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(text)


async def verify(
    journal: ReadableJournal, cell_id: CellId, *, policy: Policy | None = None
) -> Report:
    """Read the whole journal twice and report."""
    bounds = await journal.bounds()
    report = Report(first_seq=bounds.first, last_seq=bounds.last)

    async def records() -> AsyncIterator[Recorded]:
        async for batch in read_to(journal, 0, bounds.last):
            for stored in batch:
                yield stored.record()

    if bounds.messages != bounds.last - max(bounds.first, 1) + 1 and bounds.messages:
        report.add(f"{bounds.last - bounds.first + 1 - bounds.messages} messages are missing")
    try:
        decided = await _decisions(records)
        checker = _Checker(cell_id, report, decided, policy or Policy())
        async for record in records():
            checker.take(record)
    except (Damaged, SequenceGap) as gap:
        report.add(gap.message)
        return report
    checker.finish()
    return report


@dataclass(slots=True)
class _Decided:
    now: float
    seq: int
    """Its first message."""
    events: _Recorded
    last_of_epoch: bool = False


async def _decisions(
    records: Callable[[], AsyncIterator[Recorded]],
) -> dict[Correlation, _Decided]:
    """Collect what each decision recorded."""
    found: dict[Correlation, _Decided] = {}
    latest: dict[int, Correlation] = {}
    async for record in records():
        for event in record.events:
            key = _decision_of(event)
            if key is None or not isinstance(event, Event):
                continue
            decided = found.setdefault(key, _Decided(event.time, record.seq, Counter()))
            decided.events[record.subject, fingerprint(event.data)] += 1
            latest[key.epoch] = key
    for key in latest.values():
        found[key].last_of_epoch = True
    return found


def _decision_of(event: Event | Malformed) -> Correlation | None:
    """Return the decision that an event belongs to; what clients and agents claim is nothing."""
    if isinstance(event, Malformed) or event.type not in _DECIDED:
        return None
    return Correlation.parse(event.correlation)


class _Checker:
    def __init__(
        self,
        cell_id: CellId,
        report: Report,
        decided: dict[Correlation, _Decided],
        policy: Policy,
    ) -> None:
        self.cell = Cell(cell_id)
        self.report = report
        self.policy = policy
        self.by_basis: dict[int, list[tuple[Correlation, _Decided]]] = {}
        for key, decision in decided.items():
            if decision.seq <= key.basis:
                report.add(f"decision {key}: recorded at {decision.seq}, before its basis")
            self.by_basis.setdefault(key.basis, []).append((key, decision))
        self.live: dict[TaskId, tuple[int, WorkerId]] = {}
        self.results: Counter[TaskId] = Counter()

    def take(self, record: Recorded) -> None:
        report = self.report
        if record.seq != self.cell.seq + 1:
            report.add(f"sequence {self.cell.seq + 1} is missing")
        report.messages += 1
        for event in record.events:
            report.events += 1
            if isinstance(event, Event):
                self._raw(event, record)
        apply(self.cell, record)
        for event in record.events:
            if isinstance(event, Event) and isinstance(event.data, WorkerLost | WorkerLeft):
                self._gone(event.data.worker_id)
        for key, decision in self.by_basis.get(record.seq, ()):
            self._decision(key, decision)

    # -- on the raw events --------------------------------------------------------------------

    def _raw(self, event: Event, record: Recorded) -> None:
        if event.type in _DECIDED:
            self._written(event, record)
        match event.data:
            case LeaderElected():
                self.report.epochs += 1
            case AttemptAssigned() as data:
                self._assigned(data, record)
            case AttemptFinished() as data:
                if self._is_live(data.task_id, data.attempt, data.worker_id):
                    del self.live[data.task_id]
                    if data.outcome == "passed":
                        self.results[data.task_id] += 1
                else:
                    self.report.late_reports += 1
            case AttemptReturned() as data:
                task = self.cell.tasks.get(data.task_id)
                if task is not None and task.status is Status.ASSIGNED:  # else it started first
                    self._hand_back(data)
            case AttemptReleased() | AttemptRefused() as data:
                self._hand_back(data)
            case WorkerRegistered() as data:
                held = {(item.task_id, item.attempt) for item in data.held}
                known = self.cell.workers.get(data.worker_id)
                if known is None or known.incarnation != data.incarnation:
                    self._forget(data.worker_id, set())
                else:
                    running = {
                        (name, number)
                        for name, number in known.running.items()
                        if self.cell.tasks[name].status == "assigned"
                    }
                    self._forget(data.worker_id, held | running)
            case _:
                pass

    def _written(self, event: Event, record: Recorded) -> None:
        key = Correlation.parse(event.correlation)
        if key is None:
            self.report.add(f"{event.type} at {record.seq} belongs to no decision")
        elif key.epoch != self.cell.epoch:
            self.report.add(
                f"{event.type} at {record.seq} is of the epoch {key.epoch}, which ended"
            )

    def _gone(self, worker_id: WorkerId) -> None:
        worker = self.cell.workers.get(worker_id)
        if worker is not None and worker.status in GONE:
            self._forget(worker_id, set())

    def _hand_back(self, data: AttemptReleased | AttemptRefused | AttemptReturned) -> None:
        if self._is_live(data.task_id, data.attempt, data.worker_id):
            del self.live[data.task_id]

    def _is_live(self, task_id: TaskId, attempt: int, worker_id: WorkerId) -> bool:
        return self.live.get(task_id) == (attempt, worker_id)

    def _forget(self, worker_id: WorkerId, but: set[tuple[TaskId, int]]) -> None:
        for task_id, (attempt, owner) in list(self.live.items()):
            if owner == worker_id and (task_id, attempt) not in but:
                del self.live[task_id]

    def _assigned(self, data: AttemptAssigned, record: Recorded) -> None:
        report = self.report
        report.attempts += 1
        where = f"attempt {data.attempt} of {data.task_id} at {record.seq}"
        task = self.cell.tasks.get(data.task_id)
        worker = self.cell.workers.get(data.worker_id)
        if task is None or worker is None:
            report.add(f"{where}: unknown task or worker")
            return
        if worker.status in GONE or worker.incarnation != data.incarnation:
            return  # it left while this was being recorded: void for it and for the fold
        if data.task_id in self.live:
            report.add(f"{where}: attempt {self.live[data.task_id][0]} is live")
        self.live[data.task_id] = (data.attempt, data.worker_id)
        offer = match(task.demand, worker)
        if isinstance(offer, Refusal):
            report.add(f"{where}: {worker.id} {offer.text}")
        elif data.hardware not in offer or not set(data.devices) <= set(offer[data.hardware]):
            report.add(f"{where}: {data.hardware} {data.devices} does not meet the requirements")

    # -- on the decisions ---------------------------------------------------------------------

    def _decision(self, key: Correlation, recorded: _Decided) -> None:
        self.report.decisions += 1
        if self.cell.epoch != key.epoch:
            self.report.add(f"decision {key}: the epoch at its basis was {self.cell.epoch}")
        self.cell.wake(recorded.now)
        parts = decide(self.cell, recorded.now, self.policy)
        expected: _Recorded = Counter(
            (where, fingerprint(data)) for (where, _), content in parts.items() for data in content
        )
        if recorded.events == expected:
            return
        if recorded.last_of_epoch and recorded.events <= expected:
            self.report.decisions_partial += 1  # its leader died while it was written
            return
        surplus, lacking = recorded.events - expected, expected - recorded.events
        self.report.add(
            f"decision {key}: {sum(surplus.values())} events more and "
            f"{sum(lacking.values())} fewer than its basis gives"
        )

    def finish(self) -> None:
        """Sum up what the end of the journal shows."""
        report, cell = self.report, self.cell
        report.refused = cell.refused + len(cell.refusals)
        report.tasks_accepted = len(cell.tasks)
        report.tasks_terminal = sum(task.status in TERMINAL for task in cell.tasks.values())
        report.tasks_open = report.tasks_accepted - report.tasks_terminal
        for task_id, count in self.results.items():
            if count > 1:
                report.add(f"{task_id} passed {count} times")
        for task in cell.tasks.values():
            if task.status in TERMINAL and task.id in self.live:
                report.add(f"{task.id} is {task.status} while an attempt of it is live")
