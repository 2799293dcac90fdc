"""Cut a suite into units: longest first, smaller towards the end, what belongs together in one.

The order is that of longest processing time first (Graham 1969), by what cannot be parted; else
that of collection. The sizes are those of factoring
self-scheduling (Hummel, Schonberg and Flynn 1992): each unit is a part of what is left, so that
all sessions end at about the same time though no duration is known exactly.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dtest.suites.unit import TESTS_MAX, UNIT_BYTES_MAX, Part, Piece, Test, Unit, joined

FILE_PART = 4
"""A file that would take longer than the share of one of so many units of a session is cut."""
ROUND_PARTS = 2
"""A unit is at most the share of one of so many rounds of what is left."""
UNITS_MAX = 32
"""For each session: smaller ones would cost more than they could save."""
IMPORT_S = 0.01
"""What a file costs besides its tests, as a guess."""
ONE_PROCESS = "@"
"""How the name of a group begins that one session has to run, wherever its tests stand."""


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """A test as it was collected."""

    test: Test
    file: str
    group: str = ""
    """Tests of one group stay together; empty for none."""
    seconds: float = 0.0
    """How long it will probably take."""


@dataclass(frozen=True, slots=True)
class _Item:
    pieces: tuple[Piece, ...]
    seconds: float
    tests: int
    size_bytes: int
    longest_s: float
    """Of what cannot be parted: a test, or a group."""


def plan(tests: Sequence[PlannedTest], *, sessions: int) -> list[Unit]:
    """Return the units in the order in which they are to be handed out.

    ``tests`` stand in the order of collection. A group of more than `TESTS_MAX` tests is cut all
    the same.
    """
    by_home: dict[str, list[PlannedTest]] = {}
    for test in tests:
        home = test.group if test.group.startswith(ONE_PROCESS) else test.file
        by_home.setdefault(home, []).append(test)
    files = len({test.file for test in tests})
    total_s = sum(test.seconds for test in tests) + IMPORT_S * files
    largest_s = total_s / (sessions * FILE_PART)
    items = [item for some in by_home.values() for item in _items(some, largest_s)]
    smallest_s = total_s / (sessions * UNITS_MAX)
    items.sort(key=lambda item: -_rank(item.longest_s, smallest_s))
    return _packed(items, sessions)


def _rank(longest_s: float, smallest_s: float) -> int:
    """Return how much what cannot be parted exceeds the smallest unit, in powers of two.

    Only what is long decides: of all others the order is that of collection.
    """
    return max(0, math.frexp(longest_s / smallest_s)[1]) if smallest_s else 0


def _items(tests: list[PlannedTest], largest_s: float) -> Iterable[_Item]:
    """Return a file as one item, or in pieces if it would take too long for one session."""
    whole = _item(tests)
    fits = whole.tests <= TESTS_MAX and whole.size_bytes <= UNIT_BYTES_MAX
    if fits and (whole.seconds <= largest_s or _is_one_group(tests)):
        yield whole
        return
    for group, some in groupby(tests, key=lambda test: test.group):
        longest_s = float("inf") if group else largest_s
        yield from (_item(piece) for piece in _cut(list(some), longest_s))


def _is_one_group(tests: list[PlannedTest]) -> bool:
    return bool(tests[0].group) and all(test.group == tests[0].group for test in tests)


def _cut(tests: list[PlannedTest], longest_s: float) -> Iterator[list[PlannedTest]]:
    """Cut tests so that none takes longer, and the document of each fits into a message."""
    piece: list[PlannedTest] = []
    taken_s, size = 0.0, 0
    for test in tests:
        too_long = taken_s + test.seconds > longest_s
        too_large = len(piece) >= TESTS_MAX or size + test.test.size_bytes > UNIT_BYTES_MAX
        if piece and (too_long or too_large):
            yield piece
            piece, taken_s, size = [], 0.0, 0
        piece.append(test)
        taken_s += test.seconds
        size += test.test.size_bytes
    yield piece


def _item(tests: list[PlannedTest]) -> _Item:
    pieces = tuple(
        tuple(
            Part(
                file,
                tuple(test.test for test in of_file),
                group,
                tuple(round(test.seconds, 4) for test in of_file),
            )
            for file, of_file in (
                (file, list(found)) for file, found in groupby(some, key=lambda test: test.file)
            )
        )
        for group, some in (
            (group, list(found)) for group, found in groupby(tests, key=lambda test: test.group)
        )
    )
    seconds = sum(test.seconds for test in tests) + IMPORT_S
    size = sum(test.test.size_bytes for test in tests)
    longest_s = max(
        sum(taken for part in piece for taken in part.seconds)
        if piece[0].group
        else max(piece[0].seconds, default=0.0)
        for piece in pieces
    )
    return _Item(pieces, seconds, len(tests), size, longest_s)


def _packed(items: list[_Item], sessions: int) -> list[Unit]:
    """Put items together, each time up to a part of what is left."""
    left_s = sum(item.seconds for item in items)
    smallest_s = left_s / (sessions * UNITS_MAX)
    units: list[Unit] = []
    packing: list[_Item] = []
    packed_s, tests, size = 0.0, 0, 0

    def flush() -> None:
        nonlocal packing, packed_s, tests, size
        if packing:
            parts = joined([piece for item in packing for piece in item.pieces])
            units.append(Unit(f"u{len(units)}", parts, round(packed_s, 6)))
        packing, packed_s, tests, size = [], 0.0, 0, 0

    for item in items:
        limit_s = max(smallest_s, left_s / (sessions * ROUND_PARTS))
        too_long = packed_s + item.seconds > limit_s
        too_many = tests + item.tests > TESTS_MAX or size + item.size_bytes > UNIT_BYTES_MAX
        if too_long or too_many:
            left_s -= packed_s
            flush()
        packing.append(item)
        packed_s += item.seconds
        tests += item.tests
        size += item.size_bytes
    flush()
    return units


def makespan_s(units: Sequence[Unit], *, sessions: int) -> float:
    """Return how long so many sessions will probably take, each taking the next when it is free."""
    free_at = [0.0] * max(1, sessions)
    for unit in units:
        heapq.heapreplace(free_at, free_at[0] + unit.seconds)
    return max(free_at)
