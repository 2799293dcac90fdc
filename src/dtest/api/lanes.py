"""Lanes: each kind of request has a bound of its own, so that a flood of one stops no other.

Beyond its bound a lane takes nothing: the answer is 429 at once, no queue grows here. Health and
metrics are in no lane.
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from dtest.api.limits import ApiLimits
from dtest.errors import Overloaded

Kind = Literal["submissions", "uploads", "requests", "reads", "waits", "queries", "streams"]
RETRY_S_MIN = 1
RETRY_S_MAX = 30
WEIGHT = 0.2
"""Of the latest request in the mean time that one takes."""


def whole_seconds(wait_s: float) -> int:
    """Return what Retry-After may say of a wait."""
    return max(RETRY_S_MIN, min(RETRY_S_MAX, math.ceil(wait_s)))


class Lane:
    """The requests of one kind."""

    def __init__(
        self,
        kind: Kind,
        *,
        count_max: int,
        bytes_max: int | None = None,
        monotonic: Callable[[], float],
    ) -> None:
        self.kind = kind
        self.count = 0
        """In flight."""
        self.bytes = 0
        """Of the bodies in flight."""
        self.accepted = 0
        self.refused = 0
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._monotonic = monotonic
        self._mean_s = 0.0

    @asynccontextmanager
    async def through(self, body_bytes: int = 0) -> AsyncIterator[None]:
        """Hold a place, or raise Overloaded. One body alone is never too much."""
        problem = self._problem(body_bytes)
        if problem:
            self.refused += 1
            message = f"the API takes {problem}"
            raise Overloaded(message, retry_after_s=whole_seconds(self._mean_s))
        self.accepted += 1
        self.count += 1
        self.bytes += body_bytes
        begun = self._monotonic()
        try:
            yield
        finally:
            self.count -= 1
            self.bytes -= body_bytes
            taken_s = self._monotonic() - begun
            self._mean_s += WEIGHT * (taken_s - self._mean_s)

    def _problem(self, body_bytes: int) -> str:
        if self.count >= self._count_max:
            return f"{self._count_max} {self.kind} at once, and all places are taken"
        limit = self._bytes_max
        if limit is not None and self.count and self.bytes + body_bytes > limit:
            return f"{limit} bytes of {self.kind} at once; {self.bytes} are in flight"
        return ""


class Lanes:
    """All lanes of one API."""

    def __init__(self, limits: ApiLimits, *, monotonic: Callable[[], float]) -> None:
        self.submissions = Lane(
            "submissions",
            count_max=limits.submissions_max,
            bytes_max=limits.submission_bytes_max,
            monotonic=monotonic,
        )
        self.uploads = Lane(
            "uploads",
            count_max=limits.uploads_max,
            bytes_max=limits.upload_bytes_max,
            monotonic=monotonic,
        )
        self.requests = Lane("requests", count_max=limits.requests_max, monotonic=monotonic)
        self.reads = Lane("reads", count_max=limits.reads_max, monotonic=monotonic)
        self.waits = Lane("waits", count_max=limits.waits_max, monotonic=monotonic)
        self.queries = Lane("queries", count_max=limits.queries_max, monotonic=monotonic)
        self.streams = Lane("streams", count_max=limits.streams_max, monotonic=monotonic)

    def all(self) -> tuple[Lane, ...]:
        """Return them."""
        return (
            self.submissions,
            self.uploads,
            self.requests,
            self.reads,
            self.waits,
            self.queries,
            self.streams,
        )

    def of(self, method: str, path: str, query: bytes = b"") -> Lane | None:
        """Return the lane of an HTTP request; none if it is always answered.

        Those that wait for something cost little meanwhile; they must not keep out others.
        """
        if path == "/api/metrics" or path.startswith("/api/health"):
            return None
        if path == "/api/query":
            return self.queries
        if path.startswith("/api/tasks/") and path.endswith("/output"):
            return self.streams  # it may wait
        if method in {"GET", "HEAD", "OPTIONS"}:
            return self.waits if b"wait_s=" in query else self.reads
        if path.startswith("/api/workspaces"):
            return self.uploads
        return self.submissions if path == "/api/tasks/submit" else self.requests
