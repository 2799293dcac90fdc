"""What a suite holds, as the session that collected it says."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import orjson
from pydantic import TypeAdapter, ValidationError

from dtest.errors import InvalidDocument
from dtest.events import codec

TESTS_AT_ONCE = 2_000
"""Of one document: it has to fit into a message."""


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
        return replace(self, tests=tuple(test for test in self.tests if test[0] in nodeids))

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
        return [
            orjson.dumps(
                _Document(
                    len(firsts),
                    self.tests[first : first + TESTS_AT_ONCE],
                    *(
                        (self.broken, self.skipped, self.failures_max, self.whole)
                        if not first
                        else ()
                    ),
                )
            )
            for first in firsts
        ]


@dataclass(frozen=True, slots=True)
class _Document:
    parts: int
    tests: tuple[tuple[str, str], ...]
    broken: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failures_max: int = 0
    whole: tuple[str, ...] = ()


_DOCUMENT: TypeAdapter[_Document] = TypeAdapter(_Document)


def parts_of(first: bytes) -> int:
    """Return how many documents a suite has, by the first. Raises InvalidDocument."""
    return _read(first).parts


def joined(documents: Sequence[bytes]) -> Suite:
    """Put all documents of a suite together. Raises InvalidDocument."""
    read = [_read(document) for document in documents]
    first = read[0]
    tests = tuple(test for document in read for test in document.tests)
    return Suite(tests, first.broken, first.skipped, first.failures_max, first.whole)


def _read(document: bytes) -> _Document:
    try:
        return _DOCUMENT.validate_json(document)
    except ValidationError as error:
        message = f"this says nothing of a suite: {codec.explain(error)}"
        raise InvalidDocument(message) from error
