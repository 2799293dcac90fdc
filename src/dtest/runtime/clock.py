"""The one reader of time."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the instant."""

    def now(self) -> float:
        """Return seconds since 1970 UTC, rounded to a microsecond."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return seconds since 1970 UTC, rounded to a microsecond, as events write it."""
        return round(time.time() * 1e6) / 1e6

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()


def instant(at: float) -> datetime:
    """Return an instant as payloads hold it."""
    return datetime.fromtimestamp(at, UTC)
