"""Where a test stands in its file: what makes it the same test in another process.

A node id is only its name. Several tests may have one, every process may make new ones, and it may
hold a whole document. So a test is known by its file, its function, and its index among the tests
of that function before anybody chooses among them. Names are looked at where they help: if a
function has the same names as in the plan, but in another order, they say which is which.

Names of tests come from pytest or from unittest; this imports neither.
PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Generic, Iterable, TypeVar

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
NAME_CHARS_MAX = 200
"""Of the name that stands in a plan; of a longer one it is the beginning and a digest."""
ID_CHARS_MAX = 200_000
"""Of a node id: an event has to fit into a message. Of a longer one, beginning and digest."""

Test = TypeVar("Test")


@dataclass(frozen=True)
class Place:
    """Where a test stands."""

    function: str
    """Class and function without parameters, within the file."""
    index: int
    """Among the tests of that function, in the order of collection."""
    count: int
    """How many tests the function has."""
    names: str
    """Digest of the names of all of them; empty where there is only one."""


class Missing(Exception):
    """No test stands there; the text says what was found in its place."""


class Places(Generic[Test]):
    """All tests that were collected, by file and function."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], list[tuple[Test, str]]] = {}
        self._of: dict[int, tuple[str, str, int]] = {}
        self._digests: dict[tuple[str, str], str] = {}

    def add(self, test: Test, *, file: str, function: str, name: str) -> None:
        """Take a test, in the order of collection; one that is known already stays where it is."""
        if id(test) in self._of:
            return
        file, function = writable(file), writable(function)
        group = self._groups.setdefault((file, function), [])
        self._of[id(test)] = (file, function, len(group))
        group.append((test, brief(name)))
        self._digests.pop((file, function), None)

    def of(self, test: Test) -> tuple[str, Place]:
        """Return the file of a test, and its place there."""
        file, function, index = self._of[id(test)]
        count = len(self._groups[file, function])
        return file, Place(function, index, count, self._digest(file, function))

    def of_file(self, file: str) -> list[Test]:
        """Return all tests of a file, those of each function together."""
        groups = (group for (name, _), group in self._groups.items() if name == file)
        return [test for group in groups for test, _ in group]

    def find(self, file: str, place: Place, name: str) -> Test:
        """Return the test of a plan. Raises Missing if what was collected here is not alike."""
        group = self._groups.get((file, place.function), [])
        if len(group) != place.count:
            raise Missing(
                f"the tests differ between processes: {place.function or file} has "
                f"{len(group)} tests here, {place.count} where the suite was collected"
            )
        test, found = group[place.index]
        alone = place.count == 1
        if alone or found == name or self._digest(file, place.function) != place.names:
            return test  # or names are new in each process
        alike = [test for test, found in group if found == name]
        if len(alike) != 1:
            raise Missing(
                f"the tests differ between processes: {place.function or file} has its "
                f"tests in another order here, and {len(alike)} of them have the same name"
            )
        return alike[0]

    def _digest(self, file: str, function: str) -> str:
        known = self._digests.get((file, function))
        if known is None:
            group = self._groups[file, function]
            known = digest(name for _, name in group) if len(group) > 1 else ""
            self._digests[file, function] = known
        return known


def digest(names: Iterable[str]) -> str:
    """Return what says whether two functions have the same names, in whatever order."""
    made = hashlib.blake2b(digest_size=8)
    for name in sorted(names):
        made.update(name.encode() + b"\0")
    return made.hexdigest()


def brief(name: str, chars_max: int = NAME_CHARS_MAX) -> str:
    """Return a name, or of a long one the beginning and a digest: two long ones stay two."""
    name = writable(name)
    if len(name) <= chars_max:
        return name
    told = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name[: chars_max - len(told) - 1]}#{told}"


def writable(text: str) -> str:
    """Return a text without halves of pairs of surrogates: no document could hold them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def place_in(test: dict[str, Any]) -> Place:
    """Return the place that a planned test names."""
    return Place(test["function"], test["index"], test["count"], test["names"])
