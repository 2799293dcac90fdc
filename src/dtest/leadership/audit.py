"""Checks a journal from its events alone: nothing lost, nothing twice, every decision right.

Independent of the processes that ran: it reads, folds and decides again. Each decision is made
again by the rules and the parameters that its term recorded. Where that cannot be done, because
this version does not have those rules, its facts alone are checked, and the report says so: never
a violation that is none, never a pass that was not earned.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from dtest.errors import Damaged, SequenceGap
from dtest.events.catalogue import ROLE_OF, Payload
from dtest.events.codec import fingerprint
from dtest.events.envelope import Correlation, Event, Malformed, Recorded
from dtest.events.fields import CellId
from dtest.events.leader import EventRefused, LeaderElected
from dtest.events.policy import PolicyChanged
from dtest.journal.port import ReadableJournal, read_to
from dtest.leadership.rules import RULES, Rules
from dtest.leadership.soundness import Soundness
from dtest.state.cell import Cell
from dtest.state.fold import apply
from dtest.state.task import TERMINAL
from dtest.state.term import UNRECORDED_RULES
from dtest.suites.conservation import Conservation

TEXTS_MAX = 100
"""Number of violations, doubts and changes of policy each that are told in words at most."""
Unrecorded = Literal["decide", "trust"]
"""What to do about terms that recorded no rules: ``decide`` again by the last rules before rules
were recorded (a difference is a doubt, for they may be older), or ``trust`` and check facts."""
_Recorded = Counter[tuple[str, bytes]]
_DECIDED = frozenset(name for name, role in ROLE_OF.items() if role == "scheduler") - {
    "leader.elected",
    "worker.suspected",
}


@dataclass(slots=True)
class Report:
    """What was found. Where ``violations`` and ``doubts`` are empty, all holds that was checked."""

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
    decisions_again: int = 0
    """Decisions that were made again, by the rules of their terms."""
    decisions_partial: int = 0
    """Of these, the last ones of leaders that died while they were written."""
    decisions_not_again: dict[str, int] = field(default_factory=dict)
    """Decisions of which only the facts were checked, by the reason why."""
    epochs: int = 0
    terms: dict[str, int] = field(default_factory=dict)
    """Number of terms by the version of their rules."""
    policy_changed: int = 0
    policy_changes: list[str] = field(default_factory=list)
    """The first hundred of them, in words."""
    tests_planned: int = 0
    short: list[str] = field(default_factory=list)
    """Plans of runs some of whose tests have no result: these are not proven."""
    trusted: list[str] = field(default_factory=list)
    """What was believed without a check."""
    doubts: list[str] = field(default_factory=list)
    """What is wrong by the rules of this version, and may be right by those that were in force."""
    violations: list[str] = field(default_factory=list)

    @property
    def objections(self) -> list[str]:
        """All that may not be in a journal which this version wrote alone."""
        not_again = [
            f"{count} decisions by {why}: not decided again"
            for why, count in self.decisions_not_again.items()
        ]
        return [*self.violations, *self.doubts, *not_again]

    @property
    def verdict(self) -> str:
        """The result in one line."""
        if self.violations:
            return "the journal does not hold"
        if self.doubts:
            return "it cannot be told whether the journal holds"
        if self.decisions_not_again:
            count = sum(self.decisions_not_again.values())
            return f"all holds that was checked; {count} decisions were not decided again"
        return "all holds"


async def verify(
    journal: ReadableJournal,
    cell_id: CellId,
    *,
    rules: Mapping[int, Rules] = RULES,
    unrecorded: Unrecorded = "decide",
) -> Report:
    """Read the whole journal twice and report; ``rules`` are those that can decide again."""
    bounds = await journal.bounds()
    report = Report(first_seq=bounds.first, last_seq=bounds.last)

    async def records() -> AsyncIterator[Recorded]:
        async for batch in read_to(journal, 0, bounds.last):
            for stored in batch:
                yield stored.record()

    if bounds.messages != bounds.last - max(bounds.first, 1) + 1 and bounds.messages:
        missing = bounds.last - bounds.first + 1 - bounds.messages
        report.violations.append(f"{missing} messages are missing")
    try:
        decided = await _decisions(records)
        checker = _Checker(cell_id, report, decided, rules=rules, unrecorded=unrecorded)
        async for record in records():
            checker.take(record)
    except (Damaged, SequenceGap) as gap:
        report.violations.append(gap.message)
        return report
    checker.finish()
    return report


@dataclass(slots=True)
class _Decided:
    now: float
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
            decided = found.setdefault(key, _Decided(event.time, Counter()))
            decided.events[record.subject, _digest(event.data)] += 1
            latest[key.epoch] = key
    for key in latest.values():
        found[key].last_of_epoch = True
    return found


def _digest(data: Payload) -> bytes:
    """Return what a decision says, but for why a message was refused: libraries word that."""
    return fingerprint(replace(data, detail="") if isinstance(data, EventRefused) else data)


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
        *,
        rules: Mapping[int, Rules],
        unrecorded: Unrecorded,
    ) -> None:
        self.cell = Cell(cell_id)
        self.report = report
        self.rules = rules
        self.unrecorded = unrecorded
        self.newest = UNRECORDED_RULES
        """The newest rules of any term so far."""
        self.soundness = Soundness(self.cell, self._violated)
        self.conservation = Conservation(self._violated)
        self.assumed = False
        """Something was decided again by rules that no term recorded."""
        self.terms: Counter[str] = Counter()
        self.not_again: Counter[str] = Counter()
        self.by_basis: dict[int, list[tuple[Correlation, _Decided]]] = {}
        for key, decision in decided.items():
            self.by_basis.setdefault(key.basis, []).append((key, decision))

    def take(self, record: Recorded) -> None:
        """Check a message, fold it, and decide again what was decided on it."""
        report = self.report
        if record.seq != self.cell.seq + 1:
            _note(report.violations, f"sequence {self.cell.seq + 1} is missing")
        report.messages += 1
        for event in record.events:
            report.events += 1
            if isinstance(event, Event):
                self._written(event, record)
                self.soundness.before(event, record)
        apply(self.cell, record)
        for index, event in enumerate(record.events):
            if isinstance(event, Event):
                self.soundness.after(event)
                if (record.seq, index) not in self.cell.refusals:
                    self.conservation.take(event.data)
        for key, decision in self.by_basis.get(record.seq, ()):
            self._decision(key, decision)

    def _violated(self, text: str) -> None:
        """Note what must not be; once newer rules wrote, this version may misread what it sees."""
        beyond = self.newest > max(self.rules, default=UNRECORDED_RULES)
        _note(self.report.doubts if beyond else self.report.violations, text)

    def _written(self, event: Event, record: Recorded) -> None:
        match event.data:
            case LeaderElected() as data:
                self.report.epochs += 1
                self.terms[_named(data.rules)] += 1
                self.newest = max(self.newest, data.rules)
            case PolicyChanged() as data:
                self.report.policy_changed += 1
                _note(self.report.policy_changes, f"{record.seq}: {_told(data)} by {event.source}")
            case _ if event.type in _DECIDED:
                wrong = self._why_not_of(Correlation.parse(event.correlation), record)
                if wrong:
                    self._violated(f"{event.type} at {record.seq} {wrong}")
            case _:
                pass

    def _why_not_of(self, decision: Correlation | None, record: Recorded) -> str:
        """Say why an event cannot be part of the decision that it names, or nothing."""
        if decision is None:
            return "belongs to no decision"
        if decision.epoch != self.cell.epoch:
            return f"is of the epoch {decision.epoch}, which ended"
        if decision.basis >= record.seq:
            return f"is recorded before the basis of its decision {decision}"
        if decision.basis < decision.epoch:
            return f"is of the decision {decision}, from before the election of its leader"
        return ""

    def _decision(self, key: Correlation, recorded: _Decided) -> None:
        self.report.decisions += 1
        if self.cell.epoch != key.epoch:
            self._violated(f"decision {key}: the epoch at its basis was {self.cell.epoch}")
        why_not = self._why_not_again()
        if why_not:
            self.not_again[why_not] += 1
            return
        self.report.decisions_again += 1
        version = self.cell.term.rules
        self.assumed = self.assumed or version == UNRECORDED_RULES
        self.cell.wake(recorded.now)
        parts = self.rules[version].decide(self.cell, recorded.now)
        expected: _Recorded = Counter(
            (where, _digest(data)) for (where, _), content in parts.items() for data in content
        )
        if recorded.events == expected:
            return
        if recorded.last_of_epoch and recorded.events <= expected:
            self.report.decisions_partial += 1  # its leader died while it was written
            return
        surplus, lacking = recorded.events - expected, expected - recorded.events
        text = (
            f"decision {key}: {sum(surplus.values())} events more and "
            f"{sum(lacking.values())} fewer than its basis gives"
        )
        if version == UNRECORDED_RULES:
            _note(self.report.doubts, f"{text} by the last rules that were not recorded")
        else:
            self._violated(text)

    def _why_not_again(self) -> str:
        """Say why a decision of the present term cannot be made again, or nothing."""
        version = self.cell.term.rules
        if version < self.newest:
            return f"{_named(version)}, after {_named(self.newest)} that its leader may not know"
        if version == UNRECORDED_RULES and self.unrecorded == "trust":
            return f"{_named(version)}, which were to be trusted"
        if version not in self.rules:
            newer = version > max(self.rules, default=UNRECORDED_RULES)
            than = "newer than this version knows" if newer else "older than this version keeps"
            return f"{_named(version)}, {than}"
        return ""

    def finish(self) -> None:
        """Sum up what the end of the journal shows."""
        report, cell = self.report, self.cell
        self.soundness.finish()
        report.attempts = self.soundness.attempts
        report.late_reports = self.soundness.late_reports
        report.refused = cell.refused + len(cell.refusals)
        report.tasks_accepted = len(cell.tasks)
        report.tasks_terminal = sum(task.status in TERMINAL for task in cell.tasks.values())
        report.tasks_open = report.tasks_accepted - report.tasks_terminal
        report.tests_planned = self.conservation.planned
        for text in self.conservation.finish():
            _note(report.short, text)
        report.terms = dict(self.terms)
        report.decisions_not_again = dict(self.not_again)
        report.trusted = [*self._trusted()]

    def _trusted(self) -> list[str]:
        trusted = ["what this version's fold makes of each event"]
        if set(self.terms) - {_named(UNRECORDED_RULES)}:
            trusted.append("the parameters that the terms recorded, and changes of policy")
        if self.assumed:
            trusted.append("that terms without recorded rules had the last ones before these were")
        trusted += [
            f"{count} decisions by {why}: only their facts were checked"
            for why, count in self.not_again.items()
        ]
        return trusted


def _note(texts: list[str], text: str) -> None:
    if len(texts) < TEXTS_MAX:
        texts.append(text)


def _named(version: int) -> str:
    return f"rules {version}" if version != UNRECORDED_RULES else "unrecorded rules"


def _told(data: PolicyChanged) -> str:
    chosen = (data.ranking, data.strategy, data.timeouts)
    said = [str(name) for name in chosen if name is not None]
    said += [f"{name} = {value}" for name, value in data.parameters.items()]
    said += [f"{name} reset" for name in data.reset]
    return ", ".join(said) or "nothing"
