"""How long a cell that is made for a call stays after it."""

import os

from dtest.errors import UsageError
from dtest.settings import environment

KEEP_S_MAX = 86_400.0
_STANDARD = (0, 1, 2)


def keep_s_of(
    stated: float | None, default_s: float | None, *, is_watched: bool, option: str = "--keep"
) -> float | None:
    """Return how many seconds it stays; none where nothing says so, 0 where that is not wanted.

    ``default_s`` comes from a file, and counts only where somebody watches (``is_watched``).

    Raises UsageError.
    """
    for name, value in ((option, stated), ("keep", default_s)):
        if value is not None and not 0 <= value <= KEEP_S_MAX:
            message = f"{name} is {value:g}; 0 to {KEEP_S_MAX:g} seconds are possible"
            raise UsageError(message)
    if stated is not None:
        return stated
    return default_s if is_watched else None


def at_terminal() -> bool:
    """Say whether a person seems to be there: some standard stream is a terminal."""
    return any(os.isatty(number) for number in _STANDARD)


def in_ci() -> bool:
    """Say whether a build server made this call."""
    return environment().get("CI", "").lower() not in {"", "0", "false"}
