"""What a document about a suite asks for, read and checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import orjson

from dtest.errors import UsageError
from dtest.events.config import config_fault
from dtest.events.fields import Document
from dtest.events.suite import MutedTest, SuiteSubmitted
from dtest.reports.muting import KnownFlaky, Muted
from dtest.suites.requirement import HardwareClass, parse_on
from dtest.suites.rules import Rule, read_rules
from dtest.suites.suite import Suite


@dataclass(frozen=True)
class Order:
    """One document."""

    spec: SuiteSubmitted

    def check(self) -> None:
        """Raise UsageError for what makes no sense."""
        fault = config_fault("test", {**self.config, "queue": "q"})
        if fault is not None:
            raise UsageError(fault, hint="see docs/testing.md for what a suite may ask for")
        _ = self.classes, self.rules

    @cached_property
    def classes(self) -> tuple[HardwareClass, ...]:
        """The classes of hardware; none for any. Raises UsageError."""
        return parse_on(self.spec.on) if self.spec.on else ()

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """What tests ask for. Raises UsageError."""
        return read_rules(list(self.spec.rules), source="the document")

    @cached_property
    def config(self) -> Document:
        """What the config of each session begins with."""
        spec = self.spec
        found = {
            "paths": list(spec.paths),
            "cwd": spec.cwd,
            "workspace": spec.workspace,
            "environment": _stated(spec.environment),
            "python": spec.python,
            "args": list(spec.args),
            "env": dict(spec.env) or None,
            "runner": _stated(spec.runner),
            "test_timeout_seconds": spec.test_timeout_seconds,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def runner(self) -> str:
        """The name of what runs the tests."""
        return self.spec.runner.name if self.spec.runner is not None else "pytest"

    def selected(self, found: Suite) -> Suite:
        """Return the tests whose names match the keyword; pytest has chosen by itself."""
        word = self.spec.selection.keyword
        if not word or self.spec.runner is None:
            return found
        return found.only(_matching(found, word))


def _matching(found: Suite, word: str) -> Callable[[int], bool]:
    def matches(place: int) -> bool:
        nodeid, _ = found.tests[place]
        return fnmatchcase(nodeid, word) if "*" in word else word in nodeid

    return matches


def _stated(shape: Any) -> Document | None:  # noqa: ANN401 - a dataclass of the document, or none
    """Return what a part of the document says, without what it leaves at its default."""
    if shape is None:
        return None
    written: Document = orjson.loads(orjson.dumps(shape))
    return {name: value for name, value in written.items() if value not in (None, [], "", False)}


def muted_by(entries: Sequence[MutedTest]) -> KnownFlaky:
    """Return the list of known flaky tests that a document holds."""
    return KnownFlaky(
        tuple(Muted(each.test, each.reason, each.expires, each.issue) for each in entries)
    )
