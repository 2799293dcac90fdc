"""Which tests have to stay together, by their fixtures or because the suite says so.

PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

from typing import Any

import pytest
from dtest_places import brief
from dtest_pytest_tests import file_of

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
TOGETHER = frozenset({"class", "module", "package"})
"""Scopes of fixtures that are dear enough to keep those tests in one unit who share them."""
ONE_PROCESS = "@"
"""How the name of a group begins that one session has to run, wherever its tests stand."""
HONOURED = ("loadfile", "loadscope", "loadgroup")
INDIFFERENT = ("no", "load", "worksteal")


def grouping_of(option: Any) -> tuple[str, str]:
    """Return how xdist was told to group tests, and what is to be said of it."""
    asked = getattr(option, "dist", "no")
    if asked in HONOURED:
        return asked, ""
    if asked in INDIFFERENT:
        return "", ""
    return "", f"--dist {asked} is not honoured: each test runs once"


def groups_of(items: list[pytest.Item], grouping: str) -> list[str]:
    """Name the group of each test; empty for none."""
    return [_asked(item, grouping) or group_of(item) for item in items]


def _asked(item: pytest.Item, grouping: str) -> str:
    if grouping == "loadfile":
        return ONE_PROCESS + file_of(item.nodeid)
    if grouping == "loadscope":
        return ONE_PROCESS + brief(item.nodeid.rpartition("::")[0])
    if grouping != "loadgroup":
        return ""
    names = []
    for mark in item.iter_markers("xdist_group"):
        name = mark.args[0] if mark.args else mark.kwargs.get("name", "default")
        if str(name) not in names:
            names.append(str(name))
    # As xdist 3.8: several marks of one test name one group of their own.
    return ONE_PROCESS + "_".join(names) if names else ""


def group_of(item: pytest.Item) -> str:
    """Name what a test has to stay together with: its module, its class, or nothing.

    Fixtures that pytest itself makes of ``setUpClass`` count only if the class has one of its own.
    """
    info: Any = getattr(item, "_fixtureinfo", None)
    scopes = set()
    for name, definitions in (info.name2fixturedefs if info is not None else {}).items():
        scope = str(definitions[-1].scope)
        if scope in TOGETHER and not (name.startswith("_unittest_") and _has_plain_setup(item)):
            scopes.add(scope)
    if scopes & {"module", "package"}:
        return file_of(item.nodeid)
    if "class" not in scopes:
        return ""
    of_class = item.getparent(pytest.Class)
    return of_class.nodeid if of_class is not None else file_of(item.nodeid)


def _has_plain_setup(item: pytest.Item) -> bool:
    import unittest

    cls = getattr(item, "cls", None)
    return cls is not None and all(
        getattr(getattr(cls, name, None), "__func__", None)
        is getattr(unittest.TestCase, name).__func__
        for name in ("setUpClass", "tearDownClass")
    )
