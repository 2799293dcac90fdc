"""Which test runner a task's tests run by: part of its ``config``."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from dtest.events.environment import Argument
from dtest.events.fields import TOKEN_PATTERN


@dataclass(frozen=True, slots=True)
class Runner:
    """A runner other than pytest, and what it is given."""

    name: Annotated[str, Field(pattern=TOKEN_PATTERN)]
    """`unittest`, `gtest`, `ctest`, `go`, or `command` for any other"""
    arguments: Annotated[tuple[Argument, ...], Field(max_length=1_000)] = ()
    """Its options; of `command`, the words of the command"""
    results: Annotated[str, Field(min_length=1, max_length=4_096)] | None = None
    """Pattern of the files that a command writes its results to, relative to `cwd`; by default it
    writes them to standard output"""

    def __post_init__(self) -> None:
        """Raise ValueError for what contradicts itself."""
        if self.name == "command" and not self.arguments:
            message = "the runner `command` needs arguments: the words of the command"
            raise ValueError(message)
        if self.name != "command" and self.results is not None:
            message = f"results are for a command; the runner {self.name} has its own"
            raise ValueError(message)
