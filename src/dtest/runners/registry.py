"""All runners by name, and what a caller means by `--runner`."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from dtest.errors import UsageError
from dtest.runners.case import Adapter
from dtest.runners.command import RESULTS, Command
from dtest.runners.ctest import CTest
from dtest.runners.go import Go
from dtest.runners.gtest import GoogleTest
from dtest.runners.results import FORMS

PYTEST = "pytest"
UNITTEST = "unittest"
"""These two have sessions of their own, in the interpreter of the tests."""
COMMAND = "command"
ADAPTERS: dict[str, Adapter] = {
    COMMAND: Command(),
    "ctest": CTest(),
    "go": Go(),
    "gtest": GoogleTest(),
}
NAMES = (PYTEST, UNITTEST, *sorted(set(ADAPTERS) - {COMMAND}))
"""What `--runner` takes besides a command."""


class Chosen(NamedTuple):
    """A runner and what it is given."""

    name: str
    arguments: tuple[str, ...] = ()

    def told(self, words: Sequence[str]) -> "Chosen":
        """Return the same runner with more words for it."""
        return Chosen(self.name, (*self.arguments, *words))

    @property
    def has_known_tests(self) -> bool:
        """Say whether its tests are known by name before they run."""
        return self.name in {PYTEST, UNITTEST, "ctest", "gtest"}


def chosen(text: str) -> Chosen:
    """Read the text of `--runner`: a name with options, or a command. Raises UsageError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        message = f"--runner {text!r} cannot be read: {error}"
        raise UsageError(message) from error
    if not words:
        message = "--runner names no runner"
        raise UsageError(message, hint=_known())
    name, rest = words[0], tuple(words[1:])
    if name in NAMES and all(word.startswith("-") for word in rest[:1]):
        return Chosen(name, rest)
    if not rest and "/" not in name:
        message = f"there is no runner {name!r}"
        raise UsageError(message, hint=_known())
    return Chosen(COMMAND, tuple(words))


def _known() -> str:
    return (
        f"there are {', '.join(NAMES)}; or give a command that writes {', '.join(FORMS)} "
        f"to standard output, to --results FILE, or to {RESULTS}"
    )


def adapter(name: str) -> Adapter:
    """Return a runner by its name. Raises UsageError."""
    try:
        return ADAPTERS[name]
    except KeyError:
        message = f"there is no runner {name!r}"
        raise UsageError(message, hint=_known()) from None
