"""Units of tests: what a queue hands out to one session at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from dtest.errors import InvalidDocument
from dtest.events.problem import explain

TESTS_MAX = 2_000
"""Of one unit: its document has to fit into a message."""
TEST_S = 0.001
"""Seconds that a test costs besides its own time."""
UNKNOWN_S = 0.005
"""Seconds that a test is taken to need of which nothing is known."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,400}$")]


@dataclass(frozen=True, slots=True)
class Part:
    """Tests of one file."""

    file: Annotated[str, Field(min_length=1, max_length=4_096)]
    """Relative to pytest's root directory, as in a node id."""
    tests: Annotated[tuple[tuple[int, str], ...], Field(max_length=TESTS_MAX)] | None = None
    """Place in the file and node id of each; none for the whole file."""
    together: bool = False
    """They share dear fixtures and are not to be parted."""
    seconds: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(max_length=TESTS_MAX)] = ()
    """How long each test will probably take; nothing where nothing is known."""


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

    Whole files and tests that belong together stay in one.
    """
    pieces = pieces_of(unit)
    count = max(1, min(count, len(pieces)))
    total_s = sum(map(expected_s, pieces))
    made: list[list[Part]] = [[] for _ in range(count)]
    reached_s = 0.0
    for piece in pieces:
        made[min(count - 1, int(reached_s * count / total_s))].append(piece)
        reached_s += expected_s(piece)
    made = [parts for parts in made if parts]
    seconds = unit.seconds / len(made)
    return [
        Unit(f"{unit.id}.{number}", joined(parts), seconds) for number, parts in enumerate(made)
    ]


def pieces_of(unit: Unit) -> list[Part]:
    """Cut a unit as small as may be: into tests, whole files, and tests that belong together."""
    return [piece for part in unit.parts for piece in _parted(part)]


def _parted(part: Part) -> list[Part]:
    if part.tests is None or part.together:
        return [part]
    known = part.seconds if len(part.seconds) == len(part.tests) else ()
    return [
        replace(part, tests=(test,), seconds=known[place : place + 1])
        for place, test in enumerate(part.tests)
    ]


def weight(part: Part) -> int:
    """Count the tests; a whole file counts as one."""
    return len(part.tests) if part.tests else 1


def expected_s(part: Part) -> float:
    """Return how many seconds a part will probably take, never 0; what is not known, as a guess."""
    if part.tests is None or len(part.seconds) != len(part.tests):
        return UNKNOWN_S * weight(part)
    return sum(part.seconds) + TEST_S * weight(part)


def joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Make one part again of neighbours from the same file."""
    made: list[Part] = []
    for part in parts:
        last = made[-1] if made else None
        if (
            last is not None
            and last.tests is not None
            and part.tests is not None
            and (last.file, last.together, part.together) == (part.file, False, False)
        ):
            made[-1] = replace(
                last, tests=(*last.tests, *part.tests), seconds=(*last.seconds, *part.seconds)
            )
        else:
            made.append(part)
    return tuple(made)
