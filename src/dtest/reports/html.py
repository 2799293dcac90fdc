"""A report as one HTML file that needs nothing else: no network, no server, no other file.

Tests stand in the page as compact JSON; ``page.js`` draws the rows in sight only. Text of tests
is never markup: the JSON cannot end its element, and a policy lets no script run but that one.
"""

import base64
import hashlib
import html as markup
import re
from collections.abc import Iterable
from datetime import datetime
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import orjson

import dtest
from dtest.reports.observation import Attempt, Observation
from dtest.reports.plan import split
from dtest.reports.report import Report, duration_s
from dtest.reports.terminal import uncoloured
from dtest.reports.verdicts import VERDICTS, Result

OUTPUT_CHARS_MAX = 20_000
"""Of one observation; the middle of a longer one is left out, and said so."""
OUTPUTS_CHARS_MAX = 10_000_000
"""Of all of them, failures first; then only messages stand in the page, and it says so."""
_FIELD = re.compile(r"\{\{(\w+)\}\}")


def html(report: Report) -> bytes:
    """Return the page."""
    style, script = _file("page.css"), _file("page.js")
    sources = {"style-src": style, "script-src": script}
    allowed = "; ".join(f"{name} '{_digest(text)}'" for name, text in sources.items())
    results = sorted(report.results, key=_worst_first)
    data, more = _data(report, results)
    fields = {
        "policy": f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'",
        "version": markup.escape(dtest.__version__),
        "title": markup.escape(f"{report.run.name}: {_in_words(report)}"),
        "facts": markup.escape(_facts(report)),
        "style": style,
        "script": script,
        "data": _embedded(data),
        "more": _embedded(more),
    }
    # One pass: what is put in is not looked at again.
    return _FIELD.sub(lambda field: fields[field[1]], _file("page.html")).encode()


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _embedded(value: object) -> str:
    """Return JSON that can neither end the element around it nor open a comment in it."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode().replace("<", "\\u003c")


def _worst_first(result: Result) -> tuple[int, str, str, int]:
    return (VERDICTS.index(result.verdict), *result.key)


def _in_words(report: Report) -> str:
    said = [f"{count} {name.replace('_', ' ')}" for name, count in report.counts.items()]
    return ", ".join(said) or "no tests ran"


def _facts(report: Report) -> str:
    facts = [f"run {report.run.run_id}"]
    if report.commit:
        facts.append(f"commit {report.commit}")
    if report.run.opened_at is not None:
        facts.append(f"opened {report.run.opened_at.isoformat(timespec='seconds')}")
    if report.span is not None:
        facts.append(f"{(report.span[1] - report.span[0]).total_seconds():.1f} s")
    if not report.run.finished:
        facts.append("not ended: what is known so far")
    facts.append(f"exit code {report.exit_code}")
    return " · ".join(facts)


def _data(report: Report, results: list[Result]) -> tuple[dict[str, Any], dict[int, Any]]:
    """Return what the list shows, and apart from it what a chosen test shows."""
    workers = _Index(attempt.worker_id for attempt in report.attempts)
    hardware = _Index(report.hardware)
    paths = _Index()
    groups = report.groups
    places = {key: group for group, found in enumerate(groups) for key in _keys(found.results)}
    tried = {(item.task_id, item.attempt): n for n, item in enumerate(report.attempts)}
    names = {part.task_id: part.name for part in report.parts}
    columns: dict[str, list[Any]] = {
        name: [] for name in ("file", "name", "hardware", "verdict", "worker", "ms")
    }
    sparse: dict[str, dict[int, Any]] = {
        name: {} for name in ("place", "group", "message", "cause", "muted")
    }
    outputs = _Outputs(workers, tried)
    for n, result in enumerate(results):
        decided = result.deciding
        file, inside = split(result.key.nodeid)
        columns["file"].append(paths.of(file))
        columns["name"].append(inside)
        columns["hardware"].append(hardware.of(result.key.hardware))
        columns["verdict"].append(VERDICTS.index(result.verdict))
        seen_on = decided.worker_id if decided is not None else ""
        columns["worker"].append(workers.of(seen_on) if seen_on else -1)
        columns["ms"].append(round(duration_s(result) * 1000))
        _rarely(sparse, n, result, report, places.get(result.key))
        outputs.add(n, result)
    data = {
        "verdicts": VERDICTS,
        "counts": report.counts,
        "groups": [
            {
                "kind": group.signature.kind,
                "message": group.signature.message,
                "frame": group.signature.frame,
                "count": len(group.results),
            }
            for group in groups
        ],
        "faults": [*(f"{item.name}: {item.text}" for item in report.faults), *report.notes],
        "attempts": [
            _attempt(item, report, names.get(item.task_id, item.task_id), workers)
            for item in report.attempts
        ],
        "tests": {**columns, **sparse},
        "files": paths.names,
        "workers": workers.names,
        "hardware": hardware.names,
        "several": len(report.hardware) > 1,
        "matrix": report.is_matrix,
    }
    return data, outputs.held


def _keys(results: Iterable[Result]) -> Iterable[object]:
    return (result.key for result in results)


def _rarely(
    sparse: dict[str, dict[int, Any]], n: int, result: Result, report: Report, group: int | None
) -> None:
    """Note what few tests have."""
    decided = result.deciding
    entry = report.muted.get(result.key.nodeid)
    said = result.bad[-1] if result.bad else decided
    told = {
        "place": result.key.occurrence if result.key.occurrence > 1 else None,
        "group": group,
        "message": uncoloured(said.message) if said is not None else None,
        "cause": result.cause,
        "muted": entry and (entry.reason, entry.expires.isoformat(), entry.issue),
    }
    for name, value in told.items():
        if value is not None and value != "":
            sparse[name][n] = value


def _attempt(item: Attempt, report: Report, name: str, workers: "_Index") -> dict[str, Any]:
    base = f"{report.run.api_url}/api/tasks/{item.task_id}/artifacts/{item.attempt}/"
    address = base if base.startswith(("https://", "http://")) else ""
    return {
        "task": name,
        "attempt": item.attempt,
        "worker": workers.of(item.worker_id),
        "hardware": item.hardware,
        "status": item.status,
        "reason": item.reason,
        "start": _ms(item.started_at),
        "end": _ms(item.finished_at),
        "artifacts": [
            (left.name, left.size_bytes, address and address + quote(left.name))
            for left in item.artifacts
        ],
    }


def _ms(at: datetime | None) -> int | None:
    return round(at.timestamp() * 1000) if at is not None else None


class _Index:
    """Names by number, so that each stands in the page once."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._numbers: dict[str, int] = {}
        for name in sorted(set(names)):
            self.of(name)

    def of(self, name: str) -> int:
        """Return the name's number, a new one if it has none."""
        return self._numbers.setdefault(name, len(self._numbers))

    @property
    def names(self) -> list[str]:
        """All names, by number."""
        return list(self._numbers)


