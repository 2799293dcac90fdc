"""What a drill found: one object for machines, one page for people."""

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_WIDTH, _HEIGHT, _BUCKET_S = 960, 120, 0.5


@dataclass(frozen=True, slots=True)
class Injection:
    """One failure that was caused, and when the cell was itself again."""

    kind: str
    at_s: float
    """Since the load began."""
    recovered_at_s: float | None
    """None where nothing had to recover."""
    detail: str = ""
    noticed_at_s: float | None = None
    """When the cell wrote down that something is wrong, where it does."""

    @property
    def noticed_ms(self) -> float | None:
        """From the failure to where the cell wrote it down."""
        return (
            None if self.noticed_at_s is None else round((self.noticed_at_s - self.at_s) * 1e3, 1)
        )

    @property
    def recovery_ms(self) -> float | None:
        """From the failure to what a client saw of the recovery."""
        if self.recovered_at_s is None:
            return None
        return round((self.recovered_at_s - self.at_s) * 1e3, 1)


@dataclass(slots=True)
class Report:
    """One drill in one layout. ``violations`` is empty when all holds."""

    drill: str
    nodes: int
    seed: int
    injections: list[Injection] = field(default_factory=list)
    tasks: int = 0
    attempts: int = 0
    faulted_attempts: int = 0
    late_reports: int = 0
    epochs: int = 0
    requests: int = 0
    repeated_requests: int = 0
    """How often one was told to come again later, and did."""
    client_errors: list[str] = field(default_factory=list)
    lost: int = 0
    duplicated: int = 0
    violations: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    """What was checked and held, in words."""
    figures: dict[str, float] = field(default_factory=dict)
    """Further measurements of this drill."""
    ends: list[float] = field(default_factory=list)
    """When ends of attempts were seen, seconds since the load began."""
    duration_s: float = 0.0
    partition: str = ""
    """How parts were cut off: ``netns`` or ``proxy``; empty where nothing was."""
    partition_why: str = ""
    """Why in this way and in no other."""
    evidence: str = ""
    """Where journal and logs were kept, if something did not hold."""

    @property
    def holds(self) -> bool:
        """Say whether nothing is wrong."""
        return not (self.lost or self.duplicated or self.violations)

    def recovery_ms(self, kind: str | None = None) -> dict[str, float]:
        """Return least, median, 99th percentile and most of the recoveries of a kind."""
        return spread(
            [
                one.recovery_ms
                for one in self.injections
                if one.recovery_ms is not None and kind in (None, one.kind)
            ]
        )

    def noticed_ms(self, kind: str) -> dict[str, float]:
        """Return the same of how long it took to notice."""
        times = [one.noticed_ms for one in self.injections if one.kind == kind]
        return spread([each for each in times if each is not None])

    def document(self) -> dict[str, Any]:
        """Return the report as plain values."""
        kinds = list(dict.fromkeys(one.kind for one in self.injections))
        document = asdict(self)
        del document["ends"]
        return {
            **document,
            "injections": [
                {**asdict(one), "recovery_ms": one.recovery_ms, "noticed_ms": one.noticed_ms}
                for one in self.injections
            ],
            "runs": len(self.injections),
            "recovery_ms": self.recovery_ms(),
            "recovery_ms_by_kind": {kind: self.recovery_ms(kind) for kind in kinds},
            "noticed_ms_by_kind": {kind: self.noticed_ms(kind) for kind in kinds},
            "client_error_rate": len(self.client_errors) / max(1, self.requests),
            "holds": self.holds,
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return ``min``, ``p50``, ``p99`` and ``max`` (nearest rank); nothing of nothing."""
    ordered = sorted(values)
    if not ordered:
        return {}
    rank = {name: max(1, math.ceil(part * len(ordered))) for name, part in _PARTS.items()}
    return {name: ordered[place - 1] for name, place in rank.items()}


_PARTS = {"min": 0.0, "p50": 0.5, "p99": 0.99, "max": 1.0}


def page(reports: Sequence[Report]) -> str:
    """Return a page that needs nothing but itself."""
    title = f"dtest drill {html.escape(reports[0].drill)}"
    body = "\n".join(_section(report) for report in reports)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}</body></html>\n"
    )


_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: left }
svg { width: 100%; height: auto; background: color-mix(in srgb, currentColor 5%, transparent) }
.good { color: #1a7f37 } .bad { color: #cf222e } li.bad { font-weight: 600 }
rect.gap { fill: #cf222e; opacity: .35 } rect.work { fill: #2f81f7; opacity: .8 }
text { font-size: 11px; fill: currentColor }
"""


def _section(report: Report) -> str:
    verdict = (
        '<strong class="good">everything held</strong>'
        if report.holds
        else '<strong class="bad">something did not hold</strong>'
    )
    rows = [
        ("brokers", report.nodes),
        ("injections", len(report.injections)),
        ("recovery, ms (min, median, p99, max)", _four(report.recovery_ms())),
        (
            "tasks, attempts, faulted attempts",
            _all(report, "tasks", "attempts", "faulted_attempts"),
        ),
        ("lost, duplicated", _all(report, "lost", "duplicated")),
        (
            "requests, repeated when told to, client errors",
            f"{_all(report, 'requests', 'repeated_requests')}, {len(report.client_errors)}",
        ),
        ("terms of leadership, late reports", _all(report, "epochs", "late_reports")),
        *((name, value) for name, value in report.figures.items()),
        *([("cut off by", f"{report.partition}: {report.partition_why}")] * bool(report.partition)),
    ]
    table = "".join(
        f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in rows
    )
    wrong = [*report.violations, *report.client_errors[:20]]
    items = [f'<li class="bad">{html.escape(text)}</li>' for text in wrong]
    items += [f"<li>{html.escape(text)}</li>" for text in report.checks]
    return (
        f"<h2>{report.nodes} broker{'s' * (report.nodes > 1)}: {verdict}</h2>\n"
        f"<table>{table}</table>\n{_timeline(report)}\n<ul>{''.join(items)}</ul>\n"
        f"<details><summary>every injection</summary><table>{_injections(report)}</table></details>"
    )


def _all(report: Report, *names: str) -> str:
    return ", ".join(str(getattr(report, name)) for name in names)


def _four(values: dict[str, float]) -> str:
    return ", ".join(f"{value:g}" for value in values.values()) or "nothing had to recover"


def _injections(report: Report) -> str:
    return "".join(
        f"<tr><td>{one.at_s:.2f} s</td><td>{html.escape(one.kind)}</td>"
        f"<td>{'-' if one.recovery_ms is None else f'{one.recovery_ms:g} ms'}</td>"
        f"<td>{html.escape(one.detail)}</td></tr>"
        for one in report.injections
    )


def _timeline(report: Report) -> str:
    """Draw ends of attempts as bars over time, and each recovery as a shaded stretch."""
    whole_s = max(report.duration_s, _BUCKET_S)
    buckets = [0] * (int(whole_s / _BUCKET_S) + 1)
    for at in report.ends:
        buckets[min(len(buckets) - 1, max(0, int(at / _BUCKET_S)))] += 1
    most, width = max(1, *buckets), _WIDTH / len(buckets)
    parts = [
        f'<rect class="work" x="{place * width:.1f}" width="{max(0.5, width - 0.3):.1f}" '
        f'y="{_HEIGHT * (1 - count / most):.1f}" height="{_HEIGHT * count / most:.1f}"/>'
        for place, count in enumerate(buckets)
        if count
    ]
    for one in report.injections:
        left = one.at_s / whole_s * _WIDTH
        until = one.at_s if one.recovered_at_s is None else one.recovered_at_s
        length = max(1.0, (until - one.at_s) / whole_s * _WIDTH)
        parts.append(
            f'<rect class="gap" x="{left:.1f}" width="{length:.1f}" y="0" height="{_HEIGHT}">'
            f"<title>{html.escape(one.kind)} at {one.at_s:.2f} s</title></rect>"
        )
    label = f"ends of attempts per {_BUCKET_S:g} s, at most {most}; {whole_s:.0f} s in all"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 16}" role="img" aria-label="timeline">'
        f'{"".join(parts)}<text x="2" y="{_HEIGHT + 13}">{label}</text></svg>'
    )
