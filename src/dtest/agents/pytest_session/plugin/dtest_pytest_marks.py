"""What marks say of tests: the names of markers, and what ``pytest.mark.dtest`` asks for.

It judges nothing: whether a mark makes sense is for whoever reads the record. Like the plugin
beside it, this imports nothing but pytest (7.0 or later) and runs on Python 3.8.
PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
MARKER = "dtest"
MARKER_LINE = (
    "dtest(hardware, min_memory_gb, min_device_memory_gb, min_cuda_compute, browser, device_type, "
    "labels): what a machine must have to run the test"
)
OF_PYTEST = frozenset({"filterwarnings", "parametrize", "skip", "skipif", "usefixtures", "xfail"})
"""They say nothing of machines, and nearly every test has some."""


def marks_of(items: list[pytest.Item]) -> dict[str, Any]:
    """Return the distinct sets of marks, and for each test the number of its own.

    The first set is empty. Nothing at all where no test has any mark.
    """
    numbers: dict[tuple[tuple[str, ...], str], int] = {((), "[]"): 0}
    sets: list[dict[str, Any]] = [{"names": [], "asked": []}]
    marked: list[int] = []
    for item in items:
        names: dict[str, None] = {}
        asked: list[list[object]] = []
        for mark in item.iter_markers():
            if mark.name == MARKER:
                asked.append([_plain(list(mark.args)), _plain(mark.kwargs)])
            elif mark.name not in OF_PYTEST:
                names[mark.name] = None
        key = (tuple(sorted(names)), repr(asked))
        if key not in numbers:
            numbers[key] = len(sets)
            sets.append({"names": list(key[0]), "asked": asked})
        marked.append(numbers[key])
    return {"marks": sets, "marked": marked} if len(sets) > 1 else {}


def _plain(value: object) -> object:
    """Return what JSON can hold; of anything else what no keyword takes, with its text inside."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if type(value) is str and value.isprintable():
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict) and all(type(name) is str for name in value):
        return {name: _plain(inner) for name, inner in value.items()}
    return [[ascii(value)]]
