"""Lists what was collected, with all that tells the tests apart in other processes.

PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

from typing import Any

import pytest
from dtest_places import ID_CHARS_MAX, Places, brief
from dtest_pytest_groups import groups_of
from dtest_pytest_marks import marks_of

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours


def listed(items: list[pytest.Item], places: Places[pytest.Item], grouping: str) -> dict[str, Any]:
    """Return ids, groups, marks, functions, and where each test stands."""
    functions: dict[tuple[str, str], int] = {}
    of: list[tuple[int, int, str]] = []
    told: list[list[Any]] = []
    for item in items:
        file, place = places.of(item)
        key = (file, place.function)
        if key not in functions:
            functions[key] = len(told)
            told.append([file, place.function, place.count, place.names])
        name = brief(item.nodeid)
        of.append((functions[key], place.index, name if name != item.nodeid else ""))
    return {
        "nodeids": [brief(item.nodeid, ID_CHARS_MAX) for item in items],
        "groups": groups_of(items, grouping),
        "functions": told,
        "places": of,
        **marks_of(items),
    }
