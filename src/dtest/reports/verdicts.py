"""Exactly one verdict for each test, from its ordered observations. Pure.

A planned test is its number: it has one verdict, whatever its node id is in each process. A file
that runs as a whole is to have one result at least. A test that stands in no plan is its node id,
its place among the reports of that node id in one attempt (subtests share one), and the class of
hardware it ran on. Which worker ran it, in which attempt or re-run, makes no other test of it. What
infrastructure did to a test is never held against the test.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
_CUT_SHORT = ("crashed:", "interrupted:")
"""How the message of a test begins that was taken down with its process."""
_FAMILIES: dict[str, str] = {str(reason): meaning.family for reason, meaning in MEANINGS.items()}
_NO_CAUSE = frozenset({"passed", "queued", "assigned", "running"})
NOT_REPORTED = "no task reported it"
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
    is_task: bool = False
    """It is a task of its own, or the end of one, and no test."""
    number: int | None = None
    """Of a planned test."""

    @property
    def message(self) -> str:
        """Return what there is to say of it, in one line."""
        if self.bad:
            return self.bad[-1].message
        decided = self.deciding
        return self.cause or (decided.message if decided is not None else "")

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


_Numbered = dict[tuple[str | None, int], list[Observation]]


def verdicts(known: Known) -> tuple[Result, ...]:
    """Return one result for each test, by node id, hardware and occurrence."""
    attempts = {(item.task_id, item.attempt): item for item in known.attempts}
    hardware = _hardware(known)
    numbered: _Numbered = defaultdict(list)
    others: list[Observation] = []
    home = _classes(known)
    for item in _counted(known, attempts):
        if item.number is not None and item.task_id in home:
            numbered[home[item.task_id], item.number].append(item)
        else:
            others.append(item)
    loose = _by_test(others, hardware)
    results = _planned_results(known, numbered, loose, hardware)
    for key, observations in loose.items():
        verdict = judge([item.outcome for item in observations])
        results.append(Result(key, verdict, tuple(observations)))
    results += _silent_files(known, results)
    results += _not_proven(known, [result.key for result in results])
    return tuple(sorted(results, key=lambda result: result.key))


def _classes(known: Known) -> dict[str, str | None]:
    """Return of each session the class of hardware whose plan it runs."""
    planned = {item.hardware for item in known.planned if item.number is not None}
    return {
        part.task_id: part.hardware if part.hardware in planned or not planned else None
        for part in known.parts
        if part.is_session
    }


def _planned_results(
    known: Known,
    numbered: _Numbered,
    loose: dict[CaseKey, list[Observation]],
    hardware: dict[tuple[str, int], str],
) -> list[Result]:
    """Return one result for each number; takes out of ``loose`` what answers to a planned name."""
    plan = {
        (item.hardware, item.number): item
        for item in known.planned
        if item.number is not None and not item.is_open
    }
    names: dict[str | None, Counter[str]] = defaultdict(Counter)
    for (of_class, _), item in plan.items():
        names[of_class][item.nodeid] += 1
    missing = _causes(known)
    by_name: dict[tuple[str, int], list[CaseKey]] = defaultdict(list)
    for found in loose:
        by_name[found.nodeid, found.occurrence].append(found)
    places: Counter[tuple[str, str]] = Counter()
    results = []
    for where in sorted({*plan, *numbered}, key=lambda where: (where[0] or "", where[1])):
        planned, seen = plan.get(where), numbered.get(where, [])
        seen.sort(key=_in_order)
        if planned is None:
            seen = [_unknown(item) if plan else item for item in seen]
        else:
            seen = [_own(item, planned, names[where[0]]) for item in seen]
        nodeid = planned.nodeid if planned is not None else seen[-1].nodeid
        kind = where[0] or (hardware.get((seen[-1].task_id, seen[-1].attempt), "") if seen else "")
        places[nodeid, kind] += 1
        key = CaseKey(nodeid, kind, places[nodeid, kind])
        if not seen and planned is not None and planned.applies:
            seen = _answering(loose, by_name, key)
        if seen:
            verdict = judge([item.outcome for item in seen])
            results.append(Result(key, verdict, tuple(seen), number=where[1]))
        elif planned is not None:
            cause = planned.cause or missing.get(where[0], "") or NOT_REPORTED
            outcome: Verdict = "not_proven" if planned.applies else "skipped"
            results.append(Result(key, outcome, cause=cause, number=where[1]))
    return results


def _answering(
    loose: dict[CaseKey, list[Observation]],
    by_name: dict[tuple[str, int], list[CaseKey]],
    key: CaseKey,
) -> list[Observation]:
    """Take out what an older agent reported of a test: it knows its name only."""
    for found in by_name.get((key.nodeid, key.occurrence), ()):
        if found in loose and key.hardware in ("", found.hardware):
            return loose.pop(found)
    return []


def _own(item: Observation, planned: Planned, names: Counter[str]) -> Observation:
    """Return what was seen of a test, or that another planned one ran in its place."""
    if item.nodeid == planned.nodeid or not names[item.nodeid] or item.phase == "collect":
        return item
    message = f"another test ran in its place: {item.nodeid}"
    return replace(item, outcome="error", message=message)


def _unknown(item: Observation) -> Observation:
    message = f"no test of the plan has the number {item.number}"
    return replace(item, outcome="error", message=message)


def _causes(known: Known) -> dict[str | None, str]:
    """Return for each class why tests of it may lack a result: how its sessions ended."""
    causes: dict[str | None, str] = {}
    home = _classes(known)
    last = {item.task_id: item for item in sorted(known.attempts, key=lambda item: item.attempt)}
    # What a session says of itself tells more than that others were cancelled because of it.
    telling = sorted(known.parts, key=lambda part: (part.status == "cancelled", part.seq))
    for part in telling:
        if part.is_session and part.status not in _NO_CAUSE:
            attempt = last.get(part.task_id)
            said = attempt.detail if attempt is not None else ""
            causes.setdefault(home[part.task_id], _cause(part) + (f": {said}" if said else ""))
    return causes


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
            found.sort(key=_in_order)
    return tests


def _in_order(item: Observation) -> tuple[int, int, int, str]:
    return (item.seq, item.attempt, item.ordinal, item.task_id)


def _silent_files(known: Known, seen: Iterable[Result]) -> list[Result]:
    """Return the files that were to run as a whole, and of which nothing was told."""
    files = [item for item in known.planned if item.is_open]
    told: dict[str, set[str]] = {item.nodeid: set() for item in files}
    for result in seen if files else ():
        for name in _enclosing(result.key.nodeid):
            if name in told and result.observations:
                told[name].add(result.key.hardware)
    missing = _causes(known)
    return [
        Result(
            CaseKey(item.nodeid, item.hardware or "", 1),
            "not_proven",
            cause=missing.get(item.hardware, "") or NOT_REPORTED,
        )
        for item in files
        if not (told[item.nodeid] if item.hardware is None else item.hardware in told[item.nodeid])
    ]


def _enclosing(nodeid: str) -> Iterator[str]:
    """Yield a node id, and what it is part of, up to its file."""
    yield nodeid
    while "::" in nodeid:
        nodeid = nodeid.rpartition("::")[0]
        yield nodeid


def _not_proven(known: Known, seen: Iterable[CaseKey]) -> list[Result]:
    """Return what is planned by name alone and was not seen, once for each class of hardware."""
    causes: dict[Planned, str] = {}
    for part in sorted(known.parts, key=lambda part: (part.rerun, part.seq, part.task_id)):
        for nodeid in part.planned:
            causes.setdefault(Planned(nodeid, part.hardware), _cause(part))
    observed = [(key.nodeid, key.hardware) for key in seen]
    missing = unseen(causes, observed)
    # What a part has named already may stand in the plan by another path.
    answered = [*observed, *((item.nodeid, item.hardware or "") for item in missing)]
    by_name = [item for item in known.planned if item.number is None]
    missing += unseen(dict.fromkeys(by_name), answered)
    return [
        Result(
            CaseKey(item.nodeid, item.hardware or "", 1),
            "not_proven" if item.applies else "skipped",
            cause=item.cause or causes.get(item, NOT_REPORTED),
        )
        for item in missing
    ]


def _cause(part: Part) -> str:
    reason = f", {part.reason}" if part.reason else ""
    return f"{part.name}: {part.status}{reason}"
