"""Given, when, then: a cell that is told facts through the real wire form, at a clock of its own.

Knows no journal and no process: what is recorded here is folded at once.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dtest.events import codec
from dtest.events.attempt import AttemptAssigned
from dtest.events.catalogue import Payload
from dtest.events.envelope import Correlation, Event, Malformed, Recorded
from dtest.events.fields import EventId, TaskId, WorkerId
from dtest.events.parameters import changed
from dtest.events.reasons import RefusalCode
from dtest.journal.port import Outgoing, Stored
from dtest.leadership.decision import Parts, Signature, messages
from dtest.leadership.rules import CURRENT, Rules, elected
from dtest.state.cell import Cell
from dtest.state.fold import apply
from dtest.state.task import Status, Task
from dtest.state.worker import Worker
from tests.kit import facts

STEPS_MAX = 100
"""A decider that is not done after so many decisions about one state goes round in circles."""


class World:
    """One cell, its history and its clock."""

    def __init__(self, rules: Rules = CURRENT) -> None:
        self.cell = Cell(facts.CELL)
        self.now = facts.START
        self.history: list[Recorded] = []
        self.journal: list[Stored] = []
        """The history as bytes."""
        self.rules = rules
        self._ids = 0

    # -- given --------------------------------------------------------------------------------

    def new_id(self) -> str:
        """An id that no other event of this world has."""
        self._ids += 1
        return f"e{self._ids}"

    def event(self, data: Payload, correlation: str | None = None) -> Event:
        """A fact in its envelope, as its rightful writer would send it."""
        return Event(EventId(self.new_id()), facts.source(data), self.now, data, correlation)

    def record(self, *data: Payload, on: str | None = None) -> Recorded:
        """Write facts of one type as one message, and fold it."""
        payload = codec.encode([self.event(fact) for fact in data])
        return self.write(on or facts.where(data[0]), payload)

    def write(self, on: str, payload: bytes) -> Recorded:
        """Write bytes, whatever they are, and fold them."""
        stored = Stored(self.cell.seq + 1, on, self.now, self.new_id(), payload)
        record = stored.record()
        self.journal.append(stored)
        self.history.append(record)
        apply(self.cell, record)
        self.cell.wake(self.cell.now)  # as whoever follows a journal
        return record

    def given(self, *data: Payload) -> "World":
        """Write facts, each as a message of its own; none may be malformed."""
        for fact in data:
            for event in self.record(fact).events:
                assert not isinstance(event, Malformed), event
        return self

    def led(self) -> "World":
        """Have a leader elected."""
        return self.given(elected(facts.LEADER, rules=self.rules))

    # -- when ---------------------------------------------------------------------------------

    def tick(self, seconds: float) -> "World":
        """Let time pass."""
        self.now = round(self.now + seconds, 6)
        return self

    def plan(self) -> Parts:
        """What the leader would decide now."""
        self.cell.wake(self.now)
        return self.rules.decide(self.cell, self.now)

    def draft(self) -> list[Outgoing]:
        """The leader's decision as messages that are not recorded yet."""
        parts = self.plan()
        correlation = Correlation(self.cell.epoch, self.cell.seq)
        signature = Signature(facts.CELL, facts.LEADER, correlation, self.now)
        return list(messages(parts, signature, self.new_id))

    def enact(self, draft: Iterable[Outgoing]) -> list[Payload]:
        """Record a decision, perhaps after other things happened; return what it says."""
        decided: list[Payload] = []
        for message in draft:
            for event in self.write(message.subject, message.payload).events:
                assert not isinstance(event, Malformed), event
                decided.append(event.data)
        return decided

    def step(self) -> list[Payload]:
        """Decide once, and record the decision."""
        return self.enact(self.draft())

    def settle(self) -> list[Payload]:
        """Decide until nothing is left to decide."""
        decided: list[Payload] = []
        for _ in range(STEPS_MAX):
            now = self.step()
            if not now:
                return decided
            decided += now
        message = f"no end of decisions: {now[:5]}"
        raise AssertionError(message)

    def assign(self) -> list[AttemptAssigned]:
        """Decide until nothing is left to decide, and return the assignments."""
        return assignments(self.settle())

    # -- then ---------------------------------------------------------------------------------

    def task(self, name: str) -> Task:
        """What is known of a task."""
        return self.cell.tasks[TaskId(name)]

    def status(self, name: str) -> Status:
        """Where a task is in its life."""
        return self.task(name).status

    def worker(self, name: str) -> Worker:
        """What is known of a worker."""
        return self.cell.workers[WorkerId(name)]

    def to_refuse(self) -> list[RefusalCode]:
        """What the next decision is going to refuse."""
        return [pending.code for pending in self.cell.refusals.values()]

    def ignored(self) -> dict[str, int]:
        """What no longer applied."""
        return dict(self.cell.ignored)

    def replayed(self) -> Cell:
        """A second cell that folded the same history, and knows nothing of decisions."""
        cell = Cell(facts.CELL)
        for record in self.history:
            apply(cell, record)
        return cell


def rules(**numbers: float) -> Rules:
    """The current rules, with other values for some parameters."""
    return replace(CURRENT, parameters=changed(CURRENT.parameters, numbers))


def assignments(decided: Iterable[Payload]) -> list[AttemptAssigned]:
    """The assignments among decisions."""
    return [data for data in decided if isinstance(data, AttemptAssigned)]


def only(assigned: Iterable[AttemptAssigned]) -> AttemptAssigned:
    """The single one there is."""
    (one,) = assigned
    return one


def places(assigned: Iterable[AttemptAssigned]) -> dict[str, str]:
    """Which task goes where."""
    return {data.task_id: data.worker_id for data in assigned}


def running(world: World, name: str = "t", **more: Any) -> AttemptAssigned:
    """Bring a fresh task to ``running`` on whatever worker it gets."""
    world.given(facts.task(name, **more))
    one = next(data for data in world.assign() if data.task_id == name)
    world.given(facts.started(one, world.now))
    return one
