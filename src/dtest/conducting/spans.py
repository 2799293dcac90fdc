"""Sets of numbers as spans of consecutive ones, as facts hold them."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

Spans = tuple[tuple[int, int], ...]


def spans_of(numbers: Iterable[int]) -> Spans:
    """Return the spans of some numbers, in order."""
    made: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if made and number <= made[-1][1] + 1:
            made[-1] = (made[-1][0], max(number, made[-1][1]))
        else:
            made.append((number, number))
    return tuple(made)


def numbers_in(spans: Spans) -> Iterator[int]:
    """Yield every number."""
    for first, last in spans:
        yield from range(first, last + 1)


def count_in(spans: Spans) -> int:
    """Return how many numbers there are."""
    return sum(last - first + 1 for first, last in spans)


def chunks(spans: Spans, size: int) -> list[Spans]:
    """Return them in parts of at most so many spans; a single empty one where there are none."""
    return [spans[first : first + size] for first in range(0, len(spans), size)] or [()]


class Holders:
    """Finds which of several sets of spans holds a number; no two hold the same."""

    def __init__(self, sets: Sequence[Spans]) -> None:
        rows = sorted((*span, holder) for holder, spans in enumerate(sets) for span in spans)
        self._firsts = [first for first, _, _ in rows]
        self._rows = rows

    def holder(self, number: int) -> int | None:
        """Return the place of the set that holds a number, none if none does."""
        at = bisect_right(self._firsts, number) - 1
        if at < 0:
            return None
        _, last, holder = self._rows[at]
        return holder if number <= last else None
