"""The report of a run: what every format writes down. Pure: the same run, the same report."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from dtest.errors import NOTHING_SELECTED, NoWorkerMatches, TimedOut, UsageError
from dtest.reports.ends import Ends, Fault, ends
from dtest.reports.muting import NONE_MUTED, KnownFlaky, Muted
from dtest.reports.observation import Attempt, CutShort, Known, Observation, Part, Run
from dtest.reports.signatures import Signature, signature
from dtest.reports.verdicts import (
    BAD,
    VERDICTS,
    CaseKey,
    Result,
    Verdict,
    verdicts,
)

ALL_WELL, FAILED, NOT_PROVEN, STOPPED = 0, 1, 3, 130
"""Exit codes."""
SAYS = {
    ALL_WELL: "All well",
    FAILED: "Failed",
    NOT_PROVEN: "Not proven",
    NOTHING_SELECTED: "No tests ran",
    STOPPED: "Stopped",
}
"""What they mean, for people."""
CUT_CODES = {
    "failures": FAILED,
    "stopped": FAILED,
    "invalid": UsageError.exit_code,
    "uncollectable": UsageError.exit_code,
    "empty": NOTHING_SELECTED,
    "timeout": TimedOut.exit_code,
    "unmatched": NoWorkerMatches.exit_code,
    "cancelled": STOPPED,
}
"""Of runs that were ended before their tests had, by the cause."""
COMMIT_LABELS = ("commit", "revision")
"""Labels of a run that name the tested commit, the first that is there."""


@dataclass(frozen=True, slots=True)
class Group:
    """Failures with one signature."""

    signature: Signature
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    run: Run
    results: tuple[Result, ...]
    faults: tuple[Fault, ...] = ()
    parts: tuple[Part, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    muted: Mapping[str, Muted] = field(default_factory=dict)
    """Entries of the list of known flaky tests, by node id."""
    exit_code: int = ALL_WELL
    planned: int | None = None
    """How many results were planned; none where nobody planned any."""
    notes: tuple[str, ...] = ()
    """What is worth a line and makes nothing red."""
    cut: CutShort | None = None
    """Why the run was ended before its tests had, if it was."""

    @property
    def tests(self) -> list[Result]:
        """The results of tests, without those of tasks themselves."""
        return [result for result in self.results if not result.is_task]

    @property
    def in_words(self) -> str:
        """What the exit code says."""
        return SAYS.get(self.exit_code, f"Ended with {self.exit_code}")

    @property
    def worst_first(self) -> list[Result]:
        """All results, the worst verdicts first."""
        return sorted(self.results, key=lambda item: (VERDICTS.index(item.verdict), item.key))

    @property
    def properties(self) -> tuple[tuple[str, str], ...]:
        """What tests recorded of the whole suite, each once."""
        told = (
            pair
            for result in self.results
            for item in result.observations
            for pair in item.suite_properties
        )
        return tuple(dict.fromkeys(told))

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many tests have each verdict, worst first; none that is not there."""
        found = Counter(result.verdict for result in self.results)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    @property
    def hardware(self) -> tuple[str, ...]:
        """The classes of hardware that are known, sorted."""
        return tuple(sorted({result.key.hardware for result in self.tests} - {""}))

    @property
    def is_matrix(self) -> bool:
        """Whether some test has a verdict for each of several classes of hardware."""
        tests = {(result.key.nodeid, result.key.occurrence) for result in self.tests}
        return len(tests) < len(self.tests)

    @property
    def commit(self) -> str:
        """What was tested; empty if unknown."""
        labels = dict(self.run.labels)
        return next((labels[name] for name in COMMIT_LABELS if labels.get(name)), "")

    @property
    def groups(self) -> tuple[Group, ...]:
        """What failed, by signature, the largest group first."""
        found: dict[Signature, list[Result]] = {}
        for result in self.results:
            if result.bad:
                found.setdefault(signature(blamed(result)), []).append(result)
        made = [Group(key, tuple(results)) for key, results in found.items()]
        return tuple(sorted(made, key=lambda group: (-len(group.results), group.signature)))

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """From the first start of an attempt to the last end; none where none began and ended."""
        starts = [item.started_at for item in self.attempts if item.started_at is not None]
        ends = [item.finished_at for item in self.attempts if item.finished_at is not None]
        if not starts or not ends:
            return None
        return min(starts), max(*ends, min(starts))


def compose(known: Known, *, flaky: KnownFlaky = NONE_MUTED) -> Report:
    """Judge all that is known of a run: everybody who wants its verdict asks this function."""
    own = ends(known)
    results = (*verdicts(known), *own.results)
    muted = flaky.of(result.key.nodeid for result in results)
    planned = [
        item
        for item in known.planned
        if (item.applies or item.number is not None) and not item.is_open
    ]
    return Report(
        known.run,
        results,
        own.faults,
        known.parts,
        tuple(sorted(known.attempts, key=lambda item: (item.task_id, item.attempt))),
        muted,
        _code(results, own, known.parts, muted)
        if known.cut is None
        else CUT_CODES[known.cut.cause],
        len(planned) if planned else None,
        (*known.notes, *own.notes),
        known.cut,
    )


def gate(results: Iterable[Result], flaky: KnownFlaky = NONE_MUTED, *, today: date) -> int:
    """Return the exit code: 1 failures, 3 not proven, 5 nothing selected, 0 all well.

    Entries of the list mute their tests until the day that they state.
    """
    listed = tuple(results)
    holding = KnownFlaky(tuple(entry for entry in flaky.entries if entry.expires >= today))
    return _code(listed, Ends(), (), holding.of(result.key.nodeid for result in listed))


def _code(
    results: tuple[Result, ...],
    own: Ends,
    parts: Iterable[Part],
    muted: Mapping[str, Muted],
) -> int:
    gating = {result.verdict for result in results if result.key.nodeid not in muted}
    if gating & BAD:
        return FAILED
    if "not_proven" in gating:
        lost = {part.status for part in parts} - {"passed", "failed"}
        broken = any(not fault.of_work and fault.status != "cancelled" for fault in own.faults)
        return STOPPED if lost == {"cancelled"} and not broken else NOT_PROVEN
    return NOTHING_SELECTED if all(map(_skips_itself, results)) else ALL_WELL


def _skips_itself(result: Result) -> bool:
    """Say whether this is a whole file, none of whose tests was collected."""
    return result.verdict == "skipped" and all(
        item.phase == "collect" for item in result.observations
    )


def blamed(result: Result) -> Observation:
    """Return the failure that a result is known by: the one that decides, else the last one."""
    return result.bad[-1]


def title(key: CaseKey, *, several: bool) -> str:
    """Return the name that no other test has; ``several`` tells that the report is a matrix."""
    place = f" #{key.occurrence}" if key.occurrence > 1 else ""
    return f"{key.nodeid}{place}" + (f" @ {key.hardware or 'unknown'}" if several else "")


def duration_s(result: Result) -> float:
    """Return how long the deciding observation took."""
    return result.deciding.duration_s if result.deciding is not None else 0.0
