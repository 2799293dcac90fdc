"""Exactly one verdict for each test, from its ordered observations. Pure.

A test is a node id, its place among the reports of that node id in one attempt (subtests share
one), and the class of hardware it ran on. Which worker ran it, in which attempt or re-run, makes no
other test of it. What infrastructure did to a test is never held against the test.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dtest.events.reasons import MEANINGS, Reason
from dtest.reports.observation import Attempt, Known, Observation, Outcome, Part, Planned
from dtest.reports.plan import unseen

Verdict = Literal[
    "passed", "failed", "error", "skipped", "xfailed", "xpassed", "flaky", "not_proven"
]
VERDICTS: tuple[Verdict, ...] = (
    *("failed", "error", "not_proven", "flaky"),
    *("xpassed", "xfailed", "skipped", "passed"),
)
"""Worst first."""
BAD: frozenset[str] = frozenset({"failed", "error"})
JUDGED = frozenset({"passed", "failed"})
"""States of a task that came to a verdict of its own."""
_CUT_SHORT = ("crashed:", "interrupted:")
"""How the message of a test begins that was taken down with its process."""
_COMPLETE = frozenset({Reason.CRASH_SIGNAL, Reason.COLLECTION_ERROR})
"""Ends of a session that ran all its tests and named the ones to blame."""
_FAMILIES: dict[str, str] = {str(reason): meaning.family for reason, meaning in MEANINGS.items()}
_WHILE = re.compile(r"while (.+) ran", re.DOTALL)


class CaseKey(NamedTuple):
    """What makes a test one and the same."""

    nodeid: str
    hardware: str
    occurrence: int
    """From 1; more than 1 only where an attempt reported the node id several times."""


@dataclass(frozen=True, slots=True)
class Result:
    """One test with its verdict and all that was seen of it, in order."""

    key: CaseKey
    verdict: Verdict
    observations: tuple[Observation, ...] = ()
    cause: str = ""
    """Why it is not proven, or was skipped without a try."""

    @property
    def deciding(self) -> Observation | None:
        """The observation that the verdict rests on; none where nothing was seen."""
        if not self.observations:
            return None
        told = [item for item in self.observations if item.outcome != "skipped"]
        return (told or self.observations)[-1]

    @property
    def bad(self) -> tuple[Observation, ...]:
        """Its failures and errors, in order."""
        return tuple(item for item in self.observations if item.outcome in BAD)


@dataclass(frozen=True, slots=True)
class Fault:
    """A task that came to no verdict, some of whose tests are unknown by name."""

    task_id: str
    name: str
    status: str
    reason: str | None
    of_work: bool
    """Whether the suite is to blame (a time limit, no tests), not the infrastructure."""


def judge(outcomes: Sequence[Outcome]) -> Verdict:
    """Return the verdict on a test by the outcomes of its observations, in order.

    A skip decides only where nothing else was seen: it neither proves nor disproves. Of the rest
    the last one decides, and what ends well after a failure is flaky.
    """
    told = [outcome for outcome in outcomes if outcome != "skipped"]
    if not told:
        return "skipped" if outcomes else "not_proven"
    last = told[-1]
    if last in BAD or not any(outcome in BAD for outcome in told):
        return last
    return "flaky"


def verdicts(known: Known) -> tuple[Result, ...]:
    """Return one result for each test, by node id, hardware and occurrence."""
    attempts = {(item.task_id, item.attempt): item for item in known.attempts}
    seen = _by_test(_counted(known, attempts), _hardware(known))
    results = []
    for key, observations in seen.items():
        verdict = judge([item.outcome for item in observations])
        results.append(Result(key, verdict, tuple(observations)))
    results += _not_proven(known, seen)
    return tuple(sorted(results, key=lambda result: result.key))


def faults(known: Known) -> tuple[Fault, ...]:
    """Return the tasks whose end leaves tests unproven that no result names."""
    blamed = {item.task_id for item in known.observations if item.outcome in BAD}
    return tuple(
        Fault(part.task_id, part.name, part.status, part.reason, of_work=is_of_work(part.reason))
        for part in known.parts
        if part.status not in JUDGED
        and not part.planned
        and not (part.reason in _COMPLETE and part.task_id in blamed)
    )


def is_of_work(reason: str | None) -> bool:
    """Say whether a reason blames the suite or its limits; an unknown one does not."""
    family = _FAMILIES.get(reason or "")
    return family in {"test", "limit", "client"} and reason != Reason.DEPENDENCY_NEVER


def _counted(known: Known, attempts: dict[tuple[str, int], Attempt]) -> Iterator[Observation]:
    """Yield what counts, each observation once, with those that limits cut off."""
    taken: set[tuple[str, int, int]] = set()
    named: set[tuple[str, int, str]] = set()
    last: dict[tuple[str, int], Observation] = {}
    for item in known.observations:
        where = (item.task_id, item.attempt)
        if (*where, item.ordinal) in taken or _is_void(item, attempts.get(where)):
            continue
        taken.add((*where, item.ordinal))
        if item.outcome in BAD:
            named.add((*where, item.nodeid))
        if where not in last or last[where].ordinal < item.ordinal:
            last[where] = item
        yield item
    queued_at = {part.task_id: part.seq for part in known.parts}
    for where, attempt in sorted(attempts.items()):
        nodeid = _limited(attempt)
        if nodeid and (*where, nodeid) not in named:
            before = [last[task, n].seq for task, n in last if task == where[0] and n <= where[1]]
            ordinal = last[where].ordinal + 1 if where in last else 1
            yield Observation(
                *where,
                ordinal=ordinal,
                seq=max(before, default=queued_at.get(attempt.task_id, 0)),
                nodeid=nodeid,
                outcome="error",
                message=f"{attempt.reason}: ended while this test ran",
                file=nodeid.partition("::")[0],
                worker_id=attempt.worker_id,
            )


def _is_void(item: Observation, attempt: Attempt | None) -> bool:
    """Say whether a test was taken down by what ended its attempt, which was not the test."""
    if item.outcome != "error" or not item.message.startswith(_CUT_SHORT) or attempt is None:
        return False
    if attempt.reason is None:
        return attempt.status in {"faulted", "cancelled"}
    return not is_of_work(attempt.reason)


def _limited(attempt: Attempt) -> str | None:
    """Return the test that ran when a limit ended the attempt."""
    if _FAMILIES.get(attempt.reason or "") != "limit":
        return None
    found = _WHILE.fullmatch(attempt.detail)
    return found.group(1) if found is not None else None


def _hardware(known: Known) -> dict[tuple[str, int], str]:
    """Return the class of hardware of each attempt: what its task ran for, else the kind it got."""
    stated = {part.task_id: part.hardware for part in known.parts if part.hardware}
    return {
        (item.task_id, item.attempt): stated.get(item.task_id, item.hardware)
        for item in known.attempts
    }


def _by_test(
    counted: Iterable[Observation], hardware: dict[tuple[str, int], str]
) -> dict[CaseKey, list[Observation]]:
    reported: dict[tuple[str, int], list[Observation]] = defaultdict(list)
    for item in counted:
        reported[item.task_id, item.attempt].append(item)
    tests: dict[CaseKey, list[Observation]] = defaultdict(list)
    for where, items in reported.items():
        kind = hardware.get(where, "")
        occurrences: dict[str, int] = defaultdict(int)
        for item in sorted(items, key=lambda item: item.ordinal):
            occurrences[item.nodeid] += 1
            tests[CaseKey(item.nodeid, kind, occurrences[item.nodeid])].append(item)
    for found in tests.values():
        if len(found) > 1:
            found.sort(key=lambda item: (item.seq, item.attempt, item.ordinal, item.task_id))
    return tests


def _not_proven(known: Known, seen: Iterable[CaseKey]) -> list[Result]:
    """Return the planned tests of which nothing was seen, once for each class of hardware."""
    causes: dict[Planned, str] = {}
    for part in sorted(known.parts, key=lambda part: (part.rerun, part.seq, part.task_id)):
        for nodeid in part.planned:
            causes.setdefault(Planned(nodeid, part.hardware), _cause(part))
    observed = [(key.nodeid, key.hardware) for key in seen]
    missing = unseen(causes, observed)
    # What a part has named already may stand in the plan by another path.
    answered = [*observed, *((item.nodeid, item.hardware or "") for item in missing)]
    missing += unseen(dict.fromkeys(known.planned), answered)
    return [
        Result(
            CaseKey(item.nodeid, item.hardware or "", 1),
            "not_proven" if item.applies else "skipped",
            cause=item.cause or causes.get(item, "no task reported it"),
        )
        for item in missing
    ]


def _cause(part: Part) -> str:
    reason = f", {part.reason}" if part.reason else ""
    return f"{part.name}: {part.status}{reason}"
