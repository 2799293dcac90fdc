"""How long attempts took: a histogram of bounded size from which a high quantile can be read.

Buckets are an eighth of a power of two wide (at most 12.5 % too long), found without logarithms,
so that every reader finds the same. Old durations fade: all counts are halved now and then.
"""

import math
from dataclasses import dataclass, field

from dtest.events.task import TaskQueued
from dtest.state.health import signature_of

SECONDS_MIN = 2.0**-10
SECONDS_MAX = 2.0**22
"""Seven weeks: a longer duration counts as that."""
_PARTS = 8


@dataclass(slots=True)
class Durations:
    """Durations of the passed attempts of one signature on one kind of hardware."""

    count: int = 0
    buckets: dict[int, int] = field(default_factory=dict)
    """How many fell into each bucket."""

    def add(self, seconds: float, *, count_max: int) -> None:
        """Count one duration; once ``count_max`` are counted, all counts are halved first."""
        if self.count >= count_max:
            halved = {bucket: count // 2 for bucket, count in self.buckets.items()}
            self.buckets = {bucket: count for bucket, count in halved.items() if count}
            self.count = sum(self.buckets.values())
        bucket = bucket_of(seconds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1

    def quantile_s(self, part: float) -> float:
        """Return how long that part of all took at most, seconds, rounded up to a bucket's end.

        Raises ValueError if nothing was counted.
        """
        if not self.count:
            message = "nothing was counted"
            raise ValueError(message)
        rank, seen = math.ceil(part * self.count), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                break
        return end_of(bucket)

    @property
    def longest_s(self) -> float:
        """The longest one, seconds, rounded up to its bucket's end."""
        return self.quantile_s(1.0)


def duration_key(spec: TaskQueued, hardware: str, *, simulated: bool) -> str:
    """Return what attempts share that may be expected to take as long as each other."""
    where = f"simulated/{hardware}" if simulated else hardware
    return f"{where}/{signature_of(spec)}"


def bucket_of(seconds: float) -> int:
    """Return the number of the bucket of a duration."""
    mantissa, exponent = math.frexp(min(max(seconds, SECONDS_MIN), SECONDS_MAX))
    return exponent * _PARTS + int(mantissa * 2 * _PARTS) - _PARTS


def end_of(bucket: int) -> float:
    """Return the end of a bucket, seconds."""
    exponent, part = divmod(bucket, _PARTS)
    return math.ldexp((_PARTS + part + 1) / (2 * _PARTS), exponent)
