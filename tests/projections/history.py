"""Histories written down by hand, and what a projector makes of them."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from dtest.events import codec, subject
from dtest.events.attempt import (
    AttemptAssigned,
    AttemptFinished,
    AttemptStarted,
    Checkpoint,
    TestcaseFinished,
)
from dtest.events.catalogue import ROLE_OF, Payload
from dtest.events.envelope import Event
from dtest.events.fields import CellId, ClientId, EventId, RunId, TaskId, WorkerId
from dtest.events.run import RunOpened
from dtest.events.task import RetryPolicy, TaskQueued
from dtest.events.worker import Capability, WorkerLost, WorkerRegistered
from dtest.journal.port import Bounds, Outgoing, Stored
from dtest.leadership.rules import elected
from dtest.leadership.snapshots import SnapshotFiles
from dtest.projections.projector import Projector, Source
from dtest.projections.store import Store
from dtest.state.cell import Cell
from dtest.state.fold import apply

CELL = CellId("main")
CLIENT = ClientId("tests")
STREAM = "dtest-main-journal"
CREATED = "2026-11-01T00:00:00Z"
EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
START_S = EPOCH.timestamp()

Rows = list[tuple[Any, ...]]


class History:
    """Messages of a journal, one second apart."""

    def __init__(self) -> None:
        self.stored: list[Stored] = []

    @property
    def last(self) -> int:
        """The latest sequence number."""
        return len(self.stored)

    def at(self, seq: int) -> str:
        """When that message was stored, as the API writes instants."""
        return codec.iso(START_S + seq)

    def raw(self, where: str, payload: bytes) -> int:
        """Whatever bytes on whatever subject."""
        seq = self.last + 1
        self.stored.append(Stored(seq, where, START_S + seq, f"id-{seq}", payload))
        return seq

    def say(self, *facts: Payload, client: ClientId = CLIENT) -> int:
        """Facts of one type, each said by who may say it, as one message."""
        first = facts[0]
        worker_id = getattr(first, "worker_id", WorkerId(""))
        where, source = _address(first, worker_id, client)
        seq = self.last + 1
        events = [
            Event(EventId(f"e-{seq}-{place}"), source, START_S + seq - 0.25, fact)
            for place, fact in enumerate(facts)
        ]
        return self.raw(where, codec.encode(events))

    def fold(self) -> Cell:
        """What the leader would hold."""
        cell = Cell(CELL)
        for stored in self.stored:
            apply(cell, stored.record())
        return cell

    # -- the usual facts ----------------------------------------------------------------------

    def elect(self, leader_id: str = "lead-1") -> int:
        return self.say(elected(leader_id, 0, "host-1", "0.1.0"))

    def join(self, worker_id: str, *, slots: int = 4, incarnation: str = "i1") -> int:
        capability = Capability(slots=slots, cpus=8.0, memory_gb=32.0)
        return self.say(
            WorkerRegistered(WorkerId(worker_id), incarnation, f"host-of-{worker_id}", capability)
        )

    def lose(self, worker_id: str, *, incarnation: str = "i1") -> int:
        return self.say(WorkerLost(WorkerId(worker_id), incarnation, "no_responders"))

    def open(self, run_id: str, name: str = "nightly", **labels: str) -> int:
        return self.say(RunOpened(RunId(run_id), name, labels))

    def queue(self, *task_ids: str, run_id: str = "run-1", retries: int = 0, **other: Any) -> int:
        return self.say(*(task(name, run_id=run_id, retries=retries, **other) for name in task_ids))

    def assign(
        self,
        task_id: str,
        attempt: int,
        worker_id: str,
        *,
        incarnation: str = "i1",
        checkpoint: Checkpoint | None = None,
    ) -> int:
        return self.say(
            AttemptAssigned(
                TaskId(task_id),
                attempt,
                WorkerId(worker_id),
                incarnation,
                "cpu",
                "command",
                checkpoint=checkpoint,
            )
        )

    def start(self, task_id: str, attempt: int, worker_id: str) -> int:
        at = datetime.fromtimestamp(START_S + self.last + 0.5, UTC)
        return self.say(AttemptStarted(TaskId(task_id), attempt, WorkerId(worker_id), at, 4711))

    def finish(
        self, task_id: str, attempt: int, worker_id: str, outcome: Any = "passed", **other: Any
    ) -> int:
        began = datetime.fromtimestamp(START_S + self.last, UTC)
        ended = datetime.fromtimestamp(START_S + self.last + 0.75, UTC)
        return self.say(
            AttemptFinished(
                TaskId(task_id), attempt, WorkerId(worker_id), outcome, began, ended, **other
            )
        )

    def case(
        self, task_id: str, attempt: int, worker_id: str, ordinal: int, **other: Any
    ) -> TestcaseFinished:
        nodeid = f"test_it.py::test_{ordinal}"
        told = {"nodeid": nodeid, "outcome": "passed", "duration_s": 0.5, **other}
        return TestcaseFinished(TaskId(task_id), attempt, WorkerId(worker_id), ordinal, **told)


def task(
    task_id: str, *, run_id: str | None = "run-1", retries: int = 0, **other: Any
) -> TaskQueued:
    """A small task."""
    return TaskQueued(
        TaskId(task_id),
        "command",
        {"command": ["true"]},
        RunId(run_id) if run_id is not None else None,
        retry_policy=RetryPolicy(max_retries=retries),
        **other,
    )


def _address(fact: Payload, worker_id: WorkerId, client: ClientId) -> tuple[str, str]:
    role = ROLE_OF[fact.TYPE]
    if role == "client":
        return subject.client(CELL, client, fact.TYPE), codec.source(CELL, role, client)
    if role == "agent":
        return subject.agent(CELL, worker_id, fact.TYPE), codec.source(CELL, role, worker_id)
    source = codec.source(CELL, role, "lead-1")
    match fact.TYPE:
        case "leader.elected":
            return subject.epoch(CELL), source
        case "worker.suspected":
            return subject.observed(CELL), source
        case "attempt.assigned" | "attempt.stop_requested":
            return subject.work(CELL, "cpu", worker_id), source
        case _:
            return subject.decided(CELL), source


# -- reading it back ------------------------------------------------------------------------------


class Delivery:
    """A journal that gives its messages out in the batches that a test wants, repeats included."""

    def __init__(self, batches: Iterable[Sequence[Stored]], *, created: str = CREATED) -> None:
        self._batches = [list(batch) for batch in batches if batch]
        self._created = created

    @asynccontextmanager
    async def follow(
        self, after: int, *, subject: str | None = None
    ) -> AsyncIterator[AsyncIterator[list[Stored]]]:
        yield self._feed(after)

    async def _feed(self, after: int) -> AsyncIterator[list[Stored]]:
        for batch in self._batches:
            if batch[-1].seq > after:
                yield batch

    async def bounds(self) -> Bounds:
        last = max((stored.seq for batch in self._batches for stored in batch), default=0)
        return Bounds(min(last, 1), last, last, self._created)

    async def append(self, message: Outgoing, *, guard: object = None) -> Any:
        raise NotImplementedError

    async def append_batch(self, messages: Sequence[Outgoing], *, guard: object = None) -> Any:
        raise NotImplementedError

    async def last(self, subject: str) -> Stored | None:
        raise NotImplementedError

    async def get(self, seq: int) -> Stored | None:
        return next((one for batch in self._batches for one in batch if one.seq == seq), None)


def in_batches(stored: Sequence[Stored], *sizes: int) -> list[list[Stored]]:
    """The messages in batches of these sizes; the last size goes on to the end."""
    batches: list[list[Stored]] = []
    position = 0
    remaining = list(sizes)
    while position < len(stored):
        size = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        batches.append(list(stored[position : position + size]))
        position += size
    return batches


async def project(
    store: Store,
    delivery: Delivery,
    *,
    until: int | None = None,
    snapshots: SnapshotFiles | None = None,
) -> Projector:
    """Bring a store up to the delivery's end, or to ``until``."""
    projector = Projector(store, Source(delivery, STREAM), cell=CELL, snapshots=snapshots)
    await projector.start()
    bounds = await delivery.bounds()
    await projector.run(until=bounds.last if until is None else until)
    return projector


async def database_of(path: Path, stored: Sequence[Stored], *sizes: int) -> dict[str, Rows]:
    """All tables of a new file into which the messages were projected in these batches."""
    store = Store(path)
    try:
        await project(store, Delivery(in_batches(stored, *(sizes or (len(stored) or 1,)))))
        return tables(store)
    finally:
        store.close()


def tables(store: Store) -> dict[str, Rows]:
    """Everything in the file, in an order that does not depend on how it came in."""
    names = store.query(
        "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY 1"
    ).rows
    return {
        name: store.query(f'SELECT * FROM "{name}" ORDER BY ALL', rows_max=1_000_000).rows  # noqa: S608
        for (name,) in names
    }


def records(store: Store, sql: str, *parameters: object) -> list[dict[str, Any]]:
    """The rows of a query by column name."""
    return store.query(sql, parameters).records()


def as_json(text: str) -> Any:
    """A JSON column's content."""
    return orjson.loads(text)
