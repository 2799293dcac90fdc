"""What a team has written down for ``dtest test``: ``[tool.dtest.test]`` and its requirements.

The command line has the last word. What is unknown is refused, never passed over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dtest.cli.suite_options import Bounds
from dtest.errors import UsageError
from dtest.settings import Settings
from dtest.suites.rules import Rule, read_rules

TABLE = "test"
RULES = "requirements"


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
    rules: tuple[Rule, ...] = ()

    def bounded(self, bounds: Bounds) -> Bounds:
        """Return the bounds with what the command line leaves open."""
        return replace(
            bounds,
            test_timeout=self.test_timeout if bounds.test_timeout is None else bounds.test_timeout,
            memory_limit=self.memory_limit if bounds.memory_limit is None else bounds.memory_limit,
            reruns=self.reruns if bounds.reruns is None else bounds.reruns,
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
    return SuiteSettings(**table, rules=read_rules(rules, source=source))


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
}
"""The keys, each with what its value has to be."""
