"""A report as dtest's own JSON: everything that is known, with every observation in order.

``report.schema.json`` beside this module describes it; the other formats say less.
"""

from datetime import datetime
from typing import Any

import orjson

from dtest.reports.observation import Attempt, Observation, Part
from dtest.reports.report import Group, Report, blamed
from dtest.reports.signatures import signature
from dtest.reports.verdicts import Result

FORMAT = "dtest.report/1"


def document(report: Report) -> bytes:
    """Return the document."""
    run = report.run
    content = {
        "format": FORMAT,
        "run": {
            "run_id": run.run_id,
            "name": run.name,
            "labels": dict(run.labels),
            "commit": report.commit or None,
            "opened_at": _at(run.opened_at),
            "finished": run.finished,
        },
        "exit_code": report.exit_code,
        "planned": report.planned,
        "notes": list(report.notes),
        "properties": [list(pair) for pair in report.properties],
        "counts": report.counts,
        "hardware": report.hardware,
        "results": [_result(report, result) for result in report.results],
        "groups": [_group(group) for group in report.groups],
        "faults": [
            {
                "task_id": item.task_id,
                "name": item.name,
                "status": item.status,
                "reason": item.reason,
                "of_work": item.of_work,
                "detail": item.detail,
            }
            for item in report.faults
        ],
        "parts": [_part(part) for part in report.parts],
        "attempts": [_attempt(attempt) for attempt in report.attempts],
    }
    return orjson.dumps(content)


def _result(report: Report, result: Result) -> dict[str, Any]:
    entry = report.muted.get(result.key.nodeid)
    muted = None
    if entry is not None:
        muted = {"reason": entry.reason, "expires": entry.expires, "issue": entry.issue or None}
    return {
        "nodeid": result.key.nodeid,
        "occurrence": result.key.occurrence,
        "hardware": result.key.hardware or None,
        "verdict": result.verdict,
        "is_task": result.is_task,
        "cause": result.cause or None,
        "muted": muted,
        "signature": signature(blamed(result)).id if result.bad else None,
        "observations": [_observation(item) for item in result.observations],
    }


def _observation(item: Observation) -> dict[str, Any]:
    return {
        "task_id": item.task_id,
        "attempt": item.attempt,
        "ordinal": item.ordinal,
        "seq": item.seq,
        "worker_id": item.worker_id or None,
        "outcome": item.outcome,
        "phase": item.phase,
        "duration_s": item.duration_s,
        "message": item.message,
        "output": item.output,
        "file": item.file,
        "line": item.line,
        "number": item.number,
        "properties": [list(pair) for pair in item.properties],
    }


def _group(group: Group) -> dict[str, Any]:
    shared = group.signature
    keys = [item.key for item in group.results]
    return {
        "signature": shared.id,
        "kind": shared.kind,
        "message": shared.message,
        "frame": shared.frame or None,
        "tests": [[key.nodeid, key.occurrence, key.hardware or None] for key in keys],
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "task_id": part.task_id,
        "name": part.name,
        "status": part.status,
        "reason": part.reason,
        "rerun": part.rerun,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "task_id": attempt.task_id,
        "attempt": attempt.attempt,
        "worker_id": attempt.worker_id,
        "hardware": attempt.hardware or None,
        "status": attempt.status,
        "reason": attempt.reason,
        "detail": attempt.detail,
        "started_at": _at(attempt.started_at),
        "finished_at": _at(attempt.finished_at),
        "artifacts": [{"name": item.name, "bytes": item.size_bytes} for item in attempt.artifacts],
    }


def _at(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None
