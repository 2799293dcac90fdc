"""Hands what became of tests to pytest's hooks: as it comes, and at the end by their verdicts."""

import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from _pytest.junitxml import xml_key

from dtest.pytest_plugin.reports import (
    collect_report_of,
    not_proven_of,
    reports_of,
    rerun_of,
)
from dtest.reports.muting import KnownFlaky
from dtest.reports.observation import Observation
from dtest.reports.verdicts import BAD, Result

_CUT_SHORT = ("crashed:", "interrupted:")
"""Such an observation may not count in the end: the verdict says."""
Key = tuple[str, int]
"""Node id, and place among equal ones in an attempt; of a planned test nothing, and its number."""


@dataclass(slots=True)
class Feeding:
    """What pytest was told so far."""

    config: pytest.Config
    flaky: KnownFlaky
    reruns: bool
    """Failures are tried again: none is told before it is known what became of it."""
    told: dict[Key, str] = field(default_factory=dict)
    held: set[Key] = field(default_factory=set)
    _of_suite: list[tuple[str, str]] = field(default_factory=list)
    _places: Counter[tuple[str, int, str]] = field(default_factory=Counter)

    def live(self, seen: Observation) -> None:
        """Take an observation, in the order of the journal; tell it if nothing can change it."""
        self._places[seen.task_id, seen.attempt, seen.nodeid] += 1
        key = seen.nodeid, self._places[seen.task_id, seen.attempt, seen.nodeid]
        if seen.number is not None:
            key = "", seen.number
        if key in self.told or key in self.held:
            return
        uncertain = self.reruns or seen.message.startswith(_CUT_SHORT)
        if seen.outcome in BAD and uncertain and seen.phase != "collect":
            self.held.add(key)
        else:
            self._tell(key, seen.outcome, seen)

    def finish(self, results: Iterable[Result], *, cut: bool) -> None:
        """Tell all verdicts that pytest does not know yet; of a run cut short, what was seen."""
        for result in results:
            if result.is_task:
                continue
            key = result.key.nodeid, result.key.occurrence
            if result.number is not None:
                key = "", result.number
            seen = result.deciding
            if self.told.get(key) == result.verdict:
                continue
            if seen is not None:
                for earlier in result.observations[:-1]:
                    if earlier.outcome in BAD and self.reruns:
                        self.config.hook.pytest_runtest_logreport(report=rerun_of(earlier))
                self._tell(key, result.verdict, seen)
            elif not cut and result.key.nodeid not in self.flaky.of([result.key.nodeid]):
                self._report(result.key.nodeid, not_proven_of(result.key.nodeid, result.cause))

    def _tell(self, key: Key, verdict: str, seen: Observation) -> None:
        with _whole():
            self.told[key] = verdict
            self._tell_of_suite(seen)
            if seen.phase == "collect":
                self._tell_collection(seen)
                return
            muted = self.flaky.of([seen.nodeid]).get(seen.nodeid)
            self._report(seen.nodeid, reports_of(seen, muted=muted, flaky=verdict == "flaky"))

    def _tell_collection(self, seen: Observation) -> None:
        """Keep pytest from drawing its line about a collection over what it drew before."""
        terminal: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        isatty = bool(getattr(terminal, "isatty", False))
        if isatty:
            terminal.isatty = False
        self.config.hook.pytest_collectreport(report=collect_report_of(seen))
        if isatty:
            terminal.isatty = True

    def _tell_of_suite(self, seen: Observation) -> None:
        """Record what the test recorded of the whole suite, where a report of pytest's takes it."""
        for name, value in seen.suite_properties:
            if (name, value) not in self._of_suite:
                self._of_suite.append((name, value))
                stash: Any = getattr(self.config, "stash", None) or getattr(
                    self.config, "_store", {}
                )
                report = stash.get(xml_key, None)
                if report is not None:
                    report.add_global_property(name, value)

    def _report(self, nodeid: str, reports: list[pytest.TestReport]) -> None:
        hook, location = self.config.hook, reports[0].location
        hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)


@contextmanager
def _whole() -> Iterator[None]:
    """Let an interrupt wait until a test is told as a whole."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
