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
from tests.kit.parameters import within
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

        assert report.verdict != "all holds"
        if not report.decisions_not_again:  # else it may be one of those
            older = set(report.terms) == {"unrecorded rules"}
            assert len(report.doubts if older else report.violations) >= 1


def test_each_forgery_is_tried_on_many_journals() -> None:
    for change in (later, hurried, reworded):
        assert sum(1 for one in GOLDEN for _ in forged(read(one)[1], change)) >= 10


RECORDED = sorted(
    (one for one in GOLDEN if one.parent.name != "rules-0"),
    key=lambda one: not one.name.startswith("guarded"),  # most is decided there
)
SHOWN = (
    "accept_s_max",
    "ageing_s_per_level",
    "avoid_max",
    "backoff_factor",
    "breaker_open_s",
    "breaker_threshold",
    "fault_delay_s",
    "faults_max",
    "fleet_workers_min",
    "health_threshold",
    "jitter",
    "keep_room_after_s",
    "observed_floor_s",
    "probation_s",
    "rejoin_s_max",
    "strike_points",
    "timeout_multiplier",
    "undersized_part",
)
"""Parameters on which some decision of these journals depends."""


@pytest.mark.parametrize("name", SHOWN)
async def test_a_recorded_parameter_that_was_changed_is_found(name: str) -> None:
    for factor in (0.25, 4.0):
        for directory in RECORDED:
            journal = [rewritten(stored, name, factor) for stored in read(directory)[1]]
            if (await audit(journal, directory)).violations:
                return
    pytest.fail(f"another {name} changes no decision")


def rewritten(stored: Stored, name: str, factor: float) -> Stored:
    """The message; of an election, with another value for one parameter."""
    (event, *_) = stored.record().events
    if not isinstance(event, Event) or not isinstance(event.data, LeaderElected):
        return stored
    if name not in event.data.parameters:  # a leader of before parameters were recorded
        return stored
    value = within(name, event.data.parameters[name] * factor)
    data = replace(event.data, parameters={**event.data.parameters, name: value})
    return replace(stored, payload=codec.encode([replace(event, data=data)]))
