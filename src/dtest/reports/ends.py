"""What the tasks of a run came to themselves, apart from the tests that they ran. Pure.

A task that runs no tests is a case of its own. So is the end of a session that says more than its
tests do: an exit status though none failed, a suite that stopped itself, a death after the last.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dtest.events.reasons import Reason
from dtest.reports.observation import Attempt, Known, Observation, Outcome, Part
from dtest.reports.verdicts import BAD, CaseKey, Result, Verdict, is_of_work, judge

JUDGED = frozenset({"passed", "failed"})
"""States of a task that came to a verdict of its own."""
_COMPLETE = frozenset({Reason.CRASH_SIGNAL, Reason.COLLECTION_ERROR})
"""Ends of a session that ran all its tests and named the ones to blame."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A task that came to no good end; what that did to tests stands in their verdicts."""

    task_id: str
    name: str
    status: str
    reason: str | None
    of_work: bool
    """Whether the suite is to blame (a time limit, no tests), not the infrastructure."""
    detail: str = ""

    @property
    def text(self) -> str:
        """Return it in words."""
        said = f"{self.status}, {self.reason or 'no reason known'}"
        return f"{said}: {self.detail}" if self.detail else said


@dataclass(frozen=True, slots=True)
class Ends:
    """All of them."""

    results: tuple[Result, ...] = ()
    """Of tasks that are cases of their own."""
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    """What is worth a line and makes nothing red."""


def ends(known: Known) -> Ends:
    """Return what the tasks of a run came to."""
    tried: dict[str, list[Attempt]] = {}
    for attempt in sorted(known.attempts, key=lambda item: item.attempt):
        tried.setdefault(attempt.task_id, []).append(attempt)
    seen = {item.task_id for item in known.observations}
    blamed = {item.task_id for item in known.observations if item.outcome in BAD}
    names = {part.task_id: part.name for part in known.parts}
    is_planned = any(item.number is not None for item in known.planned)
    results: list[Result] = []
    faults: list[Fault] = []
    notes: list[str] = []
    for part in sorted(known.parts, key=lambda part: (part.seq, part.task_id)):
        attempts = tried.get(part.task_id, [])
        if part.kind != "test" or (part.status == "passed" and _is_bare(part, seen)):
            results.append(_task(part, attempts, names))
            continue
        fault = _fault(part, attempts, names, blamed=part.task_id in blamed)
        if fault is not None:
            faults.append(fault)
            if _counts(part, fault, is_planned=is_planned):
                results.append(_end(fault))
        if part.status == "passed" and attempts and attempts[-1].detail:
            notes.append(f"{part.name}: {attempts[-1].detail}")
    return Ends(tuple(_told_apart(results)), tuple(faults), tuple(notes))


def _is_bare(part: Part, seen: Iterable[str]) -> bool:
    """Say whether a task has nothing to show for itself but its end."""
    return not (part.is_session or part.planned or part.task_id in seen)


def _fault(
    part: Part, attempts: list[Attempt], names: dict[str, str], *, blamed: bool
) -> Fault | None:
    """Return the end of a task of tests, if it says more than they do."""
    if part.status == "passed":
        return None
    if part.status == "failed" and blamed and part.reason != Reason.EXIT_NONZERO:
        return None
    if part.reason in _COMPLETE and blamed:
        return None
    if part.planned and part.status != "failed":
        return None  # its tests are not proven, by name
    of_work = part.status == "failed" or is_of_work(part.reason)
    detail = _why(part, attempts, names)
    return Fault(part.task_id, part.name, part.status, part.reason, of_work, detail)


def _counts(part: Part, fault: Fault, *, is_planned: bool) -> bool:
    """Say whether such an end is a result: where tests are planned, each has its own."""
    if part.is_session and is_planned:
        return fault.of_work and part.reason != Reason.NO_TESTS
    return True


def _end(fault: Fault) -> Result:
    if not fault.of_work:
        return Result(CaseKey(fault.name, "", 1), "not_proven", cause=fault.text, is_task=True)
    message = fault.detail or fault.text
    seen = Observation(fault.task_id, 1, 1, 0, fault.name, "error", message=message, output="")
    return Result(CaseKey(fault.name, "", 1), "error", (seen,), is_task=True)


def _task(part: Part, attempts: list[Attempt], names: dict[str, str]) -> Result:
    """Return a task that runs no tests as a case of its own."""
    observations = tuple(_tries(part, attempts))
    key = CaseKey(part.name, "", 1)
    if part.status in JUDGED and observations:
        verdict = judge([item.outcome for item in observations])
        return Result(key, verdict, observations, is_task=True)
    why = _why(part, attempts, names)
    if part.status in JUDGED:
        plain: Verdict = "passed" if part.status == "passed" else "failed"
        outcome: Outcome = "passed" if part.status == "passed" else "failed"
        seen = Observation(part.task_id, 1, 1, part.seq, part.name, outcome, message=why)
        return Result(key, plain, (seen,), is_task=True)
    if part.status == "errored" and is_of_work(part.reason):
        last = attempts[-1] if attempts else None
        seen = Observation(
            part.task_id,
            last.attempt if last is not None else 1,
            1,
            part.seq,
            part.name,
            "error",
            message=f"{part.reason}: {why}" if why else str(part.reason),
            worker_id=last.worker_id if last is not None else "",
        )
        return Result(key, "error", (*observations[:-1], seen), is_task=True)
    told = f"{part.status}, {part.reason}" if part.reason else part.status
    cause = f"{told}: {why}" if why else told
    return Result(key, "not_proven", cause=cause, is_task=True)


def _tries(part: Part, attempts: list[Attempt]) -> Iterator[Observation]:
    """Yield what attempts came to that the infrastructure did not end."""
    for attempt in attempts:
        outcome: Outcome | None = None
        if attempt.status in {"passed", "failed"}:
            outcome = "passed" if attempt.status == "passed" else "failed"
        elif attempt.status == "faulted" and is_of_work(attempt.reason):
            outcome = "error"
        if outcome is not None:
            took_s = 0.0
            if attempt.started_at is not None and attempt.finished_at is not None:
                took_s = (attempt.finished_at - attempt.started_at).total_seconds()
            yield Observation(
                part.task_id,
                attempt.attempt,
                1,
                part.seq,
                part.name,
                outcome,
                duration_s=took_s,
                message="" if outcome == "passed" else attempt.detail or str(attempt.reason),
                worker_id=attempt.worker_id,
            )


def _why(part: Part, attempts: list[Attempt], names: dict[str, str]) -> str:
    if part.upstream:
        return f"its dependency {names.get(part.upstream, part.upstream)} did not pass"
    told = [attempt.detail for attempt in attempts if attempt.detail]
    return told[-1] if told else ""


def _told_apart(results: list[Result]) -> Iterator[Result]:
    """Yield them with a place each among those of one name."""
    places: Counter[str] = Counter()
    for result in results:
        places[result.key.nodeid] += 1
        key = CaseKey(result.key.nodeid, "", places[result.key.nodeid])
        yield Result(key, result.verdict, result.observations, result.cause, is_task=result.is_task)
