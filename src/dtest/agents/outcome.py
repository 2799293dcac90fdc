"""What the end of a process means for its attempt. Pure.

An exit status alone does not tell a failed test from a failed machine; why the agent stopped the
process, if it did, and for ``test`` tasks the session's own status, do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dtest.agents.pytest_session import (
    EXIT_CRASHED,
    EXIT_FAILED,
    EXIT_NO_TESTS,
    EXIT_PASSED,
    EXIT_USAGE,
)
from dtest.events.reasons import Reason
from dtest.suites.ends import STOPPED
from dtest.wording import counted

Outcome = Literal["passed", "failed", "faulted", "cancelled"]
CRASHED_NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class Cases:
    """What a ``test`` attempt reported about its cases."""

    failed: int = 0
    collection_errors: int = 0
    running: str | None = None
    """The test that had started and not ended."""
    crashed: Sequence[str] = ()
    skipped: int = 0
    """A file that skips itself is one of them, though pytest then says that no tests ran."""
    device_faults: Mapping[Reason, int] = field(default_factory=dict)
    """How many of the failed tests failed because of their device."""
    ended: str = ""
    """How the session ended, if that says more than its tests do; see ``pytest_session.ending``."""
    ended_text: str = ""


Meaning = tuple[Outcome, Reason | None, str]


def meaning(task_type: str, end: Exit, stop: Reason | None, cases: Cases) -> Meaning:
    """Return the outcome, its reason and a detail in words; ``stop`` is why the agent ended it."""
    if stop is not None:
        return _stopped(stop, cases)
    if task_type == "test":
        return _tested(end, cases)
    if end.signal is not None:
        return "faulted", Reason.CRASH_SIGNAL, f"ended by signal {end.signal}"
    if end.code == 0:
        return "passed", None, ""
    return "failed", Reason.EXIT_NONZERO, f"exit status {end.code}"


def _stopped(stop: Reason, cases: Cases) -> Meaning:
    detail = f"while {cases.running} ran" if cases.running else ""
    if stop in {Reason.CANCELLED_USER, Reason.CANCELLED_PARENT}:
        return "cancelled", stop, detail
    return "faulted", stop, detail


def _tested(end: Exit, cases: Cases) -> Meaning:
    if cases.ended and end.code in {EXIT_PASSED, EXIT_FAILED}:
        if cases.ended == "lingered" and not cases.failed:
            return "passed", None, cases.ended_text
        if cases.ended != "lingered":
            how = STOPPED if cases.ended == "stopped" else ""
            return "failed", Reason.EXIT_NONZERO, how + cases.ended_text
    return _by_status(end, cases)


def _by_status(end: Exit, cases: Cases) -> Meaning:
    match end.code:
        case code if code == EXIT_PASSED or (code == EXIT_NO_TESTS and cases.skipped):
            return "passed", None, ""
        case code if code == EXIT_FAILED and cases.failed:
            return (
                "failed",
                Reason.ASSERTION_FAILED,
                f"{counted(cases.failed, 'test')} did not pass",
            )
        case code if code == EXIT_FAILED and cases.collection_errors:
            detail = f"{counted(cases.collection_errors, 'file')} could not be collected"
            return "faulted", Reason.COLLECTION_ERROR, detail
        case code if code == EXIT_FAILED:
            return "failed", Reason.ASSERTION_FAILED, "the session failed outside its tests"
        case code if code == EXIT_NO_TESTS:
            return "faulted", Reason.NO_TESTS, "no tests ran"
        case code if code == EXIT_CRASHED:
            named = ", ".join(cases.crashed[:CRASHED_NAMED_MAX]) or "no test was running"
            return "faulted", Reason.CRASH_SIGNAL, f"the test process crashed: {named}"
        case code if code == EXIT_USAGE:
            return "faulted", Reason.MISSING_INPUT, "the tests could not be run; see the output"
        case _:
            how = f"signal {end.signal}" if end.signal else f"exit status {end.code}"
            return "faulted", Reason.AGENT_CRASH, f"the test session ended by {how}"
