"""How much a session gets at a time: little, for what it has got cannot go elsewhere any more.

Slices are sized by what each test is expected to take, and that is corrected by what the latest
slices took. Sized by how many tests they have, a slow test would make all that follow too small,
and the session would wait for each of them.
"""

from collections.abc import Iterable
from itertools import islice

from dtest.suites.unit import Piece, expected_s, weight

SLICE_S = 0.1
"""Seconds that a slice is to take."""
SETUP_SLICES = 10
"""A slice is to take so many times what it takes to begin one."""
FIRST_SLICE = 1
"""Pieces, while nothing has been measured."""
SLICE_MAX = 500
"""Tests."""
KEPT = 0.7
"""The part of what earlier slices say that is kept with each that follows."""


class Pace:
    """The pace of one session."""

    def __init__(self) -> None:
        self._slice_s = SLICE_S
        self._took_s = 0.0
        self._expected_s = 0.0

    def measured(self, took_s: float, expected_s: float) -> None:
        """Learn from a slice that has ended: how many seconds it took, and was to take."""
        self._took_s = took_s + KEPT * self._took_s
        self._expected_s = expected_s + KEPT * self._expected_s

    def begins_in(self, setup_s: float) -> None:
        """Learn how many seconds it takes to begin a slice: most of the time is for its tests."""
        self._slice_s = max(SLICE_S, SETUP_SLICES * setup_s)

    def fitting(self, pieces: Iterable[Piece]) -> int:
        """Return how many of these pieces make the next slice; one at least, if there is one."""
        if not self._expected_s:
            return sum(1 for _ in islice(pieces, FIRST_SLICE))
        slowness = self._took_s / self._expected_s
        count = tests = 0
        slice_s = 0.0
        for piece in pieces:
            tests += weight(piece)
            slice_s += expected_s(piece) * slowness
            if count and (tests > SLICE_MAX or slice_s > self._slice_s):
                break
            count += 1
        return count


def given_from(pieces: list[Piece], first: int) -> int:
    """Return from which piece on to give away, of those from ``first`` on, about half of the time.

    The giver keeps what comes next, unless only one piece is left.
    """
    half_s = sum(expected_s(piece) for piece in pieces[first:]) / 2
    place, given_s = len(pieces), 0.0
    while place > first + 1:
        more_s = given_s + expected_s(pieces[place - 1])
        if given_s and more_s - half_s > half_s - given_s:
            break
        place, given_s = place - 1, more_s
    return place if given_s else first
