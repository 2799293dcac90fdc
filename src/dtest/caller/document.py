"""The document of a suite, as a caller writes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dtest.caller.suite_settings import Limits
from dtest.reports.muting import KnownFlaky


@dataclass(frozen=True, slots=True)
class SuitePlace:
    """Where the suite lies and what runs it."""

    cwd: str
    """Absolute, on each worker; or within the workspace."""
    python: str | None
    args: tuple[str, ...] = ()
    workspace: str | None = None
    """The tree that was shipped."""
    environment: dict[str, Any] | None = None
    """The recipe of the interpreter's environment, in the place of ``python``."""
    runner: dict[str, Any] | None = None
    """What runs the tests; none for pytest."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tests, where, and by how many sessions."""

    paths: Sequence[str] = ()
    keyword: str = ""
    """Where the runner does not choose by itself as pytest does."""
    last_failed: bool = False
    failed_first: bool = False
    on: str = ""
    rules: Sequence[dict[str, Any]] = ()
    sessions: int | None = None


def suite_document(
    name: str, place: SuitePlace, choice: Choice, limits: Limits, flaky: KnownFlaky
) -> dict[str, Any]:
    """Return the document; what is not asked for does not stand there."""
    asked = {
        "keyword": choice.keyword,
        "last_failed": choice.last_failed,
        "failed_first": choice.failed_first,
    }
    muted = [
        {
            "test": entry.test,
            "reason": entry.reason,
            "expires": entry.expires.isoformat(),
            "issue": entry.issue,
        }
        for entry in flaky.entries
    ]
    found = {
        "name": name,
        "cwd": place.cwd,
        "workspace": place.workspace,
        "environment": place.environment,
        "python": place.python,
        "runner": place.runner,
        "paths": list(choice.paths) or None,
        "args": list(place.args) or None,
        "selection": {key: value for key, value in asked.items() if value} or None,
        "on": choice.on or None,
        "rules": list(choice.rules) or None,
        "sessions": choice.sessions,
        "timeout_seconds": limits.timeout,
        "test_timeout_seconds": limits.test_timeout,
        "memory_limit_gb": limits.memory_limit,
        "failures_max": limits.failures_max,
        "reruns": limits.reruns or None,
        "fail_unmatched": limits.fail_unmatched or None,
        "muted": muted or None,
    }
    return {key: value for key, value in found.items() if value is not None}
