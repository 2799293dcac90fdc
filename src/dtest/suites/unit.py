"""Units of tests: what a queue hands out to one session at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import Annotated, ClassVar

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from dtest.errors import InvalidDocument
from dtest.events.problem import explain

TESTS_MAX = 2_000
"""Of one unit."""
UNIT_BYTES_MAX = 400_000
"""Of the documents of all its tests: it has to fit into a message."""
TEST_S = 0.001
"""Seconds that a test costs besides its own time."""
UNKNOWN_S = 0.005
"""Seconds that a test is taken to need of which nothing is known."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,400}$")]
Text = Annotated[str, Field(max_length=4_096)]


@dataclass(frozen=True, slots=True)
class Test:
    """One test of a plan: its number, and where it stands in its file.

    A session finds it by its place. Its name, which may be new in each process, only helps.
    """

    __test__: ClassVar[bool] = False  # pytest must not take the class for a test

    number: Annotated[int, Field(ge=0)] | None = None
    """In the plan; none for a test that became known by running."""
    function: Text = ""
    """Class and function without parameters, within the file."""
    index: Annotated[int, Field(ge=0)] = 0
    """Among the tests of that function, in the order of collection."""
    count: Annotated[int, Field(ge=0)] = 1
    """How many tests the function has."""
    names: Text = ""
    """Digest of the names of all of them."""
    name: Text = ""
    """Its node id; of a long one, the beginning and a digest."""

    @property
    def size_bytes(self) -> int:
        """About as much as its document takes."""
        return 100 + len(self.function) + len(self.name.encode())


@dataclass(frozen=True, slots=True)
class Part:
    """Tests of one file."""

    file: Annotated[str, Field(min_length=1, max_length=4_096)]
    """Relative to pytest's root directory, as in a node id."""
    tests: Annotated[tuple[Test, ...], Field(max_length=TESTS_MAX)] | None = None
    """None for the whole file."""
    group: Text = ""
    """Neighbouring parts of one group are not to be torn apart: they share dear fixtures, or the
    suite asks for one process. Empty for none."""
    seconds: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(max_length=TESTS_MAX)] = ()
    """How long each test will probably take; nothing where nothing is known."""


Piece = tuple[Part, ...]
"""What goes to one session as a whole."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one session takes at a time."""

    id: Name
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=TESTS_MAX)]
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """How long it will probably take."""


@cache
def _unit_adapter() -> TypeAdapter[Unit]:
    """Built when it is first used: a short call of the command line may never use it."""
    return TypeAdapter(Unit)


def encode(unit: Unit) -> bytes:
    """Write a unit as the document that sessions read."""
    return orjson.dumps(unit)


def decode(body: bytes) -> Unit:
    """Read a unit. Raises InvalidDocument."""
    try:
        return _unit_adapter().validate_json(body)
    except ValidationError as error:
        message = f"this is no unit of tests: {explain(error)}"
        raise InvalidDocument(message) from error


def split(unit: Unit, count: int) -> list[Unit]:
    """Cut a unit into at most so many that take about the same time, in their order.

    Whole files and tests that belong together stay in one. Equal names stand for equal tests: a
    queue takes no name twice.
    """
    pieces = pieces_of(unit)
    count = max(1, min(count, len(pieces)))
    total_s = sum(map(expected_s, pieces))
    made: list[list[Piece]] = [[] for _ in range(count)]
    reached_s = 0.0
    for piece in pieces:
        made[min(count - 1, int(reached_s * count / total_s))].append(piece)
        reached_s += expected_s(piece)
    filled = [(number, pieces) for number, pieces in enumerate(made) if pieces]
    seconds = unit.seconds / len(filled)
    return [
        Unit(f"{unit.id}.{number}of{count}", joined(pieces), seconds) for number, pieces in filled
    ]


def pieces_of(unit: Unit) -> list[Piece]:
    """Cut a unit as small as may be: into tests, whole files, and tests that belong together."""
    pieces: list[Piece] = []
    for part in unit.parts:
        if part.group and pieces and pieces[-1][-1].group == part.group:
            pieces[-1] = (*pieces[-1], part)
        elif part.group or part.tests is None:
            pieces.append((part,))
        else:
            known = part.seconds if len(part.seconds) == len(part.tests) else ()
            pieces += (
                (replace(part, tests=(test,), seconds=known[place : place + 1]),)
                for place, test in enumerate(part.tests)
            )
    return pieces


def weight(piece: Piece) -> int:
    """Count the tests; a whole file counts as one."""
    return sum(len(part.tests) if part.tests else 1 for part in piece)


def expected_s(piece: Piece) -> float:
    """Return how many seconds a piece will probably take, never 0; a guess for what is unknown."""
    return sum(map(_part_s, piece))


def _part_s(part: Part) -> float:
    if part.tests is None or len(part.seconds) != len(part.tests):
        return UNKNOWN_S * (len(part.tests) if part.tests else 1)
    return sum(part.seconds) + TEST_S * max(1, len(part.tests))


def joined(pieces: Iterable[Piece]) -> tuple[Part, ...]:
    """Make one part again of neighbours from the same file."""
    made: list[list[Part]] = []
    for part in chain.from_iterable(pieces):
        last = made[-1][0] if made else None
        if (
            last is not None
            and last.tests is not None
            and part.tests is not None
            and (last.file, last.group) == (part.file, part.group)
        ):
            made[-1].append(part)
        else:
            made.append([part])
    return tuple(_merged(parts) for parts in made)


def _merged(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    tests = tuple(test for part in parts for test in part.tests or ())
    seconds = tuple(taken for part in parts for taken in part.seconds)
    return replace(parts[0], tests=tests, seconds=seconds if len(seconds) == len(tests) else ())
