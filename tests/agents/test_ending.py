"""How a session ended is a fact of its own, apart from what its tests came to."""

from typing import Any

import pytest

from dtest.agents.outcome import Cases, Exit, meaning
from dtest.agents.pytest_session.ending import ending
from dtest.agents.pytest_session.exits import EXIT_FAILED, EXIT_PASSED, EXIT_USAGE
from dtest.events.reasons import Reason
from dtest.suites.ends import STOPPED


def left(exitstatus: int = 0, natural: int | None = None, **more: Any) -> dict[str, Any]:
    """What the plugin leaves when pytest has ended."""
    natural = exitstatus if natural is None else natural
    base = {"exitstatus": exitstatus, "natural": natural, "stopped": "", "internal": ""}
    return {**base, "threads": [], **more}


@pytest.mark.parametrize(
    ("ended", "exit_code", "failed", "lingered_s", "how", "code", "said"),
    [
        (left(), 0, False, None, "", EXIT_PASSED, ""),
        (left(5), 5, False, None, "", EXIT_PASSED, ""),
        (left(1), 1, True, None, "", EXIT_FAILED, ""),
        (left(1), 1, False, None, "", EXIT_PASSED, ""),  # a file that nobody asked for is broken
        (left(1, natural=0), 1, False, None, "status", EXIT_FAILED, "1 though no test failed: x"),
        (left(0, natural=1), 0, True, None, "", EXIT_FAILED, ""),  # a suite cannot heal itself
        (left(3, natural=0), 3, False, None, "status", EXIT_FAILED, "exit status 3"),
        (left(), 7, False, None, "status", EXIT_FAILED, "exit status 7"),  # os._exit at exit
        (left(), -11, False, None, "signal", EXIT_FAILED, "SIGSEGV, after its last test"),
        (left(1), -11, True, None, "signal", EXIT_FAILED, "SIGSEGV"),
        (left(4), 4, False, None, "", EXIT_USAGE, ""),
        (left(2, stopped="pytest.exit: gone"), 0, False, None, "stopped", EXIT_FAILED, "gone"),
        (left(3, internal="boom"), 3, False, None, "internal", EXIT_FAILED, "boom"),
        (left(threads=["listener-7"]), -15, False, 5.1, "lingered", EXIT_PASSED, "listener-7"),
        (left(1, threads=["x"]), -9, True, 5.1, "lingered", EXIT_FAILED, "ended 5 s after"),
        (left(1, natural=0), -9, False, 5.1, "status", EXIT_FAILED, "though no test failed"),
    ],
)
def test_an_end_is_told_where_it_says_more_than_the_tests(
    ended: dict[str, Any],
    exit_code: int,
    *,
    failed: bool,
    lingered_s: float | None,
    how: str,
    code: int,
    said: str,
) -> None:
    found = ending(ended, exit_code, failed=failed, lingered_s=lingered_s, said="x")

    assert (found.how, found.exit_code) == (how, code)
    assert said in found.text
    assert bool(found.text) == bool(how)


@pytest.mark.parametrize(
    ("how", "code", "failed", "expected"),
    [
        ("status", EXIT_FAILED, 0, ("failed", Reason.EXIT_NONZERO, "text")),
        ("stopped", EXIT_FAILED, 1, ("failed", Reason.EXIT_NONZERO, f"{STOPPED}text")),
        ("internal", EXIT_FAILED, 0, ("failed", Reason.EXIT_NONZERO, "text")),
        ("lingered", EXIT_PASSED, 0, ("passed", None, "text")),
        ("lingered", EXIT_FAILED, 2, ("failed", Reason.ASSERTION_FAILED, "2 tests did not pass")),
        ("", EXIT_PASSED, 0, ("passed", None, "")),
    ],
)
def test_an_attempt_says_how_its_session_ended(
    how: str, code: int, failed: int, expected: tuple[str, Reason | None, str]
) -> None:
    cases = Cases(failed, ended=how, ended_text="text" if how else "")

    assert meaning("test", Exit(code, None), None, cases) == expected
