"""Cut a suite into units: longest first, smaller towards the end, what belongs together in one.

The order is that of longest processing time first (Graham 1969), the sizes those of factoring
self-scheduling (Hummel, Schonberg and Flynn 1992): each unit is a part of what is left, so that
all sessions end at about the same time though no duration is known exactly.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from dtest.suites.unit import TESTS_MAX, Part, Unit, joined

FILE_PART = 4
"""A file that would take longer than the share of one of so many units of a session is cut."""
ROUND_PARTS = 2
"""A unit is at most the share of one of so many rounds of what is left."""
UNITS_MAX = 32
"""For each session: smaller ones would cost more than they could save."""
IMPORT_S = 0.01
"""What a file costs besides its tests, as a guess."""


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """A test as it was collected."""

    nodeid: str
    group: str = ""
    """Tests of one group share dear fixtures; empty for none."""
    seconds: float = 0.0
    """How long it will probably take."""
    place: int | None = None
    """In its file, where not all of the file's tests are planned together."""

    @property
    def file(self) -> str:
        """The file of its node id."""
        return self.nodeid.partition("::")[0]


@dataclass(frozen=True, slots=True)
class _Item:
    parts: tuple[Part, ...]
    seconds: float
    tests: int


def plan(tests: Sequence[PlannedTest], *, sessions: int) -> list[Unit]:
    """Return the units in the order in which they are to be handed out.

    ``tests`` stand in the order of collection.
    """
    by_file: dict[str, list[tuple[int, PlannedTest]]] = {}
    for test in tests:
        of_file = by_file.setdefault(test.file, [])
        of_file.append((len(of_file) if test.place is None else test.place, test))
    total_s = sum(test.seconds for test in tests) + IMPORT_S * len(by_file)
    largest_s = total_s / (sessions * FILE_PART)
    items = [item for some in by_file.values() for item in _items(some, largest_s)]
    items.sort(key=lambda item: -item.seconds)
    return _packed(items, sessions)


def _items(tests: list[tuple[int, PlannedTest]], largest_s: float) -> Iterable[_Item]:
    """Return a file as one item, or in pieces if it would take too long for one session."""
    whole = _item(tests)
    if whole.seconds <= largest_s and whole.tests <= TESTS_MAX:
        yield whole
        return
    for group, some in groupby(tests, key=lambda test: test[1].group):
        if group:
            yield _item(list(some), together=True)
            continue
        piece: list[tuple[int, PlannedTest]] = []
        taken_s = 0.0
        for test in some:
            full = taken_s + test[1].seconds > largest_s or len(piece) >= TESTS_MAX
            if piece and full:
                yield _item(piece)
                piece, taken_s = [], 0.0
            piece.append(test)
            taken_s += test[1].seconds
        yield _item(piece)


def _item(tests: list[tuple[int, PlannedTest]], *, together: bool = False) -> _Item:
    file = tests[0][1].file
    parts = tuple(
        Part(
            file,
            tuple((place, test.nodeid) for place, test in some),
            together or bool(group),
            tuple(round(test.seconds, 4) for _, test in some),
        )
        for group, some in (
            (group, list(found)) for group, found in groupby(tests, key=lambda test: test[1].group)
        )
    )
    seconds = sum(test.seconds for _, test in tests) + IMPORT_S
    return _Item(parts, seconds, len(tests))


def _packed(items: list[_Item], sessions: int) -> list[Unit]:
    """Put items together, each time up to a part of what is left."""
    left_s = sum(item.seconds for item in items)
    smallest_s = left_s / (sessions * UNITS_MAX)
    units: list[Unit] = []
    packing: list[_Item] = []
    packed_s = 0.0

    def flush() -> None:
        nonlocal packing, packed_s
        if packing:
            parts = joined([part for item in packing for part in item.parts])
            units.append(Unit(f"u{len(units)}", parts, round(packed_s, 6)))
        packing, packed_s = [], 0.0

    for item in items:
        limit_s = max(smallest_s, left_s / (sessions * ROUND_PARTS))
        tests = sum(each.tests for each in packing) + item.tests
        if packed_s + item.seconds > limit_s or tests > TESTS_MAX:
            left_s -= packed_s
            flush()
        packing.append(item)
        packed_s += item.seconds
    flush()
    return units


def makespan_s(units: Sequence[Unit], *, sessions: int) -> float:
    """Return how long so many sessions will probably take, each taking the next when it is free."""
    free_at = [0.0] * max(1, sessions)
    for unit in units:
        heapq.heapreplace(free_at, free_at[0] + unit.seconds)
    return max(free_at)
