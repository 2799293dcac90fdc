"""pytest's own reports of tests that ran elsewhere, so that every plugin takes them for its own."""

import re
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from dtest.reports.muting import Muted
from dtest.reports.observation import Observation

PHASES = ("setup", "call", "teardown")
FLAKY = "dtest_flaky"
NOT_PROVEN = "dtest_not_proven"
"""Marks of reports whose standing is dtest's own."""
WORKER = "dtest.worker"
_SECTION = re.compile(r"^---- (Captured \w+ (?:setup|call|teardown)) ----\n", re.MULTILINE)
_SOURCE = ("def ", "async def ", "@", "class ")
_SKIP = re.compile(r"^(.+?):(\d+): ")


class Lines(Protocol):
    """The part of pytest's terminal writer that is needed here."""

    def line(self, s: str = "", **markup: bool) -> None:
        """Write a line."""
        ...


@dataclass(frozen=True, slots=True)
class Crash:
    """Where and of what a test failed, in one line."""

    path: str
    lineno: int
    message: str


class Told:
    """The text of a failure, as the worker's pytest wrote it."""

    def __init__(self, text: str, crash: Crash) -> None:
        self.text = text
        self.reprcrash = crash

    def toterminal(self, tw: Lines) -> None:
        """Write it, with what failed in red."""
        for line in self.text.splitlines():
            tw.line(line, red=line.startswith("E "), bold=line.startswith("E "))

    def __str__(self) -> str:
        return self.text


def reports_of(
    seen: Observation, *, muted: Muted | None = None, flaky: bool = False
) -> list[pytest.TestReport]:
    """Return the reports of the phases of one test, the deciding one with all that was said.

    What is muted is shown as an expected failure, what is flaky as that.
    """
    phase = seen.phase if seen.phase in PHASES else "call"
    reports = [_plain(seen, each) for each in PHASES[: PHASES.index(phase)]]
    reports.append(_deciding(seen, phase, muted))
    if phase != "teardown":
        reports.append(_plain(seen, "teardown"))
    if flaky:
        setattr(reports[-2], FLAKY, True)
    return reports


def rerun_of(seen: Observation) -> pytest.TestReport:
    """Return the report of a failure that was followed by another try."""
    report = _deciding(seen, seen.phase if seen.phase in PHASES else "call", None)
    report.outcome = "rerun"  # type: ignore[assignment] # as pytest-rerunfailures calls it
    return report


def not_proven_of(nodeid: str, cause: str) -> list[pytest.TestReport]:
    """Return the reports of a test that was to run and of which nothing is known.

    No plugin may take it for passed, so it is an error at setup, with a mark.
    """
    told = f"not proven: {cause or 'the infrastructure did not run it'}"
    nothing = Observation("", 0, 0, 0, nodeid, "error", phase="setup", message=told, output=told)
    reports = reports_of(nothing)
    setattr(reports[0], NOT_PROVEN, told)
    return reports


def collect_report_of(seen: Observation) -> pytest.CollectReport:
    """Return the report of a file that could not be collected, or skipped itself."""
    outcome: Any = "skipped" if seen.outcome == "skipped" else "failed"
    return pytest.CollectReport(seen.nodeid, outcome, _longrepr(seen, None), [])


def _plain(seen: Observation, phase: str) -> pytest.TestReport:
    return _report(seen, phase, "passed", None)


def _deciding(seen: Observation, phase: str, muted: Muted | None) -> pytest.TestReport:
    xfail: dict[str, Any] = {}
    outcome = "failed"
    if muted is not None and seen.outcome in ("failed", "error"):
        xfail = {"wasxfail": f"known flaky until {muted.expires}: {muted.reason}"}
        outcome = "skipped"
    elif seen.outcome in ("xfailed", "xpassed"):
        xfail = {"wasxfail": seen.message}
        outcome = "skipped" if seen.outcome == "xfailed" else "passed"
    elif seen.outcome in ("passed", "skipped"):
        outcome = seen.outcome
    sections, longrepr = _sections(seen.output), _longrepr(seen, muted)
    report = _report(seen, phase, outcome, None if outcome == "passed" else longrepr, **xfail)
    report.sections = sections
    report.duration = seen.duration_s
    return report


def _report(
    seen: Observation,
    phase: Any,  # noqa: ANN401 - pytest's own literals
    outcome: Any,  # noqa: ANN401 - as above
    longrepr: Any,  # noqa: ANN401 - as above
    **more: Any,  # noqa: ANN401 - as above
) -> pytest.TestReport:
    file, _, names = seen.nodeid.partition("::")
    head, bracket, parameters = names.partition("[")
    domain = f"{head.replace('::', '.')}{bracket}{parameters}" or file
    line = seen.line - 1 if seen.line else 0
    properties: list[tuple[str, object]] = []
    if phase == "teardown":
        properties += [(WORKER, seen.worker_id)] if seen.worker_id else []
        properties += seen.properties
    return pytest.TestReport(
        nodeid=seen.nodeid,
        location=(file, line, domain),
        keywords={name: 1 for name in (file, *names.split("::")) if name},
        outcome=outcome,
        longrepr=longrepr,
        when=phase,
        user_properties=properties,
        **more,
    )


def _longrepr(seen: Observation, muted: Muted | None) -> Any:  # noqa: ANN401 - pytest takes many
    if seen.outcome == "skipped" and muted is None:
        at = _SKIP.match(seen.output)
        place = (at[1], int(at[2])) if at else (seen.nodeid.partition("::")[0], seen.line)
        return (*place, f"Skipped: {seen.message}")
    text = _SECTION.split(seen.output)[0].rstrip("\n") or seen.message
    if text.startswith(_SOURCE):  # a text loses its first indentation on its way
        text = f"    {text}"
    file = seen.file or seen.nodeid.partition("::")[0]
    return Told(text, Crash(file, seen.line or 0, seen.message))


def _sections(output: str) -> list[tuple[str, str]]:
    _, *parts = _SECTION.split(output)
    return [(name, text) for name, text in zip(parts[::2], parts[1::2], strict=True)]
