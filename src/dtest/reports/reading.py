"""Makes what is known of a run from plain rows, as the read model and its API tell them. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from sys import intern
from typing import Any, get_args

from dtest.events.suite import HARDWARE_CLASS
from dtest.reports.muting import KnownFlaky, Muted
from dtest.reports.observation import (
    Artifact,
    Attempt,
    CutShort,
    Known,
    Observation,
    Outcome,
    Part,
    Phase,
    Planned,
    Run,
)

Row = Mapping[str, Any]
OUTCOMES: Mapping[str, Outcome] = {name: name for name in get_args(Outcome)}
PHASES: Mapping[str, Phase] = {name: name for name in get_args(Phase)}


def known_of(
    run: Row,
    *,
    tasks: Iterable[Row],
    attempts: Iterable[Row],
    observed: Iterable[Observation],
    planned: Iterable[Planned],
    suite: Row | None = None,
    api_url: str = "",
) -> Known:
    """Return all that is known of a run; ``suite`` is the row of a run of a suite."""
    return Known(
        run_of(run, api_url),
        tuple(sorted(map(part_of, tasks), key=lambda part: (part.seq, part.task_id))),
        tuple(map(attempt_of, attempts)),
        tuple(sorted(observed, key=_place)),
        tuple(planned),
        cut_of(suite) if suite is not None else None,
        tuple(suite["notes"]) if suite is not None else (),
    )


def _place(seen: Observation) -> tuple[int, str, int, int]:
    return seen.seq, seen.task_id, seen.attempt, seen.ordinal


def cut_of(suite: Row) -> CutShort | None:
    """Return why a run of a suite was ended before its tests had, if it was."""
    if suite["cut"] is None:
        return None
    return CutShort(suite["cut"], suite["cut_detail"], suite["cut_hint"])


def muted_of(suite: Row) -> KnownFlaky:
    """Return the list of known flaky tests that a run of a suite was given."""
    return KnownFlaky(
        tuple(
            Muted(each["test"], each["reason"], date.fromisoformat(each["expires"]), each["issue"])
            for each in suite["muted"]
        )
    )


def has_ended(run: Row, suite: Row | None) -> bool:
    """Say whether a run has: its tasks by the sums of its row, and its suite if it is of one."""
    is_open = suite is not None and suite["exit_code"] is None
    return not (run["running"] or run["waiting"] or is_open)


def run_of(item: Row, api_url: str = "") -> Run:
    """Return the run itself."""
    return Run(
        run_id=str(item["run_id"]),
        name=str(item["name"]),
        labels=tuple(sorted(item["labels"].items())),
        opened_at=_at(item["opened_at"]),
        finished=bool(item["finished"]),
        api_url=api_url,
    )


def part_of(item: Row) -> Part:
    """Return a task of the run."""
    document = item["document"]
    wanted = document.get("requirements", {}).get("hardware", ())
    labels = document.get("labels", {})
    labelled = str(labels.get("rerun", ""))
    kind = wanted[0] if len(wanted) == 1 else None
    config = document.get("config", {})
    is_session = item["type"] == "test" and "queue" in config
    names_tests = item["type"] == "test" and not is_session
    paths = config.get("paths", ()) if names_tests else ()
    return Part(
        task_id=item["task_id"],
        name=item["name"],
        status=item["status"],
        reason=item["reason"],
        seq=item["seq"],
        planned=tuple(path for path in paths if "::" in path),
        hardware=labels.get(HARDWARE_CLASS, kind),
        rerun=int(labelled) if labelled.isascii() and labelled.isdigit() else 0,
        kind=item["type"],
        is_session=is_session,
        upstream=item["upstream"] or "",
    )


def attempt_of(item: Row) -> Attempt:
    """Return an attempt."""
    left = item["artifacts"] or ()
    return Attempt(
        task_id=item["task_id"],
        attempt=item["attempt"],
        worker_id=item["worker_id"],
        hardware=item["hardware"],
        status=item["status"],
        reason=item["reason"],
        detail=item["detail"] or "",
        started_at=_at(item["started_at"]),
        finished_at=_at(item["finished_at"]),
        artifacts=tuple(Artifact(each["name"], each["size_bytes"]) for each in left),
    )


def observation_of(item: Row) -> Observation:
    """Return a test case as an attempt reported it; what is equal in many is held once."""
    return Observation(
        task_id=intern(item["task_id"]),
        attempt=item["attempt"],
        ordinal=item["ordinal"],
        seq=item["seq"],
        nodeid=intern(item["nodeid"]),
        outcome=OUTCOMES[item["outcome"]],
        phase=PHASES[item["phase"]],
        duration_s=item["duration_s"],
        message=item["message"],
        output=item["output"],
        file=intern(item["file"]),
        line=item["line"],
        worker_id=intern(item["worker_id"]),
        number=item["number"],
        properties=_pairs(item["properties"]),
        suite_properties=_pairs(item["suite_properties"]),
    )


def planned_of(item: Row) -> Planned:
    """Return a planned test."""
    return Planned(
        nodeid=intern(item["nodeid"]),
        hardware=intern(item["hardware"]) if item["hardware"] else None,
        cause=intern(item["cause"]),
        applies=item["applies"],
        number=item["number"],
        place=item.get("place", ""),
    )


def _pairs(found: Iterable[Iterable[str]] | None) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(value)) for name, value in found or ())


def _at(instant: str | datetime | None) -> datetime | None:
    if isinstance(instant, str):
        instant = datetime.fromisoformat(instant)
    if instant is not None and instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    return instant
