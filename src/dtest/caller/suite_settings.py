"""What a team has written down for ``dtest test``: ``[tool.dtest.test]`` and its requirements.

The command line has the last word. What is unknown is refused, never passed over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dtest.errors import UsageError
from dtest.events.suite import RERUNS_MAX
from dtest.settings import Settings
from dtest.suites.rules import Rule, read_rules

TABLE = "test"
RULES = "requirements"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how much, how often."""

    timeout: float | None = None
    """Longest time of the whole run, seconds."""
    test_timeout: float | None = None
    """Longest time of one test, seconds."""
    memory_limit: float | None = None
    """Of a session, GB (10^9 bytes)."""
    failures_max: int | None = None
    """The run is cut after so many; none for what the suite says."""
    reruns: int | None = None
    """Of what failed; none for what the settings say."""
    fail_unmatched: bool = False

    def check(self, prefix: str = "--") -> None:
        """Raise UsageError for what makes no sense; ``prefix`` begins the names of options."""
        for option, value in (
            (f"{prefix}timeout", self.timeout),
            (f"{prefix}test-timeout", self.test_timeout),
            (f"{prefix}memory-limit", self.memory_limit),
            ("--maxfail", self.failures_max),
        ):
            if value is not None and value <= 0:
                message = f"{option} is {value}; it has to be above 0"
                raise UsageError(message)
        if not 0 <= (self.reruns or 0) <= RERUNS_MAX:
            message = f"{prefix}reruns is {self.reruns}; 0 to {RERUNS_MAX} are possible"
            raise UsageError(message)


@dataclass(frozen=True, slots=True)
class SuiteSettings:
    """Defaults of options, and what tests ask for."""

    workers: int | None = None
    python: str | None = None
    environment: dict[str, Any] | None = None
    on: str | None = None
    test_timeout: float | None = None
    memory_limit: float | None = None
    reruns: int | None = None
    keep: float | None = None
    """How long a cell stays that is made for a call, seconds."""
    rules: tuple[Rule, ...] = ()

    written_rules: tuple[dict[str, Any], ...] = ()
    """As they were written."""

    def bounded(self, limits: Limits) -> Limits:
        """Return the limits with what the command line leaves open."""
        return replace(
            limits,
            test_timeout=self.test_timeout if limits.test_timeout is None else limits.test_timeout,
            memory_limit=self.memory_limit if limits.memory_limit is None else limits.memory_limit,
            reruns=self.reruns if limits.reruns is None else limits.reruns,
        )


def suite_settings(settings: Settings) -> SuiteSettings:
    """Read the settings of the suite. Raises UsageError that names the file and the key."""
    table: Mapping[str, Any] = settings.tables.get(TABLE, {})
    origin = f"{settings.table_origins.get(TABLE, '')}: {TABLE}"
    unknown = next((key for key in table if key not in KINDS), None)
    if unknown is not None:
        message = f"{origin}: unknown key {unknown!r}"
        raise UsageError(message, hint=f"known: {', '.join(sorted(KINDS))}")
    for key, value in table.items():
        holds, meaning = KINDS[key]
        if not holds(value):
            message = f"{origin}: {key} is {value!r}, not {meaning}"
            raise UsageError(message)
    if "python" in table and "environment" in table:
        message = f"{origin}: python and environment each name an interpreter"
        raise UsageError(message, hint="leave out one of them")
    rules = settings.tables.get(RULES, [])
    source = settings.table_origins.get(RULES, "")
    return SuiteSettings(
        **table, rules=read_rules(rules, source=source), written_rules=tuple(rules)
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "workers": (_is_whole, "a whole number"),
    "python": (_is_text, "the path of an interpreter"),
    "environment": (lambda value: isinstance(value, dict), "a table as in docs/workspaces.md"),
    "on": (_is_text, "classes of hardware as of --on"),
    "test_timeout": (_is_number, "a number of seconds"),
    "memory_limit": (_is_number, "a number of GB"),
    "reruns": (_is_whole, "a whole number"),
    "keep": (_is_number, "a number of seconds"),
}
"""The keys, each with what its value has to be."""


def environment_of(
    python: str | None, recipe: dict[str, Any] | None, given: SuiteSettings
) -> tuple[str | None, dict[str, Any] | None]:
    """Return interpreter or recipe: by the command line, else by the settings.

    Raises UsageError.
    """
    if recipe is not None and python is not None:
        message = "--python and --environment each name an interpreter"
        raise UsageError(message, hint="leave out one of them")
    if python is None and recipe is None:
        return given.python, given.environment
    return python, recipe
