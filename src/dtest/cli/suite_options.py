"""What ``dtest test`` can be told besides the tests themselves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dtest.caller.suite_settings import Limits
from dtest.cli.reports import check_writable
from dtest.reports.form import Format


@Parameter(name="*", group="Selection")
@dataclass(frozen=True, slots=True)
class Selection:
    """Which tests, and which of them first."""

    keyword: Annotated[str | None, Parameter(name=["--keyword", "-k"])] = None
    """Only tests whose names match the expression."""
    marker: Annotated[str | None, Parameter(name=["--marker", "-m"])] = None
    """Only tests whose markers match the expression."""
    last_failed: Annotated[bool, Parameter(name=["--last-failed", "--lf"], negative="")] = False
    """Only tests that failed when they last ran here; all, if none did."""
    failed_first: Annotated[bool, Parameter(name=["--failed-first", "--ff"], negative="")] = False
    """All tests, those that failed when they last ran here first."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What pytest is told."""
        keyword = ("-k", self.keyword) if self.keyword else ()
        return (*keyword, *(("-m", self.marker) if self.marker else ()))


@Parameter(name="*", group="Limits")
@dataclass(frozen=True, slots=True)
class Bounds:
    """How long, how much, how often."""

    timeout: float | None = None
    """Longest wait for the whole run in seconds; then it is cancelled and the exit code is 6, or 8
    if no worker can ever run the rest."""
    test_timeout: float | None = None
    """Longest time of one test in seconds: it is ended and named, the others run on."""
    memory_limit: float | None = None
    """Most memory of a session in GB (10^9 bytes): the test that runs then is ended and named."""
    maxfail: int | None = None
    """Cancel the run after so many failures; by default what the suite's own settings say."""
    exitfirst: Annotated[bool, Parameter(name=["--exitfirst", "-x"], negative="")] = False
    """Cancel the run after the first failure."""
    reruns: int | None = None
    """Run what failed again, so often, each time in a new process. What passes then is flaky. By
    default 0."""
    fail_unmatched: Annotated[bool, Parameter(negative="")] = False
    """Cancel the run with exit code 8 when a session waits that no worker could ever run, or tests
    ask for what none has."""

    @property
    def failures_max(self) -> int | None:
        """How many failures end the run; none for what the suite says."""
        return 1 if self.exitfirst else self.maxfail

    @property
    def limits(self) -> Limits:
        """The same, as a caller hands it in."""
        return Limits(
            self.timeout,
            self.test_timeout,
            self.memory_limit,
            self.failures_max,
            self.reruns,
            self.fail_unmatched,
        )


@Parameter(name="*", group="Reports")
@dataclass(frozen=True, slots=True)
class ReportFiles:
    """What is written at the end, and what is forgiven."""

    junit: Path | None = None
    """Write a JUnit XML report to this file."""
    ctrf: Path | None = None
    """Write a CTRF report (JSON) to this file."""
    html: Path | None = None
    """Write a report as one HTML page to this file."""
    markdown: Path | None = None
    """Write a summary in Markdown to this file."""
    durations: int = 0
    """Show so many of the slowest tests."""
    known_flaky: Path | None = None
    """The list of known flaky tests; by default `dtest-known-flaky.toml` here or further up."""

    @property
    def files(self) -> list[tuple[Path, Format, str]]:
        """Each file with its form and the option that names it."""
        stated: list[tuple[Path | None, Format, str]] = [
            (self.junit, "junit", "--junit"),
            (self.ctrf, "ctrf", "--ctrf"),
            (self.html, "html", "--html"),
            (self.markdown, "md", "--markdown"),
        ]
        return [(path, form, option) for path, form, option in stated if path is not None]

    def check(self) -> None:
        """Raise UsageError for a file that could not be written, before anything runs."""
        for path, _, option in self.files:
            check_writable(path, option)


EVERYTHING = Selection()
UNBOUND = Bounds()
NO_FILES = ReportFiles()
