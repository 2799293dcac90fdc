"""How the benchmarks tell what they measured."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], *, digits: int = 3) -> dict[str, float]:
    """Return median, lowest and highest."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}
