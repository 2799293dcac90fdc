"""What every request can reach."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import orjson
from fastapi import Depends, Request

from dtest.api.admission import Admission
from dtest.api.shelf import Shelf
from dtest.client import Client
from dtest.errors import InvalidDocument, NotFound, TimedOut
from dtest.events.fields import CellId, TaskId
from dtest.journal.port import Journal
from dtest.journal.queue import UnitQueue
from dtest.journal.room import JournalRoom
from dtest.journal.stores import ObjectStore, OutputStore
from dtest.projections.plain import readable
from dtest.projections.projector import Projector
from dtest.projections.store import ROWS_MAX, Answer, Store
from dtest.runtime.machine import MachineUsage
from dtest.state.task import Task

READ_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The parts of one API process."""

    cell: CellId
    store: Store
    projector: Projector
    journal: Journal
    client: Client
    output: OutputStore
    artifacts: ObjectStore
    shelf: Shelf
    now: Callable[[], float]
    new_id: Callable[[], str]
    is_connected: Callable[[], bool]
    admission: Admission
    room: JournalRoom
    queue: Callable[[str], UnitQueue]
    standbys: Callable[[], int | None]
    """How many schedulers stand by; none while it is unknown."""
    machine: MachineUsage

    def unfinished(self) -> int:
        """Return how many tasks the cell has to finish."""
        return self.admission.backlog.unfinished(self.projector.rows.cell)

    async def read(
        self, sql: str, parameters: Sequence[object] = (), *, rows_max: int = ROWS_MAX
    ) -> Answer:
        """Run a trusted statement; a few at once, away from the loop that takes submissions."""
        async with self.admission.reading:
            return await asyncio.to_thread(self.store.query, sql, parameters, rows_max=rows_max)

    async def lines(
        self, sql: str, parameters: Sequence[object], json_columns: frozenset[str] = frozenset()
    ) -> AsyncIterator[bytes]:
        """Yield all rows of a trusted statement as JSON, one on each line; then how many.

        An answer without that last line was cut off.
        """
        records = self.store.records(sql, parameters)
        count = 0

        def some() -> bytes:
            nonlocal count
            found = next(records, [])
            count += len(found)
            return b"".join(
                orjson.dumps(readable(each, json_columns), option=orjson.OPT_APPEND_NEWLINE)
                for each in found
            )

        try:
            while True:
                async with self.admission.reading:
                    text = await asyncio.to_thread(some)
                if not text:
                    yield orjson.dumps({"end": count}, option=orjson.OPT_APPEND_NEWLINE)
                    return
                yield text
        finally:
            with suppress(ValueError):  # whoever asked has left while it is being read
                await asyncio.to_thread(records.close)

    async def caught_up(self, after: int | None) -> None:
        """Wait until the read model holds a sequence number. Raises InvalidDocument or TimedOut."""
        if after is None or self.projector.seq >= after:
            return
        bounds = await self.journal.bounds()
        if after > bounds.last:
            message = f"the journal ends at {bounds.last}, before {after}"
            raise InvalidDocument(message, hint="`after` is the `seq` of an answer")
        if not await self.projector.reached(after, wait_s=READ_S_MAX):
            message = f"the read model stands at {self.projector.seq}, not yet at {after}"
            raise TimedOut(message, hint="ask again, or read without `after`")

    def task(self, task_id: str) -> Task:
        """Return a task by its id, a unique beginning of it, or ``@last``. Raises NotFound."""
        tasks = self.projector.rows.cell.tasks
        if task_id == "@last" and tasks:
            return max(list(tasks.values()), key=lambda task: (task.seq, task.index))
        found = tasks.get(TaskId(task_id))
        if found is not None:
            return found
        names = list(tasks) if task_id else []  # a copy: the projector's thread adds to them
        begins = [name for name in names if name.startswith(task_id)][:2]
        if len(begins) == 1:
            return tasks[begins[0]]
        message = f"{'more than one' if begins else 'no'} task is called {task_id!r}"
        raise NotFound(message, hint="`dtest task ls` lists the tasks")


def context_of(request: Request) -> ApiContext:
    """Return the context of the application that serves a request."""
    context: ApiContext = request.app.state.context
    return context


Context = Annotated[ApiContext, Depends(context_of)]
