"""What a conductor has to work with: on every run, and on one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from dtest.conducting.lanes import derived
from dtest.conductor.books import Book
from dtest.conductor.following import View
from dtest.conductor.lists import read_list
from dtest.conductor.office import Pen
from dtest.errors import InvalidDocument, Unavailable, UsageError
from dtest.events.catalogue import ConductorPayload
from dtest.events.fields import RunId
from dtest.events.reasons import RefusalCode
from dtest.events.suite import SuiteSubmitted
from dtest.events.task import TaskQueued
from dtest.journal.connection import Connection
from dtest.journal.port import Journal
from dtest.journal.queue import UnitQueue
from dtest.journal.stores import OutputStore
from dtest.state.cell import Cell
from dtest.state.suite import SuiteRun
from dtest.state.task import Task
from dtest.suites.suite import Suite
from dtest.suites.unit import Unit, encode

UNITS_AT_ONCE = 200


@dataclass(frozen=True)
class Stage:
    """What every run has."""

    view: View
    journal: Journal
    connection: Connection
    output: OutputStore
    now: Callable[[], float]

    def queue(self, name: str) -> UnitQueue:
        """Return a queue of the cell."""
        return UnitQueue(self.connection, self.view.cell.id, name)


@dataclass
class Means:
    """What one run has."""

    stage: Stage
    pen: Pen
    run_id: RunId
    lists: dict[str, Suite] = field(default_factory=dict)
    """By class of hardware, as far as they are read."""

    @property
    def cell(self) -> Cell:
        """The state."""
        return self.stage.view.cell

    @property
    def suite(self) -> SuiteRun:
        """How the run stands."""
        return self.cell.suites[self.run_id]

    @property
    def book(self) -> Book:
        """What is known of the run besides its state."""
        return self.stage.view.books.of(self.run_id)

    @property
    def spec(self) -> SuiteSubmitted:
        """What was asked for. Raises AssertionError once the run has ended."""
        spec = self.suite.spec
        if spec is None:
            message = f"the suite {self.run_id} has ended"
            raise AssertionError(message)
        return spec

    @property
    def sessions(self) -> list[Task]:
        """All its tasks."""
        run = self.cell.runs.get(self.run_id)
        return [self.cell.tasks[name] for name in run.task_ids] if run is not None else []

    @property
    def has_ended(self) -> bool:
        """Say whether all its sessions have."""
        run = self.cell.runs.get(self.run_id)
        return run is None or not run.unfinished

    async def decide(self, *facts: ConductorPayload) -> None:
        """Record facts, all or none, and wait until they are folded.

        Raises Unavailable while a leader decides that does not know them, InvalidDocument for what
        the cell refuses for other reasons.
        """
        before = self.cell.seq
        seq = await self.pen.decide(facts)
        await self.stage.view.reached(seq)
        refusal = self.stage.view.refusal(before, seq)
        if refusal is None:
            return
        message = f"the cell refuses {facts[0].TYPE}: {refusal.detail}"
        if refusal.code is RefusalCode.UNKNOWN_EVENT:
            raise Unavailable(message, hint="bring every scheduler up to date")
        raise InvalidDocument(message)

    async def ask_for(self, tasks: Sequence[TaskQueued]) -> None:
        """Submit the tasks that are not known yet. Raises UsageError if the cell refuses one."""
        missing = [task for task in tasks if task.task_id not in self.cell.tasks]
        if missing:
            names = [derived(task.task_id, "queued") for task in missing]
            await self.stage.view.reached(await self.pen.ask(missing, names))
        refused = [task for task in missing if task.task_id not in self.cell.tasks]
        if refused:
            message = f"the cell refuses {refused[0].name}: what each session is told is too large"
            raise UsageError(message, hint="bring what is large as files of the workspace")

    async def fill(self, queue: str, units: Sequence[Unit]) -> None:
        """Put units in; those of an earlier filling, which may have been others, are forgotten.

        Each filling has names of its own: the server takes no name a second time, also after what
        had it was forgotten, and sessions must not take a unit for another one.
        """
        edition = self.pen.edition()
        await self.pen.confirm()
        handle = self.stage.queue(queue)
        await handle.open()
        if (await handle.state()).waiting:
            await handle.purge()
        for first in range(0, len(units), UNITS_AT_ONCE):
            some = units[first : first + UNITS_AT_ONCE]
            named = [replace(unit, id=f"{edition}.{unit.id}") for unit in some]
            await handle.put((unit.id, encode(unit)) for unit in named)

    async def read_lists(self) -> None:
        """Read the lists that are recorded and not known here."""
        for name, told in self.suite.collected.items():
            if name not in self.lists:
                self.lists[name] = await read_list(self.stage.journal, self.cell, told.digest)
