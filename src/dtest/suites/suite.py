"""What a suite holds, as the session that collected it says."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from dtest.errors import InvalidDocument
from dtest.events.problem import explain
from dtest.events.suite_list import Function, ListPart, Marks
from dtest.suites.unit import Test

TESTS_AT_ONCE = 2_000
"""Of one document."""
DOCUMENT_BYTES_MAX = 500_000
"""Of one document, about: it has to fit into a message."""
TEST_BYTES = 40
"""What a test takes there besides its names, and the numbers that refer to marks and functions."""


class _Names(NamedTuple):
    """What a list holds besides tests."""

    broken: tuple[str, ...]
    skipped: tuple[str, ...]
    whole: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests in the order of collection, which numbers them."""

    tests: tuple[tuple[str, str], ...] = ()
    """Node id of each, and the group of tests that it has to stay together with."""
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
    functions: tuple[Function, ...] = ()
    """Of the tests; none where the runner knows them by name."""
    places: tuple[tuple[int, int, str], ...] = ()
    """Function of each test, its index there, and its brief name if its node id is long."""
    notes: tuple[str, ...] = ()
    """What the session has to say of options that it does not follow."""
    numbers: tuple[int, ...] = ()
    """Number of each test, where some of those collected are left out; else its position."""

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing at all."""
        return not (self.tests or self.broken or self.skipped or self.whole)

    @property
    def files(self) -> set[str]:
        """All files."""
        named = {self.file_at(place) for place in range(len(self.tests))}
        others = (*self.broken, *self.skipped, *self.whole)
        return named | {name.partition("::")[0] for name in others}

    def number_at(self, place: int) -> int:
        """Return the number of the test at a position."""
        return self.numbers[place] if self.numbers else place

    def file_at(self, place: int) -> str:
        """Return the file that a test was collected from."""
        if self.places:
            return self.functions[self.places[place][0]].file
        return self.tests[place][0].partition("::")[0]

    def test_at(self, place: int) -> Test:
        """Return the test at a position as a session is told of it."""
        number, nodeid = self.number_at(place), self.tests[place][0]
        if not self.places:
            return Test(number, name=nodeid)
        function, index, name = self.places[place]
        of = self.functions[function]
        return Test(number, of.name, index, of.count, of.names, name or nodeid)

    def keys(self) -> Iterator[tuple[str, str]]:
        """Yield what names each test in other runs: by its node id, and by its place.

        The k-th of equal ids has a key of its own. Where ids are new in each run the place counts.
        """
        equal: Counter[str] = Counter()
        for place, (nodeid, _) in enumerate(self.tests):
            equal[nodeid] += 1
            yield key_of(nodeid, equal[nodeid]), self._place_key(place)

    def _place_key(self, place: int) -> str:
        if not self.places:
            return ""
        function, index, _ = self.places[place]
        of = self.functions[function]
        return f"{of.file}::{of.name} @{index}"

    def only(self, wanted: Callable[[int], bool]) -> "Suite":
        """Return it with none but the tests at positions that are wanted."""
        kept = [place for place in range(len(self.tests)) if wanted(place)]
        return replace(
            self,
            tests=tuple(self.tests[place] for place in kept),
            marked=tuple(self.marked[place] for place in kept) if self.marked else (),
            places=tuple(self.places[place] for place in kept) if self.places else (),
            numbers=tuple(self.number_at(place) for place in kept),
        )

    def with_tests_of(self, other: "Suite") -> "Suite":
        """Return it with those tests of another one that it does not hold itself.

        They get the numbers that follow.
        """
        known = set(self.keys())
        theirs = list(other.keys())
        fresh = other.only(lambda place: theirs[place] not in known)
        if not fresh.tests:
            return replace(self, whole=tuple(dict.fromkeys((*self.whole, *other.whole))))
        first = 1 + max((self.number_at(place) for place in range(len(self.tests))), default=-1)
        own_numbers = [self.number_at(place) for place in range(len(self.tests))]
        numbers = (*own_numbers, *range(first, first + len(fresh.tests)))
        shift = len(self.functions)
        places = tuple((function + shift, *rest) for function, *rest in fresh.places)
        made = replace(
            self,
            tests=(*self.tests, *fresh.tests),
            whole=tuple(dict.fromkeys((*self.whole, *other.whole))),
            functions=(*self.functions, *fresh.functions),
            places=(*self.places, *places),  # type: ignore[arg-type] # three of them again
            numbers=numbers,
        )
        if not (self.marked or fresh.marked):
            return made
        first_mark = 1 + len(self.marks)
        own = [1 + number for number in self.marked] or [0] * len(self.tests)
        marked = [first_mark + number for number in fresh.marked] or [0] * len(fresh.tests)
        marks = (NO_MARKS, *self.marks, *fresh.marks)
        return replace(made, marks=marks, marked=(*own, *marked))

    def marks_at(self, place: int) -> Marks:
        """Return the marks of the test at a place in the suite."""
        return self.marks[self.marked[place]] if self.marked else NO_MARKS

    def documents(self) -> list[bytes]:
        """Return it in parts, as documents; each says how many there are."""
        return [orjson.dumps(part) for part in self.parts()]

    def parts(self) -> list[ListPart]:
        """Return it in parts that fit into a message each."""
        *before, head = self._heads()
        spans = list(self._spans(sum(map(_size, chain.from_iterable(head)))))
        parts = len(before) + len(spans)
        bare = [ListPart(parts, (), **names._asdict()) for names in before]
        told = [
            self._part(span, parts, head if not place else None) for place, span in enumerate(spans)
        ]
        made = [*bare, *told]
        return [replace(made[0], failures_max=self.failures_max), *made[1:]]

    def _heads(self) -> Iterator[_Names]:
        """Yield what is told besides tests, as much at a time as fits into a document."""
        named = [(place, name) for place, names in enumerate(self._names) for name in names]
        found: list[list[str]] = [[] for _ in self._names]
        size = 0
        for place, name in named:
            more = _size(name)
            if size and size + more > DOCUMENT_BYTES_MAX:
                yield _Names(*map(tuple, found))
                found, size = [[] for _ in self._names], 0
            found[place].append(name)
            size += more
        yield _Names(*map(tuple, found))

    @property
    def _names(self) -> _Names:
        return _Names(self.broken, self.skipped, self.whole, self.notes)

    def _spans(self, size: int) -> Iterator[range]:
        """Yield which tests stand in one document each; ``size`` bytes of the first are taken."""
        first, marks, functions = 0, set[int](), set[int]()
        for place in range(len(self.tests)):
            more = self._test_size(place, marks, functions)
            full = place - first >= TESTS_AT_ONCE or size + more > DOCUMENT_BYTES_MAX
            if place > first and full:
                yield range(first, place)
                first, size = place, 0
                marks.clear()
                functions.clear()
                more = self._test_size(place, marks, functions)
            size += more
            if self.marked:
                marks.add(self.marked[place])
            if self.places:
                functions.add(self.places[place][0])
        yield range(first, len(self.tests))

    def _test_size(self, place: int, marks: set[int], functions: set[int]) -> int:
        """Return about what a test adds to a document that tells these marks and functions."""
        nodeid, group = self.tests[place]
        size = TEST_BYTES + _size(nodeid) + _size(group)
        if self.marked and self.marked[place] not in marks:
            size += len(orjson.dumps(self.marks[self.marked[place]]))
        if self.places:
            function, _, name = self.places[place]
            size += _size(name)
            if function not in functions:
                size += len(orjson.dumps(self.functions[function]))
        return size

    def _part(self, span: range, parts: int, names: _Names | None) -> ListPart:
        """Return the part that holds these tests, with what is about them, and these names."""
        of_part = self.marked[span.start : span.stop]
        marks = _Used(of_part)
        places = self.places[span.start : span.stop]
        functions = _Used([function for function, _, _ in places])
        return ListPart(
            parts,
            self.tests[span.start : span.stop],
            marks=tuple(self.marks[mark] for mark in marks.used),
            marked=tuple(marks.place[mark] for mark in of_part),
            functions=tuple(self.functions[function] for function in functions.used),
            places=tuple(
                (functions.place[function], index, name) for function, index, name in places
            ),
            **(names._asdict() if names is not None else {}),
        )


def _size(name: str) -> int:
    """Return how many bytes a name takes in a document, with quotes and comma."""
    return len(orjson.dumps(name)) + 1


class _Used:
    """Which entries of a table are referred to, numbered anew."""

    def __init__(self, named: Sequence[int]) -> None:
        self.used = sorted(set(named))
        self.place = {number: place for place, number in enumerate(self.used)}


def key_of(nodeid: str, occurrence: int) -> str:
    """Return what names a test in other runs: its node id, and which of equal ones it is."""
    return nodeid if occurrence == 1 else f"{nodeid} #{occurrence}"


NO_MARKS = Marks()


@cache
def _document_adapter() -> TypeAdapter[ListPart]:
    """Built when it is first used: a short call of the command line may never use it."""
    return TypeAdapter(ListPart)


def parts_of(first: bytes) -> int:
    """Return how many documents a suite has, by the first. Raises InvalidDocument."""
    return _read(first).parts


def joined(documents: Sequence[bytes]) -> Suite:
    """Put all documents of a suite together. Raises InvalidDocument."""
    return joined_parts([_read(document) for document in documents])


def digest_of(parts: Iterable[ListPart]) -> str:
    """Return the digest by which equal lists are known."""
    found = hashlib.sha256()
    for part in parts:
        found.update(orjson.dumps(part))
    return found.hexdigest()


def joined_parts(read: Sequence[ListPart]) -> Suite:
    """Put all parts of a suite together."""
    first = read[0]
    tests = tuple(test for document in read for test in document.tests)
    marks: list[Marks] = []
    marked: list[int] = []
    functions: list[Function] = []
    places: list[tuple[int, int, str]] = []
    for document in read:
        marked += (len(marks) + number for number in document.marked)
        marks += document.marks
        places += ((len(functions) + number, *rest) for number, *rest in document.places)  # type: ignore[misc]
        functions += document.functions

    def all_of(field: str) -> tuple[str, ...]:
        return tuple(chain.from_iterable(getattr(document, field) for document in read))

    return Suite(
        tests,
        all_of("broken"),
        all_of("skipped"),
        first.failures_max,
        all_of("whole"),
        marks=tuple(marks),
        marked=tuple(marked),
        functions=tuple(functions),
        places=tuple(places),
        notes=all_of("notes"),
    )


def _read(document: bytes) -> ListPart:
    try:
        return _document_adapter().validate_json(document)
    except ValidationError as error:
        message = f"this says nothing of a suite: {explain(error)}"
        raise InvalidDocument(message) from error
