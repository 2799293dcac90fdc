"""What tests of unittest are called, and which of them are none."""

from __future__ import annotations

import sys
import unittest
from typing import Any, Iterator

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours


def nodeid_of(file: str, test: unittest.TestCase) -> str:
    """Name a test as pytest would."""
    name = test.id()
    module = f"{type(test).__module__}."
    if name.startswith(module):
        name = name[len(module) :]
    of_class, _, method = name.rpartition(".")
    return f"{file}::{of_class}::{method}" if of_class else f"{file}::{name}"


def function_of(test: unittest.TestCase) -> str:
    """Return class and method of a test: whatever name it gives itself."""
    return f"{type(test).__qualname__}::{getattr(test, '_testMethodName', '')}"


def group_of(file: str, test: unittest.TestCase) -> str:
    """Name what a test has to stay together with: its module, its class, or nothing."""
    module = sys.modules.get(type(test).__module__)
    if hasattr(module, "setUpModule") or hasattr(module, "tearDownModule"):
        return file
    for name in ("setUpClass", "tearDownClass"):
        own = getattr(getattr(type(test), name, None), "__func__", None)
        if own is not None and own is not getattr(unittest.TestCase, name).__func__:
            return f"{file}::{type(test).__qualname__}"
    return ""


def flat(suite: Any) -> Iterator[unittest.TestCase]:
    """Yield all tests of a suite of suites."""
    try:
        inner = iter(suite)
    except TypeError:
        yield suite
        return
    for each in inner:
        yield from flat(each)


def is_stand_in(test: unittest.TestCase) -> bool:
    """Say whether unittest made it up for a module that it could not load."""
    return type(test).__name__ in {"_FailedTest", "ModuleSkipped"}


def last_line(text: str) -> str:
    """Return the last line that says anything."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
