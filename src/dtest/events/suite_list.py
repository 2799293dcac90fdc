"""Lists of tests: what a suite holds, as it was collected."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dtest.events.environment import Digest
from dtest.events.fields import Count, Ordinal


@dataclass(frozen=True, slots=True)
class Marks:
    """What marks say of a test."""

    names: tuple[str, ...] = ()
    """Of all markers but pytest's own and ``dtest``, sorted."""
    asked: tuple[tuple[list[Any], dict[str, Any]], ...] = ()
    """Arguments and keywords of each mark ``dtest``, the one nearest to the test first."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function whose tests differ in their parameters; or one of a kind that is no function."""

    file: str
    name: str
    """With its class, without parameters."""
    count: Count
    """How many tests it has, before anybody chooses among them."""
    names: str
    """Digest of their names."""


@dataclass(frozen=True, slots=True)
class ListPart:
    """Some of a list, all in the order of collection, which numbers tests and whole files."""

    parts: Ordinal
    """How many parts the list has."""
    tests: tuple[tuple[str, str], ...]
    """Node id of each, and the group of tests that it has to stay together with."""
    broken: tuple[str, ...] = ()
    """Files that cannot be collected, and node ids of no test."""
    skipped: tuple[str, ...] = ()
    """Files that skip themselves as a whole."""
    failures_max: Count = 0
    """What the suite's own settings say of ``--maxfail``; 0 for no limit."""
    whole: tuple[str, ...] = ()
    """Files whose tests are not known before they run."""
    marks: tuple[Marks, ...] = ()
    """The distinct sets of marks."""
    marked: tuple[Count, ...] = ()
    """Which of them each test has; nothing where no test has any."""
    functions: tuple[Function, ...] = ()
    """Of the tests; none where the runner knows them by name."""
    places: tuple[tuple[Count, Count, str], ...] = ()
    """Function of each test, its index there, and its brief name if its node id is long."""
    notes: tuple[str, ...] = ()
    """What the session has to say of options that it does not follow."""

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that name nothing."""
        if self.marked and len(self.marked) != len(self.tests):
            message = f"marked has {len(self.marked)} numbers for {len(self.tests)} tests"
            raise ValueError(message)
        if any(number >= len(self.marks) for number in self.marked):
            message = f"marked names more than {len(self.marks)} sets of marks"
            raise ValueError(message)
        if self.places and len(self.places) != len(self.tests):
            message = f"places has {len(self.places)} places for {len(self.tests)} tests"
            raise ValueError(message)
        if any(function >= len(self.functions) for function, _, _ in self.places):
            message = f"places names more than {len(self.functions)} functions"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class SuiteListed:
    """A part of a list of tests. Equal lists are told once; runs refer to them by their digest."""

    TYPE: ClassVar[str] = "suite.listed"

    digest: Digest
    """SHA-256 of the parts, each as compact JSON in the order of its fields."""
    part: Count
    content: ListPart

    @property
    def entity_id(self) -> str:
        """The list."""
        return self.digest
