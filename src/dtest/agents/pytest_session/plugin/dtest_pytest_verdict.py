"""What the reports of pytest on one test come to: outcome, reason, and the text to show.

Like the plugin that uses it, this imports nothing but pytest (7.0 or later) and runs on Python 3.8.
PYTEST_DONT_REWRITE: there is no assertion to explain.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
OUTPUT_BYTES_MAX = 64 * 1024
MESSAGE_CHARS_MAX = 500
PHASES = ("setup", "call", "teardown")


class Verdict(NamedTuple):
    """What a finished test comes to."""

    outcome: str
    phase: str
    message: str


NEVER_CALLED = "it was set up and never called"
"""As with pytest's ``--setup-only``: nothing is known of such a test."""


def judge(reports: list[pytest.TestReport]) -> Verdict:
    """The one verdict on a test from the reports of all its phases and subtests."""
    phases = {str(report.when): report for report in reports if not is_subtest(report)}
    # A plugin that runs tests in forks names no phase for a test whose fork died: that is a call.
    deciding = phases.get("call") or phases.get("setup") or reports[-1]
    phase = str(deciding.when) if deciding.when in PHASES else "call"
    if deciding is phases.get("setup") and deciding.passed and len(phases) == len(reports):
        return Verdict("error", "call", NEVER_CALLED)
    verdict = Verdict(_standing(deciding), phase, reason(deciding))
    if verdict.outcome == "failed" and phase != "call":
        verdict = verdict._replace(outcome="error")
    broken = [report for report in reports if is_subtest(report) and report.failed]
    if broken:
        first = f"{getattr(broken[0], 'head_line', '')}: {reason(broken[0])}"
        message = one_line(f"{len(broken)} failed subtest(s), first: {first}")
        verdict = Verdict("failed", "call", message)
    teardown = phases.get("teardown")
    if teardown is None or teardown is deciding or not teardown.failed:
        return verdict
    after = f"teardown: {reason(teardown)}"
    if verdict.outcome in {"failed", "error"}:
        return verdict._replace(message=one_line(f"{verdict.message}; {after}"))
    return Verdict("error", "teardown", one_line(f"{phase} {verdict.outcome}; {after}"))


def properties_of(reports: list[pytest.TestReport]) -> list[tuple[str, str]]:
    """What a test recorded of itself: each phase tells what the ones before it did."""
    for report in reversed(reports):
        told = getattr(report, "user_properties", None)
        if told and not is_subtest(report):
            return [(str(name), str(value)) for name, value in told]
    return []


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why it did not simply pass, in one line; empty when it did."""
    xfail: str | None = getattr(report, "wasxfail", None)
    if xfail is not None and not report.failed:
        return one_line(re.sub("^reason: ", "", xfail))
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return one_line(re.sub("^Skipped: ", "", report.longrepr[2]))
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return one_line(crash.message)
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    marked = [line[1:] for line in lines if line.startswith("E ")]
    return one_line((marked or lines or [""])[-1])


def full_output(reports: list[pytest.TestReport] | list[pytest.CollectReport]) -> str:
    """What pytest would show of a test that did not pass."""
    parts: list[str] = []
    for report in reports:
        if isinstance(report.longrepr, tuple):
            path, line, text = report.longrepr
            parts.append(f"{path}:{line}: {text}")
        elif report.longrepr is not None:
            title = getattr(report, "head_line", "") if is_subtest(report) else ""
            parts.append(f"{title}\n{report.longreprtext}".lstrip("\n"))
    # The sections of a report hold those of the phases before it, but not those of subtests.
    shown = [report for report in reports[:-1] if is_subtest(report) and report.failed]
    for report in [*shown, *reports[-1:]]:
        parts.extend(f"---- {name} ----\n{content}" for name, content in report.sections)
    return "\n".join(parts)


def one_line(text: str) -> str:
    """The first line of a text, short enough for a list."""
    line = next(iter(text.strip().splitlines()), "")
    kept = line if len(line) <= MESSAGE_CHARS_MAX else line[: MESSAGE_CHARS_MAX - 3] + "..."
    return kept.encode("utf-8", "backslashreplace").decode("utf-8")


def bounded(text: str, bytes_max: int = OUTPUT_BYTES_MAX) -> str:
    """The text itself, or its head and tail around a note of how much is missing."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= bytes_max:
        return data.decode("utf-8")
    half = (bytes_max - 64) // 2  # 64 bytes are room for the note
    note = f"\n... {len(data) - 2 * half} bytes left out ...\n"
    return data[:half].decode("utf-8", "ignore") + note + data[-half:].decode("utf-8", "ignore")


def _standing(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail") and not report.failed:
        return "xfailed" if report.skipped else "xpassed"
    return report.outcome


def is_subtest(report: pytest.TestReport | pytest.CollectReport) -> bool:
    """Say whether it is the report of a part of a test."""
    # pytest 9 says SubtestReport, the plugin for older ones SubTestReport: none is always there.
    return type(report).__name__.lower() == "subtestreport"
