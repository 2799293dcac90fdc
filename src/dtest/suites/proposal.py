"""What rules the evidence in sources amounts to, ready to be copied. Pure; applies nothing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dtest.events.suite_list import Marks
from dtest.suites.evidence import FILE, Analysis, Finding
from dtest.suites.requirement import KEYWORDS
from dtest.suites.rules import Rule


@dataclass(frozen=True, slots=True)
class Evidence:
    """A finding with its file."""

    file: str
    finding: Finding

    @property
    def place(self) -> str:
        """Where it is, as editors read it."""
        return f"{self.file}:{self.finding.line}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """One rule, and why."""

    asks: Mapping[str, Any]
    evidence: tuple[Evidence, ...]
    match: str | None = None
    marker: str | None = None

    @property
    def rule(self) -> str:
        """The rule as an entry of ``[[tool.dtest.requirements]]``."""
        chosen = {"match": self.match, "marker": self.marker}
        lines = [f"{name} = {_toml(value)}" for name, value in chosen.items() if value is not None]
        lines += [f"{name} = {_toml(value)}" for name, value in self.asks.items()]
        return "\n".join(("[[tool.dtest.requirements]]", *lines))

    @property
    def mark(self) -> str:
        """The same as a mark."""
        asked = ", ".join(f"{name}={_python(value)}" for name, value in self.asks.items())
        return f"@pytest.mark.dtest({asked})"


@dataclass(frozen=True, slots=True)
class Proposals:
    """All of it."""

    proposals: tuple[Proposal, ...] = ()
    notes: tuple[Evidence, ...] = ()
    """What a person should look at: no requirement follows from it."""
    problems: tuple[tuple[str, str], ...] = ()
    """Files that could not be read, and why."""


def proposals(analyses: Iterable[Analysis], rules: Sequence[Rule] = ()) -> Proposals:
    """Return what the sources suggest, but for what marks or rules say already."""
    made: list[Proposal] = []
    notes: list[Evidence] = []
    problems: list[tuple[str, str]] = []
    by_marker: dict[str, list[Evidence]] = {}
    for analysis in analyses:
        if analysis.problem:
            problems.append((analysis.file, analysis.problem))
        by_test: dict[str, list[Evidence]] = {}
        for finding in analysis.findings:
            found = Evidence(analysis.file, finding)
            if _is_said(finding.test, analysis.said):
                continue
            if not finding.asks:
                notes.append(found)
            elif finding.marker is not None:
                by_marker.setdefault(finding.marker, []).append(found)
            else:
                by_test.setdefault(finding.test, []).append(found)
        made += _of_file(analysis.file, by_test, rules)
    made += (
        Proposal(_joined(found), tuple(found), marker=marker)
        for marker, found in sorted(by_marker.items())
        if not any(rule.marker == marker for rule in rules)
    )
    return Proposals(tuple(made), tuple(notes), tuple(problems))


def _of_file(
    file: str, by_test: Mapping[str, list[Evidence]], rules: Sequence[Rule]
) -> Iterable[Proposal]:
    """Yield a rule for each test, class or file; what a wider one asks for is not said again."""
    wider: dict[str, Proposal] = {}
    for test in sorted(by_test):
        asks = _joined(by_test[test])
        around = [wider[name] for name in (FILE, *_outer(test)) if name in wider]
        if any(_covers(each.asks, asks) for each in around):
            continue
        nodeid = f"{file}::{test}" if test else file
        held = [rule.asked for rule in rules if rule.marker is None and rule.holds(nodeid, Marks())]
        wider[test] = Proposal(asks, tuple(by_test[test]), match=nodeid)
        if not any(_covers(each, asks) for each in held):
            yield wider[test]


def _outer(test: str) -> list[str]:
    words = test.split("::")
    return ["::".join(words[:depth]) for depth in range(1, len(words))]


def _is_said(test: str, said: frozenset[str]) -> bool:
    return bool(said & {FILE, test, *_outer(test)})


def _covers(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether the one asks for all that the other does, as the same or as a number above it."""
    return all(
        one.get(name) == value
        or (name.startswith("min_") and one.get(name, 0) >= value)
        or (name == "hardware" and set(one.get(name, ())) <= set(value) and name in one)
        for name, value in other.items()
    )


def _joined(found: Sequence[Evidence]) -> Mapping[str, Any]:
    """Return what several findings ask for together."""
    asks: dict[str, Any] = {}
    for each in found:
        for name, value in each.finding.asks.items():
            before = asks.get(name)
            if name == "hardware" and before is not None:
                common = tuple(kind for kind in before if kind in value)
                asks[name] = common or tuple(dict.fromkeys((*before, *value)))
            elif name == "labels":
                asks[name] = {**(before or {}), **value}
            elif name.startswith("min_"):
                asks[name] = max(before or 0, value)
            else:
                asks[name] = value  # what is started stands below what is imported
    return {name: asks[name] for name in KEYWORDS if name in asks}


def _toml(value: object) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }"
        case (only,):
            return _toml(only)
        case tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _python(value: object) -> str:
    only = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    return json.dumps(only, ensure_ascii=False)
