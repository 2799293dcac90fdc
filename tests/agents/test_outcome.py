"""What the end of a process means: a table, row by row."""

import pytest

from dtest.agents.outcome import Cases, Exit, meaning
from dtest.agents.pytest_session import (
    EXIT_CRASHED,
    EXIT_FAILED,
    EXIT_NO_TESTS,
    EXIT_PASSED,
    EXIT_USAGE,
)
from dtest.events.reasons import MEANINGS, Reason

NONE = Cases()
RUNNING = Cases(running="test_a.py::test_long")


@pytest.mark.parametrize(
    ("end", "outcome", "reason", "detail"),
    [
        (Exit(0, None), "passed", None, ""),
        (Exit(1, None), "failed", Reason.EXIT_NONZERO, "exit status 1"),
        (Exit(255, None), "failed", Reason.EXIT_NONZERO, "exit status 255"),
        (Exit(None, 11), "faulted", Reason.CRASH_SIGNAL, "ended by signal 11"),
        (Exit(None, 15), "faulted", Reason.CRASH_SIGNAL, "ended by signal 15"),
        # A command's exit status is its own: what a test session means by it does not count.
        (Exit(EXIT_NO_TESTS, None), "failed", Reason.EXIT_NONZERO, "exit status 5"),
        (Exit(EXIT_CRASHED, None), "failed", Reason.EXIT_NONZERO, "exit status 70"),
    ],
)
def test_a_command_is_judged_by_its_exit(
    end: Exit, outcome: str, reason: Reason | None, detail: str
) -> None:
    assert meaning("command", end, None, NONE) == (outcome, reason, detail)


@pytest.mark.parametrize(
    ("end", "cases", "outcome", "reason", "detail"),
    [
        (Exit(EXIT_PASSED, None), NONE, "passed", None, ""),
        (
            Exit(EXIT_FAILED, None),
            Cases(failed=2),
            "failed",
            Reason.ASSERTION_FAILED,
            "2 tests did not pass",
        ),
        (
            Exit(EXIT_FAILED, None),
            Cases(failed=1, collection_errors=1),
            "failed",
            Reason.ASSERTION_FAILED,
            "1 test did not pass",
        ),
        (
            Exit(EXIT_FAILED, None),
            Cases(collection_errors=3),
            "faulted",
            Reason.COLLECTION_ERROR,
            "3 files could not be collected",
        ),
        (
            Exit(EXIT_FAILED, None),
            NONE,
            "failed",
            Reason.ASSERTION_FAILED,
            "the session failed outside its tests",
        ),
        (Exit(EXIT_NO_TESTS, None), NONE, "faulted", Reason.NO_TESTS, "no tests ran"),
        (
            Exit(EXIT_CRASHED, None),
            Cases(failed=1, crashed=("a::b",)),
            "faulted",
            Reason.CRASH_SIGNAL,
            "the test process crashed: a::b",
        ),
        (
            Exit(EXIT_CRASHED, None),
            NONE,
            "faulted",
            Reason.CRASH_SIGNAL,
            "the test process crashed: no test was running",
        ),
        (
            Exit(EXIT_USAGE, None),
            NONE,
            "faulted",
            Reason.MISSING_INPUT,
            "the tests could not be run; see the output",
        ),
        (
            Exit(None, 9),
            NONE,
            "faulted",
            Reason.AGENT_CRASH,
            "the test session ended by signal 9",
        ),
        (
            Exit(3, None),
            NONE,
            "faulted",
            Reason.AGENT_CRASH,
            "the test session ended by exit status 3",
        ),
    ],
)
def test_a_test_session_is_judged_by_its_own_status(
    end: Exit, cases: Cases, outcome: str, reason: Reason | None, detail: str
) -> None:
    assert meaning("test", end, None, cases) == (outcome, reason, detail)


def test_many_crashed_tests_are_not_all_named() -> None:
    crashed = tuple(f"t::{number}" for number in range(20))

    _, _, detail = meaning("test", Exit(EXIT_CRASHED, None), None, Cases(crashed=crashed))

    assert detail == "the test process crashed: t::0, t::1, t::2, t::3, t::4"


@pytest.mark.parametrize("task_type", ["command", "test"])
@pytest.mark.parametrize("stop", list(Reason))
@pytest.mark.parametrize("end", [Exit(0, None), Exit(1, None), Exit(None, 9), Exit(None, None)])
def test_why_the_agent_ended_it_says_more_than_how_it_ended(
    task_type: str, stop: Reason, end: Exit
) -> None:
    cancelled = stop in {Reason.CANCELLED_USER, Reason.CANCELLED_PARENT}

    outcome, reason, detail = meaning(task_type, end, stop, RUNNING)

    assert outcome == ("cancelled" if cancelled else "faulted")
    assert reason is stop
    assert detail == "while test_a.py::test_long ran"


def test_no_outcome_blames_a_worker_for_what_a_test_did() -> None:
    for end in (Exit(1, None), Exit(None, 11)):
        _, reason, _ = meaning("command", end, None, NONE)
        assert reason is not None
        assert MEANINGS[reason].blame == "test"
