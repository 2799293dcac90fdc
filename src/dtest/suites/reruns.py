"""Who runs failed tests again: sessions that keep away from the workers on which they failed.

A test that fails on one machine alone says something of that machine. Tests that failed in the same
places go to the same sessions, so that each session has one wish and the scheduler can grant it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Test = TypeVar("Test")
AVOIDED_MAX = 8
"""Workers that one session may ask to keep away from."""
GROUPS_MAX = 16
"""Each is a session at least; the tests of the smallest ones beyond run anywhere."""


@dataclass(frozen=True, slots=True)
class Again(Generic[Test]):
    """Tests that run again, and where not."""

    tests: tuple[Test, ...]
    avoid: tuple[str, ...]
    sessions: int


def elsewhere(
    failed: Iterable[tuple[Test, Collection[str]]], *, sessions: int
) -> list[Again[Test]]:
    """Part tests by the workers on which they failed; each test comes once, with all of them."""
    where: dict[Test, set[str]] = {}
    for test, workers in failed:
        where.setdefault(test, set()).update(workers)
    groups: dict[tuple[str, ...], list[Test]] = {}
    for test, workers in where.items():
        groups.setdefault(tuple(sorted(workers))[:AVOIDED_MAX], []).append(test)
    largest = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    kept, rest = largest[:GROUPS_MAX], largest[GROUPS_MAX:]
    if rest:
        kept.append(((), [test for _, tests in rest for test in tests]))
    return [
        Again(tuple(tests), avoid, _share(len(tests), len(where), sessions))
        for avoid, tests in kept
    ]


def _share(tests: int, of: int, sessions: int) -> int:
    return max(1, min(tests, round(sessions * tests / of)))
