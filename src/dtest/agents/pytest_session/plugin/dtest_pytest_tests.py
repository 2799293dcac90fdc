"""What a test is called in the structure of its suite, apart from its node id.

PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

from typing import Any

import pytest

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours


def file_of(nodeid: str) -> str:
    """Return the file of a node id."""
    return nodeid.partition("::")[0]


def home_of(item: pytest.Item) -> str:
    """Return the file that a test was collected from, relative to pytest's root directory."""
    home = item.getparent(pytest.File)  # type: ignore[type-abstract]
    return file_of(home.nodeid if home is not None else item.nodeid)


def function_of(item: pytest.Item) -> str:
    """Return class and function of a test, without its parameters.

    The name of a test that is no function may be anything: its kind stands for it.
    """
    names = []
    for node in item.listchain()[:-1]:
        if isinstance(node, pytest.Class):
            names.append(node.name)
        elif not isinstance(node, (pytest.Session, pytest.File)) and _is_inner(node):
            names.append(type(node).__name__)
    test: Any = item
    if isinstance(item, pytest.Function):
        name = getattr(test.obj, "__name__", None)
        names.append(name if isinstance(name, str) else type(test.obj).__name__)
    else:
        names.append(f"<{type(item).__name__}>")
    return "::".join(names)


def _is_inner(node: Any) -> bool:
    """Say whether a collector lies within a file."""
    return node.parent is not None and node.parent.getparent(pytest.File) is not None
