"""A report in the Common Test Report Format (CTRF), JSON that many CI tools read.

CTRF has five statuses: what is not proven is ``other``, never ``skipped``, and the verdict itself
stands in ``rawStatus``. A flaky test is ``passed`` with ``flaky``, as the format asks.
"""

import uuid
from collections import Counter
from datetime import datetime
from typing import Any

import orjson

import dtest
from dtest.reports.observation import Observation
from dtest.reports.plan import split
from dtest.reports.report import Report, duration_s, title
from dtest.reports.signatures import signature
from dtest.reports.verdicts import BAD, Result

SPEC_VERSION = "0.0.0"
_STATUS = {
    "passed": "passed",
    "xpassed": "passed",
    "flaky": "passed",
    "failed": "failed",
    "error": "failed",
    "skipped": "skipped",
    "xfailed": "skipped",
    "not_proven": "other",
}
_NAMESPACE = uuid.UUID("0d7a8a4e-5e0a-5d4f-9d0b-0f6f6b3f2c11")


def ctrf(report: Report) -> bytes:
    """Return the document."""
    several = report.is_matrix
    tests = [_test(report, result, several=several) for result in report.results]
    statuses = Counter(test["status"] for test in tests)
    begun, ended = report.span or (report.run.opened_at, report.run.opened_at)
    summary: dict[str, Any] = {
        "tests": len(tests),
        **{name: statuses[name] for name in ("passed", "failed", "skipped", "pending", "other")},
        "flaky": sum(1 for result in report.results if result.verdict == "flaky"),
        "suites": len({split(result.key.nodeid)[0] for result in report.results}),
        "start": _ms(begun),
        "stop": _ms(ended),
        "extra": {
            "verdicts": report.counts,
            "exit_code": report.exit_code,
            "planned": report.planned,
            "notes": list(report.notes),
            "properties": [list(pair) for pair in report.properties],
        },
    }
    document = {
        "reportFormat": "CTRF",
        "specVersion": SPEC_VERSION,
        "reportId": str(uuid.uuid5(_NAMESPACE, report.run.run_id)),
        "runId": report.run.run_id,
        "generatedBy": f"dtest {dtest.__version__}",
        "results": {
            "tool": {"name": "dtest", "version": dtest.__version__},
            "summary": summary,
            "environment": _environment(report),
            "tests": tests,
            "extra": {"faults": _faults(report), "artifacts": _artifacts(report)},
        },
    }
    return orjson.dumps(document)


def _environment(report: Report) -> dict[str, Any]:
    stated = {"reportName": report.run.name, "commit": report.commit}
    labels = {"labels": dict(report.run.labels)} if report.run.labels else {}
    return {**{key: value for key, value in stated.items() if value}, "extra": labels}


def _test(report: Report, result: Result, *, several: bool) -> dict[str, Any]:
    last = result.deciding
    file, inside = split(result.key.nodeid)
    name = title(result.key, several=several)
    test: dict[str, Any] = {
        "id": str(uuid.uuid5(_NAMESPACE, name)),
        "name": name,
        "status": _STATUS[result.verdict],
        "rawStatus": result.verdict,
        "duration": round(duration_s(result) * 1000),
        "suite": [file, *inside.partition("[")[0].split("::")[:-1]],
        "filePath": file,
    }
    if result.key.hardware:
        test["labels"] = {"hardware": result.key.hardware}
    if result.key.nodeid in report.muted:
        test["tags"] = ["muted"]
    if result.is_task:
        test |= {"type": "task", "suite": ["dtest.task"]}
        del test["filePath"]
    if last is None:
        return {**test, "message": result.cause}
    if last.properties:
        test["extra"] = {"properties": [list(pair) for pair in last.properties]}
    if last.worker_id:
        test["threadId"] = last.worker_id
    if last.line is not None:
        test["line"] = last.line
    test |= _said(last)
    if last.outcome in BAD:
        test["extra"] = {**test.get("extra", {}), "signature": signature(last).id}
    earlier = [item for item in result.observations if item is not last]
    if earlier:
        test["retries"] = len(earlier)
        test["retryAttempts"] = [_attempt(item, n) for n, item in enumerate(earlier, 1)]
    if result.verdict == "flaky":
        test["flaky"] = True
    return test


def _attempt(item: Observation, number: int) -> dict[str, Any]:
    status = _STATUS[item.outcome]
    took = round(item.duration_s * 1000)
    where = {"worker": item.worker_id, "task": item.task_id, "attempt": item.attempt}
    base = {"attempt": number, "status": status, "duration": took, "extra": where}
    return {**base, **_said(item)}


def _said(item: Observation) -> dict[str, str]:
    said = {"message": item.message, "trace": item.output}
    return {key: value for key, value in said.items() if value}


def _faults(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "task": item.task_id,
            "name": item.name,
            "status": item.status,
            "reason": item.reason,
            "detail": item.detail,
        }
        for item in report.faults
    ]


def _artifacts(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "task": attempt.task_id,
            "attempt": attempt.attempt,
            "name": item.name,
            "bytes": item.size_bytes,
        }
        for attempt in report.attempts
        for item in attempt.artifacts
    ]


def _ms(at: datetime | None) -> int:
    """Return milliseconds since 1970; the format has no way to say that an instant is unknown."""
    return round(at.timestamp() * 1000) if at is not None else 0
