"""Who runs failed tests again: sessions that keep away from the workers on which they failed.

A test that fails on one machine alone says something of that machine. Tests that failed in the same
places go to the same sessions, so that each session has one wish and the scheduler can grant it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

AVOIDED_MAX = 8
"""Workers that one session may ask to keep away from."""
GROUPS_MAX = 16
"""Each is a session at least; the tests of the smallest ones beyond run anywhere."""


@dataclass(frozen=True, slots=True)
class Again:
    """Tests that run again, and where not."""

    nodeids: tuple[str, ...]
    avoid: tuple[str, ...]
    sessions: int


def elsewhere(failed: Iterable[tuple[str, Collection[str]]], *, sessions: int) -> list[Again]:
    """Part tests by the workers on which they failed; each test comes once, with all of them."""
    where: dict[str, set[str]] = {}
    for nodeid, workers in failed:
        where.setdefault(nodeid, set()).update(workers)
    groups: dict[tuple[str, ...], list[str]] = {}
    for nodeid, workers in where.items():
        groups.setdefault(tuple(sorted(workers))[:AVOIDED_MAX], []).append(nodeid)
    largest = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    kept, rest = largest[:GROUPS_MAX], largest[GROUPS_MAX:]
    if rest:
        kept.append(((), [nodeid for _, nodeids in rest for nodeid in nodeids]))
    return [
        Again(tuple(nodeids), avoid, _share(len(nodeids), len(where), sessions))
        for avoid, nodeids in kept
    ]


def _share(tests: int, of: int, sessions: int) -> int:
    return max(1, min(tests, round(sessions * tests / of)))
