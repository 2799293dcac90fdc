"""What a suite holds, as the session that collected it says."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from dtest.errors import InvalidDocument
from dtest.events.problem import explain

TESTS_AT_ONCE = 2_000
"""Of one document: it has to fit into a message."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What marks say of a test."""

    names: tuple[str, ...] = ()
    """Of all markers but pytest's own and ``dtest``, sorted."""
    asked: tuple[tuple[list[Any], dict[str, Any]], ...] = ()
    """Arguments and keywords of each mark ``dtest``, the one nearest to the test first."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests in the order of collection."""

    tests: tuple[tuple[str, str], ...] = ()
    """Node id of each, and the group of tests that it shares dear fixtures with."""
    broken: tuple[str, ...] = ()
    """Files that cannot be collected, and node ids of no test; the session reports them."""
    skipped: tuple[str, ...] = ()
    """Files that skip themselves as a whole; the session reports them."""
    failures_max: int = 0
    """What the suite's own settings say of ``--maxfail``; 0 for no limit."""
    whole: tuple[str, ...] = ()
    """Files whose tests are not known before they run."""
    marks: tuple[Marks, ...] = ()
    """The distinct sets of marks."""
    marked: tuple[int, ...] = ()
    """Which of them each test has; nothing where no test has any."""

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing at all."""
        return not (self.tests or self.broken or self.skipped or self.whole)

    @property
    def files(self) -> set[str]:
        """All files."""
        named = (nodeid for nodeid, _ in self.tests)
        names = (*named, *self.broken, *self.skipped, *self.whole)
        return {name.partition("::")[0] for name in names}

    def only(self, nodeids: Collection[str]) -> "Suite":
        """Return it with none but these tests."""
        kept = [place for place, (nodeid, _) in enumerate(self.tests) if nodeid in nodeids]
        return replace(
            self,
            tests=tuple(self.tests[place] for place in kept),
            marked=tuple(self.marked[place] for place in kept) if self.marked else (),
        )

    def with_tests_of(self, other: "Suite") -> "Suite":
        """Return it with those tests of another one that it does not hold itself."""
        known = {nodeid for nodeid, _ in self.tests}
        fresh = other.only({nodeid for nodeid, _ in other.tests} - known)
        tests = (*self.tests, *fresh.tests)
        whole = tuple(dict.fromkeys((*self.whole, *other.whole)))
        if not (self.marked or fresh.marked):
            return replace(self, tests=tests, whole=whole)
        first = 1 + len(self.marks)
        own = [1 + number for number in self.marked] or [0] * len(self.tests)
        theirs = [first + number for number in fresh.marked] or [0] * len(fresh.tests)
        marks = (NO_MARKS, *self.marks, *fresh.marks)
        marked = (*own, *theirs)
        return replace(self, tests=tests, whole=whole, marks=marks, marked=marked)

    def marks_at(self, place: int) -> Marks:
        """Return the marks of the test at a place in the suite."""
        return self.marks[self.marked[place]] if self.marked else NO_MARKS

    def places(self) -> dict[str, int]:
        """Return the place of each test in its file."""
        counts: dict[str, int] = {}
        found: dict[str, int] = {}
        for nodeid, _ in self.tests:
            file = nodeid.partition("::")[0]
            found.setdefault(nodeid, counts.setdefault(file, 0))
            counts[file] += 1
        return found

    def documents(self) -> list[bytes]:
        """Return it in parts; each says how many there are."""
        firsts = range(0, max(1, len(self.tests)), TESTS_AT_ONCE)
        return [orjson.dumps(self._document(first, len(firsts))) for first in firsts]

    def _document(self, first: int, parts: int) -> "_Document":
        """Return the part that begins with a test; it holds the marks of its own tests."""
        of_part = self.marked[first : first + TESTS_AT_ONCE]
        used = sorted(set(of_part))
        numbers = {mark: number for number, mark in enumerate(used)}
        return _Document(
            parts,
            self.tests[first : first + TESTS_AT_ONCE],
            *(
                (self.broken, self.skipped, self.failures_max, self.whole)
                if not first
                else ((), (), 0, ())
            ),
            tuple(self.marks[mark] for mark in used),
            tuple(numbers[mark] for mark in of_part),
        )


NO_MARKS = Marks()


@dataclass(frozen=True, slots=True)
class _Document:
    parts: int
    tests: tuple[tuple[str, str], ...]
    broken: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failures_max: int = 0
    whole: tuple[str, ...] = ()
    marks: tuple[Marks, ...] = ()
    marked: tuple[Annotated[int, Field(ge=0)], ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that name nothing."""
        if self.marked and len(self.marked) != len(self.tests):
            message = f"marked has {len(self.marked)} numbers for {len(self.tests)} tests"
            raise ValueError(message)
        if any(number >= len(self.marks) for number in self.marked):
            message = f"marked names more than {len(self.marks)} sets of marks"
            raise ValueError(message)


@cache
def _document_adapter() -> TypeAdapter[_Document]:
    """Built when it is first used: a short call of the command line may never use it."""
    return TypeAdapter(_Document)


def parts_of(first: bytes) -> int:
    """Return how many documents a suite has, by the first. Raises InvalidDocument."""
    return _read(first).parts


def joined(documents: Sequence[bytes]) -> Suite:
    """Put all documents of a suite together. Raises InvalidDocument."""
    read = [_read(document) for document in documents]
    first = read[0]
    tests = tuple(test for document in read for test in document.tests)
    marks: list[Marks] = []
    marked: list[int] = []
    for document in read:
        marked += (len(marks) + number for number in document.marked)
        marks += document.marks
    told = first.broken, first.skipped, first.failures_max, first.whole
    return Suite(tests, *told, tuple(marks), tuple(marked))


def _read(document: bytes) -> _Document:
    try:
        return _document_adapter().validate_json(document)
    except ValidationError as error:
        message = f"this says nothing of a suite: {explain(error)}"
        raise InvalidDocument(message) from error
