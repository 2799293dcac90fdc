"""A run is ended before its tests for one reason at a time, the first that holds."""

from dataclasses import replace
from typing import Any

import pytest

from dtest.conducting.cutting import Seen, cut_by, cut_of, uncollectable
from dtest.conducting.orders import Order
from dtest.errors import NoWorkerMatches, UsageError
from dtest.events.fields import RunId, TaskId
from dtest.events.runner import Runner
from dtest.events.suite import SuiteSubmitted
from dtest.state.suite import SuiteRun

RUN = RunId("run")


def suite(*, parts: int | None = None, cancelled: bool = False, **asked: Any) -> SuiteRun:
    spec = SuiteSubmitted(RUN, **asked)
    return SuiteRun(RUN, 1, 100.0, spec, parts=parts, pooled=parts or 0, cancelled=cancelled)


def cause(run: SuiteRun, seen: Seen, now: float = 101.0) -> str | None:
    found = cut_of(run, seen, now)
    return found.cause if found is not None else None


@pytest.mark.parametrize(
    ("run", "seen", "now", "wanted"),
    [
        (suite(), Seen(), 1e9, None),
        (suite(), Seen(failures=5), 101.0, None),
        (suite(failures_max=5), Seen(failures=4), 101.0, None),
        (suite(failures_max=5), Seen(failures=5), 101.0, "failures"),
        (suite(), Seen(failures=2, failures_max=2), 101.0, "failures"),
        (suite(failures_max=5), Seen(failures=2, failures_max=2), 101.0, None),
        (suite(), Seen(stopped="the suite stopped the run: x"), 101.0, "stopped"),
        (suite(cancelled=True), Seen(failures=1, failures_max=1, stopped="x"), 101.0, "cancelled"),
        (suite(timeout_seconds=10.0), Seen(), 109.9, None),
        (suite(timeout_seconds=10.0), Seen(), 110.0, "timeout"),
        (suite(timeout_seconds=10.0), Seen(unmatched=["nobody"]), 109.9, None),
        (suite(timeout_seconds=10.0), Seen(unmatched=["nobody"]), 110.0, "unmatched"),
        (suite(fail_unmatched=True), Seen(unmatched=["nobody"]), 101.0, "unmatched"),
        (suite(), Seen(unmatched=["nobody"]), 101.0, None),
    ],
)
def test_why_a_run_is_cut(run: SuiteRun, seen: Seen, now: float, wanted: str | None) -> None:
    assert cause(run, seen, now) == wanted


def test_what_is_cut_or_has_ended_is_cut_no_more() -> None:
    run = suite(cancelled=True)
    run.cut = "timeout"

    assert cut_of(run, Seen(), 101.0) is None
    assert cut_of(replace(suite(cancelled=True), spec=None), Seen(), 101.0) is None


def test_a_list_that_comes_too_late_is_named() -> None:
    early = cut_of(suite(timeout_seconds=1.0), Seen(), 102.0)
    late = cut_of(suite(parts=0, timeout_seconds=1.0), Seen(), 102.0)

    assert early is not None
    assert late is not None
    assert "not listed in 1 s" in early.detail
    assert "did not end in 1 s" in late.detail


def test_errors_are_cuts_with_their_words() -> None:
    assert cut_by(UsageError("no", hint="yes"))[:3] == ("invalid", "no", "yes")
    assert cut_by(NoWorkerMatches("none")).cause == "unmatched"


def test_what_cannot_be_collected_is_told_in_the_words_of_the_runner() -> None:
    said = "collecting\nERROR: file not found: nothing.py\n\n"

    by_go = SuiteSubmitted(RunId("r"), cwd="/srv", runner=Runner("go"))
    by_pytest = SuiteSubmitted(RunId("r"), cwd="/srv", python="/opt/python")
    cut = uncollectable(Order(by_pytest), "cuda", said, "failed, exit_nonzero", TaskId("t1"))
    bare = uncollectable(Order(by_go), "", "", "errored, crash", TaskId("t2"))

    assert cut.detail == "pytest cannot run this suite on cuda: ERROR: file not found: nothing.py"
    assert "/opt/python -m pytest --collect-only" in cut.hint
    assert "dtest task logs t1" in cut.hint
    assert bare.detail == "go cannot run this suite: errored, crash"
    assert bare.hint == "`dtest task logs t2` shows all that it wrote"
