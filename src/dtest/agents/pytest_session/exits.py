"""How a session ends, as its exit status."""

from __future__ import annotations

from typing import Final

EXIT_PASSED: Final = 0
EXIT_FAILED: Final = 1
EXIT_NO_TESTS: Final = 5
EXIT_USAGE: Final = 64
EXIT_CRASHED: Final = 70

EXIT_CODES: Final = {
    "passed": EXIT_PASSED,
    "failed": EXIT_FAILED,
    "error": EXIT_FAILED,
    "no_tests": EXIT_NO_TESTS,
    "usage": EXIT_USAGE,
    "crashed": EXIT_CRASHED,
}
