"""Reports of tests that ran elsewhere are read by pytest as its own."""

from dataclasses import replace
from datetime import date

import pytest

from dtest.pytest_plugin.reports import (
    collect_report_of,
    not_proven_of,
    reports_of,
    rerun_of,
)
from dtest.reports.muting import Muted
from dtest.reports.observation import Observation, Outcome, Phase

SEEN = Observation("t", 1, 1, 1, "a.py::TestB::test_c[x::y]", "passed", duration_s=0.5, line=7)
TEXT = "def test_c():\nE   assert 1 == 2\n---- Captured stdout call ----\nsaid\nmore"


@pytest.mark.parametrize(
    ("outcome", "phase", "expected"),
    [
        ("passed", "call", ["passed", "passed", "passed"]),
        ("failed", "call", ["passed", "failed", "passed"]),
        ("error", "setup", ["failed", "passed"]),
        ("error", "teardown", ["passed", "passed", "failed"]),
        ("error", "call", ["passed", "failed", "passed"]),
        ("skipped", "setup", ["skipped", "passed"]),
        ("xfailed", "call", ["passed", "skipped", "passed"]),
        ("xpassed", "call", ["passed", "passed", "passed"]),
    ],
)
def test_each_outcome_has_the_phases_that_pytest_expects(
    outcome: Outcome, phase: Phase, expected: list[str]
) -> None:
    reports = reports_of(replace(SEEN, outcome=outcome, phase=phase, message="why"))

    assert [str(report.outcome) for report in reports] == expected
    assert sum(report.duration for report in reports) == SEEN.duration_s
    assert hasattr(reports[1], "wasxfail") == outcome.startswith("x")


def test_a_failure_has_its_text_its_reason_and_what_was_printed() -> None:
    failed = replace(SEEN, outcome="failed", message="assert 1 == 2", output=TEXT)

    report = reports_of(failed)[1]

    assert str(report.longrepr) == "    def test_c():\nE   assert 1 == 2"
    assert report.longrepr.reprcrash.message == "assert 1 == 2"  # type: ignore[union-attr]
    assert report.sections == [("Captured stdout call", "said\nmore")]
    assert report.head_line == "TestB.test_c[x::y]"
    assert report.location[:2] == ("a.py", 6)


def test_a_skip_names_its_place() -> None:
    known = replace(SEEN, outcome="skipped", phase="setup", message="why", output="/b.py:3: why")

    assert reports_of(known)[0].longrepr == ("/b.py", 3, "Skipped: why")
    assert reports_of(replace(known, output=""))[0].longrepr == ("a.py", 7, "Skipped: why")


def test_a_muted_failure_is_expected() -> None:
    entry = Muted("a.py", "a race", date(2999, 1, 2))

    report = reports_of(replace(SEEN, outcome="failed"), muted=entry)[1]

    assert not report.failed
    assert report.wasxfail == "known flaky until 2999-01-02: a race"


def test_what_is_not_proven_is_neither_passed_nor_skipped() -> None:
    reports = not_proven_of("a.py::test_b", "worker lost")

    assert reports[0].failed
    assert reports[0].longreprtext == "not proven: worker lost"


def test_a_failure_before_another_try_counts_for_nobody() -> None:
    report = rerun_of(replace(SEEN, outcome="failed"))

    assert [report.passed, report.failed, report.skipped] == [False] * 3


@pytest.mark.parametrize("outcome", ["error", "skipped"])
def test_a_file_that_is_not_collected_is_told_as_such(outcome: Outcome) -> None:
    seen = Observation("t", 1, 1, 1, "a.py", outcome, phase="collect", message="no such module")

    report = collect_report_of(seen)

    assert report.failed == (outcome == "error")
    assert "no such module" in str(report.longrepr)