class _Outputs:
    """What was observed of the tests that tell more than that they passed, within a bound."""

    def __init__(self, workers: _Index, tried: dict[tuple[str, int], int]) -> None:
        self.held: dict[int, list[tuple[object, ...]]] = {}
        self._workers = workers
        self._tried = tried
        self._left = OUTPUTS_CHARS_MAX

    def add(self, n: int, result: Result) -> None:
        """Take in a test."""
        seen = result.observations
        if len(seen) > 1 or any(item.message or item.output for item in seen):
            self.held[n] = [self._told(item) for item in seen]

    def _told(self, item: Observation) -> tuple[object, ...]:
        output = uncoloured(item.output)
        if len(output) > OUTPUT_CHARS_MAX:
            half = OUTPUT_CHARS_MAX // 2
            note = f"\n… {len(output) - 2 * half} characters are left out …\n"
            output = output[:half] + note + output[-half:]
        if len(output) > self._left:
            output = "(left out: the outputs before it fill the page; the JSON report has it)"
        else:
            self._left -= len(output)
        return (
            item.outcome,
            item.phase,
            self._workers.of(item.worker_id) if item.worker_id else -1,
            round(item.duration_s * 1000),
            f"{item.file}:{item.line}" if item.file and item.line else item.file,
            uncoloured(item.message),
            output,
            self._tried.get((item.task_id, item.attempt), -1),
        )
