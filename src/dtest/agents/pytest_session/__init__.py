"""Run pytest in a foreign interpreter and report each test case, surviving its crashes.

Nothing here chooses tests or a machine for them: a caller starts `SESSION_MODULE` with an
interpreter of its own, and reads the records it writes and one of the exit codes below.
"""

from typing import Final

from dtest.agents.pytest_session.exits import (
    EXIT_CRASHED,
    EXIT_FAILED,
    EXIT_NO_TESTS,
    EXIT_PASSED,
    EXIT_USAGE,
)

SESSION_MODULE: Final = "dtest.agents.pytest_session.session"
"""Runs by ``-m``: given tests, once."""
FED_MODULE: Final = "dtest.agents.pytest_session.fed"
"""Runs by ``-m`` and lasts: it takes units of tests from a file while that grows."""

__all__ = [
    "EXIT_CRASHED",
    "EXIT_FAILED",
    "EXIT_NO_TESTS",
    "EXIT_PASSED",
    "EXIT_USAGE",
    "FED_MODULE",
    "SESSION_MODULE",
]
