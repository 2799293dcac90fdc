"""Chooses tests that were named, as pytest's own command line does.

Whole files are collected, and what was named is kept: thousands of node ids would be slow for
pytest to look up one by one, and might not fit on a command line.
PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

import os

import pytest

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours


def select_named(
    config: pytest.Config, items: list[pytest.Item], paths: list[str], nodeids: list[str]
) -> list[str]:
    """Keep what was named, and all of what was wanted whole; return the names that are none."""
    start = str(config.invocation_params.dir)
    whole = [os.path.abspath(os.path.join(start, path)) for path in paths]
    # A path that is none on disk is a module name (--pyargs): what it brought in is kept.
    keep_strangers = not all(os.path.exists(path) for path in whole)
    named: dict[tuple[str, str], str] = {}
    for nodeid in nodeids:
        file, _, names = nodeid.partition("::")
        named[os.path.abspath(os.path.join(start, file)), names] = nodeid
    named_files = {file for file, _ in named}
    files = [os.path.abspath(str(item.path)) for item in items]
    kept_files = {
        file
        for file in set(files)
        if any(file == path or file.startswith(path + os.sep) for path in whole)
        or (keep_strangers and file not in named_files)
    }
    found: set[tuple[str, str]] = set()
    wanted = []
    for item, file in zip(items, files):
        matches = {(file, name) for name in _name_prefixes(item.nodeid)} & named.keys()
        found |= matches
        wanted.append(bool(matches) or file in kept_files)
    keep(config, items, wanted)
    return [nodeid for key, nodeid in named.items() if key not in found]


def _name_prefixes(nodeid: str) -> list[str]:
    """The names a test answers to within its file: its own, its class's, without its parameters."""
    full = nodeid.partition("::")[2]
    names = full.partition("[")[0].split("::")
    return [full, *("::".join(names[:depth]) for depth in range(1, len(names) + 1))]


def keep(config: pytest.Config, items: list[pytest.Item], wanted: list[bool]) -> None:
    """Leave in the list what is wanted, and tell pytest of the rest."""
    dropped = [item for item, kept in zip(items, wanted) if not kept]
    if dropped:
        items[:] = [item for item, kept in zip(items, wanted) if kept]
        config.hook.pytest_deselected(items=dropped)
