"""Reads the events that `go test -json` writes, one JSON object a line (cmd/test2json).

Made by the documented form; what `go vet` or a build says as plain text is output of its package.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from dtest.runners.case import Case, Outcome, Reading, bounded, one_line, seconds

_ENDS: dict[str, Outcome] = {"pass": "passed", "fail": "failed", "skip": "skipped"}
_FRAMES = ("=== ", "--- ")
OUTPUT_LINES_MAX = 2_000
"""Kept of one test, from each end."""


@dataclass(slots=True)
class _Test:
    outcome: Outcome | None = None
    elapsed_s: float = 0.0
    head: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Keep what was written, head and tail."""
        if len(self.head) < OUTPUT_LINES_MAX:
            self.head.append(text)
            return
        self.tail.append(text)
        if len(self.tail) > 2 * OUTPUT_LINES_MAX:
            del self.tail[:OUTPUT_LINES_MAX]

    @property
    def output(self) -> str:
        """What it wrote, without the frames that go puts around tests."""
        lines = [*self.head, *self.tail]
        return bounded("".join(line for line in lines if not line.lstrip().startswith(_FRAMES)))


@dataclass(slots=True)
class _Package:
    tests: dict[str, _Test] = field(default_factory=dict)
    own: _Test = field(default_factory=_Test)


def claims(line: bytes) -> bool:
    """Say whether a stream starts with this line."""
    event = _event(line)
    return event is not None and "Action" in event


def _event(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def read(data: bytes) -> Reading:
    """Return the cases of a stream."""
    packages: dict[str, _Package] = {}
    problems: list[str] = []
    for line in data.splitlines():
        event = _event(line)
        if event is not None:
            _take(packages, event)
        elif line.startswith(b"{"):
            problems.append("it holds a line that is cut off")
    cases: list[Case] = []
    for name, package in packages.items():
        of_package = list(_cases(name, package))
        cases += of_package
        problem = _problem(name, package, of_package)
        if problem:
            problems.append(problem)
    return Reading(tuple(cases), "; ".join(problems))


def _take(packages: dict[str, _Package], event: dict[str, Any]) -> None:
    name = event.get("Package") or event.get("ImportPath")
    if not isinstance(name, str):
        return
    # A failed build names the test variant of its package too: `pkg [pkg.test]`.
    package = packages.setdefault(name.partition(" ")[0], _Package())
    of_test = event.get("Test")
    test = package.tests.setdefault(of_test, _Test()) if isinstance(of_test, str) else package.own
    match event:
        case {"Action": "output" | "build-output", "Output": str(text)}:
            test.say(text)
        case {"Action": "build-fail"}:
            package.own.outcome = "failed"
        case {"Action": str(action)} if action in _ENDS:
            test.outcome = _ENDS[action]
            test.elapsed_s = seconds(str(event.get("Elapsed", 0)))


def _cases(name: str, package: _Package) -> list[Case]:
    cases: list[Case] = []
    for test_name, test in package.tests.items():
        inside = [
            inner for other, inner in package.tests.items() if other.startswith(f"{test_name}/")
        ]
        failed_inside = any(inner.outcome in {"failed", None} for inner in inside)
        if inside and (test.outcome not in {"failed", None} or failed_inside):
            continue  # its subtests say all
        outcome: Outcome = test.outcome or "error"
        message = "" if outcome == "passed" else _message(test)
        if test.outcome is None:
            message = "its package ended before this test did"
        output = test.output if outcome in {"failed", "error"} else ""
        cases.append(
            Case(f"{name}::{test_name}", outcome, one_line(message), output, test.elapsed_s)
        )
    return cases


def _message(test: _Test) -> str:
    """Return the first line that the test itself said."""
    return next((line for line in test.output.splitlines() if line.strip()), "")


def _problem(name: str, package: _Package, cases: list[Case]) -> str:
    if package.own.outcome is None:
        return f"nothing says how the package {name} ended"
    if package.own.outcome == "failed" and not any(
        case.outcome in {"failed", "error"} for case in cases
    ):
        said = one_line(_message(package.own))
        return f"the package {name} failed outside its tests: {said}".rstrip(": ")
    return ""
