"""Golden journals in which something was forged: the audit finds it in each of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dtest.events import codec
from dtest.events.attempt import AttemptAssigned
from dtest.events.catalogue import Payload
from dtest.events.envelope import Correlation, Event
from dtest.events.leader import LeaderElected
from dtest.events.task import TaskEnded, TaskRetryScheduled
from dtest.journal.port import Stored
from dtest.leadership.audit import Report, verify
from tests.golden.test_golden import GOLDEN, journals, read
from tests.kit.recording import Recording

Change = Callable[[Payload], Payload | None]
"""Returns the forged fact; none for one that is left as it is."""


def later(fact: Payload) -> Payload | None:
    """A retry that waits longer than it was decided."""
    if not isinstance(fact, TaskRetryScheduled):
        return None
    return replace(fact, not_before=fact.not_before + timedelta(seconds=1))


def hurried(fact: Payload) -> Payload | None:
    """An attempt with another limit than the one it was given."""
    if not isinstance(fact, AttemptAssigned):
        return None
    return replace(fact, timeout_seconds=(fact.timeout_seconds or 0.0) + 1.0)


def reworded(fact: Payload) -> Payload | None:
    """A task that ended in the same way, for another reason than was decided."""
    return replace(fact, detail="forged") if isinstance(fact, TaskEnded) else None


def forged(stored: list[Stored], change: Change) -> Iterator[list[Stored]]:
    """The journal with the last decision forged that can be."""
    for place in reversed(range(len(stored))):
        events = stored[place].record().events
        for index, event in enumerate(events):
            if not isinstance(event, Event) or Correlation.parse(event.correlation) is None:
                continue
            fact = change(event.data)
            if fact is None:
                continue
            written: list[Any] = [*events]
            written[index] = replace(event, data=fact)
            message = replace(stored[place], payload=codec.encode(written))
            yield [*stored[:place], message, *stored[place + 1 :]]
            return


async def audit(stored: list[Stored], directory: Path) -> Report:
    return await verify(Recording(stored), read(directory)[0])


@journals
@pytest.mark.parametrize("change", [later, hurried, reworded])
async def test_a_forged_decision_is_found(directory: Path, change: Change) -> None:
    for journal in forged(read(directory)[1], change):
        report = await audit(journal, directory)

        found = report.doubts if set(report.terms) == {"unrecorded rules"} else report.violations
        assert len(found) >= 1
        assert report.verdict != "all holds"


def test_each_forgery_is_tried_on_many_journals() -> None:
    for change in (later, hurried, reworded):
        assert sum(1 for one in GOLDEN for _ in forged(read(one)[1], change)) >= 10


RECORDED = [one for one in GOLDEN if one.parent.name != "rules-0"]


@pytest.mark.parametrize("directory", RECORDED, ids=lambda path: path.name)
async def test_a_recorded_parameter_that_was_changed_is_found(directory: Path) -> None:
    journal = [with_fewer_assignments(stored) for stored in read(directory)[1]]

    assert (await audit(journal, directory)).violations != []


def with_fewer_assignments(stored: Stored) -> Stored:
    """The message; an election with a limit that no decision kept."""
    (event, *_) = stored.record().events
    if not isinstance(event, Event) or not isinstance(event.data, LeaderElected):
        return stored
    data = replace(event.data, parameters={**event.data.parameters, "faults_max": 0})
    return replace(stored, payload=codec.encode([replace(event, data=data)]))
