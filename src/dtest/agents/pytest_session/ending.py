"""How a session ended, apart from what its tests came to. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from dtest.agents.pytest_session.exits import EXIT_FAILED, EXIT_PASSED, EXIT_USAGE
from dtest.agents.pytest_session.ledger import describe_death

USAGE = 4
"""What pytest says to a command line, or to a suite, that makes no sense."""


class Ending(NamedTuple):
    """What is told of a session's end."""

    exit_code: int
    how: str = ""
    """``stopped`` by the suite itself, ``internal`` error, ``signal``, ``status``, ``lingered``;
    empty for an end that says no more than the tests do."""
    text: str = ""


def ending(
    ended: dict[str, Any], exit_code: int, *, failed: bool, lingered_s: float | None, said: str
) -> Ending:
    """Return how pytest ended that had come to its end by itself.

    ``ended`` is what the plugin left then; ``lingered_s`` says after how many seconds the process
    was ended that would not go; ``said`` is what it wrote after its last test.
    """
    if ended["stopped"]:
        return Ending(EXIT_FAILED, "stopped", ended["stopped"])
    if ended["internal"]:
        return Ending(EXIT_FAILED, "internal", ended["internal"])
    status = ended["exitstatus"] if lingered_s is not None else exit_code
    if status == USAGE:
        return Ending(EXIT_USAGE)
    told = f": {said}" if said else ""
    of_tests = EXIT_FAILED if failed else EXIT_PASSED
    if status < 0:
        text = f"{describe_death(status)}, after its last test{told}"
        return Ending(EXIT_FAILED, "signal", text)
    if lingered_s is not None and status == ended["natural"]:
        names = ", ".join(ended["threads"])
        by = f": the thread {names} stayed" if names else ""
        text = f"ended {lingered_s:.0f} s after its last test, as it would not end by itself{by}"
        return Ending(of_tests, "lingered", text)
    if failed or status in {0, ended["natural"]}:
        return Ending(of_tests)
    return Ending(EXIT_FAILED, "status", f"exit status {status} though no test failed{told}")
