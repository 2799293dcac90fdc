"""What runners are asked and what they answer, whatever they are called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Outcome = Literal["passed", "failed", "skipped", "xfailed", "xpassed", "error"]
BAD: frozenset[str] = frozenset({"failed", "error"})
MESSAGE_CHARS_MAX = 1_000
OUTPUT_CHARS_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Order:
    """What the caller of a runner asks for."""

    arguments: tuple[str, ...] = ()
    """Of the runner; where any command will do, the command itself."""
    paths: tuple[str, ...] = ()
    """What it is to test: programs, directories, packages, whatever the runner calls it."""
    results: str | None = None
    """Pattern of the files that the command writes its results to; none for standard output."""
    test_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One test and its verdict."""

    name: str
    """Within what was run: a node id is that, ``::`` and this."""
    outcome: Outcome
    message: str = ""
    """One line."""
    output: str = ""
    duration_s: float = 0.0
    file: str = ""
    """Of its source, if the runner says so."""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the results of one process say."""

    cases: tuple[Case, ...] = ()
    problem: str = ""
    """Why they do not tell all, if so; what they do tell still counts."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One process that ran to its end."""

    exit_code: int
    """Negative for a signal."""
    output: bytes = b""
    """What it wrote to standard output, if that was wanted."""
    results: tuple[tuple[str, bytes], ...] = ()
    """Name and content of each file of results that it wrote."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What there is to run."""

    tests: tuple[tuple[str, str, str], ...] = ()
    """Of each test: the target that holds it, its name there, and the group that it has to stay
    together with, or none."""
    whole: tuple[str, ...] = ()
    """Targets whose tests are not known before they run."""
    problem: str = ""
    """Why this cannot be tested."""


class Progress(Protocol):
    """Follows a process by what it writes."""

    def feed(self, data: bytes) -> None:
        """Take what was written next."""
        ...

    def running(self) -> str | None:
        """Name the test that has started and not ended."""
        ...

    def said(self) -> str:
        """Return what was written since that test started."""
        ...

    def cases(self) -> tuple[Case, ...]:
        """Return the tests that have ended."""
        ...


class Adapter(Protocol):
    """One runner."""

    listed_by: Literal["command", "paths"]
    """Who says what there is to run: a command for each path, or the caller."""
    writes_results: bool
    """It is told a file for its results; else they are on standard output, or where the order
    says."""
    limits_tests: bool
    """It holds tests to their time limit itself."""
    tests_max: int
    """How many tests one process may be asked for."""

    def targets(self, order: Order) -> Listing:
        """Return what the caller names, where no command has to be asked."""
        ...

    def list_command(self, order: Order, path: str) -> tuple[str, ...]:
        """Return what lists the tests of a path."""
        ...

    def listed(self, order: Order, path: str, ended: Ended) -> Listing:
        """Read what that said."""
        ...

    def command(
        self, order: Order, target: str, names: Sequence[str] | None, results: str
    ) -> tuple[str, ...]:
        """Return what runs these tests of a target, or all of it."""
        ...

    def progress(self) -> Progress | None:
        """Return what follows one process; none where nothing is known before its end."""
        ...

    def blamed(self, left: Sequence[str]) -> Sequence[str]:
        """Return which tests a process has failed that ended before it ran any of these."""
        ...

    def read(
        self, order: Order, names: Sequence[str] | None, ended: Ended, progress: Progress | None
    ) -> Reading:
        """Read the results."""
        ...


def one_line(text: str) -> str:
    """Return the first line that says anything, short enough for a list."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= MESSAGE_CHARS_MAX else line[: MESSAGE_CHARS_MAX - 3] + "..."


def bounded(text: str) -> str:
    """Return the text itself, or its head and tail around a note of how much is missing."""
    if len(text) <= OUTPUT_CHARS_MAX:
        return text
    half = OUTPUT_CHARS_MAX // 2 - 32
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def seconds(text: str | None) -> float:
    """Read a duration as reports state it: ``1,234.5`` too; 0 for what is none."""
    try:
        value = float((text or "0").replace(",", ""))
    except ValueError:
        return 0.0
    return value if 0 <= value < float("inf") else 0.0


def count(text: str | None) -> int | None:
    """Read a whole number, none for what is none."""
    return int(text) if text and text.isascii() and text.isdigit() else None
