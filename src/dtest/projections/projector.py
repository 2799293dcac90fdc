"""Follows the journal and keeps the read model true: micro-batches, exactly once.

The position is written in the transaction of the rows, so a projector that dies anywhere goes on
where its file stands. A file of another stream or schema is made anew from the journal. The state
at the file's position is folded again, from the newest snapshot that was taken no later.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import orjson
import structlog

from dtest.errors import Unavailable
from dtest.events.fields import CellId, RunId
from dtest.journal.port import ReadableJournal, Stored, cut, read_to
from dtest.leadership.snapshots import SnapshotFiles
from dtest.projections.pacing import Intake
from dtest.projections.rows import Row, Rows, micros
from dtest.projections.store import Progress, Store
from dtest.projections.tally import HOMES, STANDING, Tally
from dtest.state.cell import Cell

log = structlog.get_logger()

MESSAGES_MAX = 2_000
"""Most messages of one transaction."""
PAUSE_S_MIN = 0.01
PAUSE_S_MAX = 0.25
PAUSE_FACTOR = 3.0
"""A transaction has a fixed cost of some milliseconds. Pausing in proportion to the last one
leaves most of a processor to others: the more there is to do, the more goes into each."""
FULL_EVENTS = 2_000
"""So many events are worth a transaction of their own: no pause while there is a backlog."""
CALM_S = 0.5
"""So long finished tests wait for each other, or for anything else that comes."""
OUTCOMES = "SELECT outcome, count(*) AS count FROM testcase_verdicts WHERE run_id = ? GROUP BY 1"
COUNTED_MAX = 10_000_000
"""Tests of one run."""
FORGET_EVERY_S = 60
"""Old telemetry is deleted so often, by the journal's time."""
WORKERS_MAX = 20_000
"""Of so many workers the latest sample is remembered."""
TELEMETRY_FIGURES = (
    "cpu_ratio",
    "memory_used_bytes",
    "memory_bytes",
    "disk_free_bytes",
    "disk_bytes",
    "network_sent_bytes",
    "network_received_bytes",
    "facts_waiting",
    "telemetry_shed",
    "output_dropped_bytes",
)


@dataclass(frozen=True, slots=True)
class Source:
    """A stream and its identity."""

    journal: ReadableJournal
    name: str


class Projector:
    """Keeps one store true to one journal."""

    def __init__(
        self,
        store: Store,
        source: Source,
        *,
        cell: CellId,
        snapshots: SnapshotFiles | None = None,
    ) -> None:
        self.rows = Rows(Cell(cell))
        self.store = store
        self.tally = Tally()
        self.lock = asyncio.Lock()
        """Held while the fold or the store changes."""
        self.seq = 0
        self.projected = 0
        """Events projected by this process."""
        self.events = 0
        """Folded since the snapshot that it began with, or since the journal's start."""
        self.created = ""
        """Identity of the journal's stream, once it is known."""
        self._source = source
        self._snapshots = snapshots
        self._moved = asyncio.Condition()
        self._intake: Intake | None = None

    async def start(self) -> None:
        """Bring the fold to where the file stands."""
        bounds = await self._source.journal.bounds()
        self.created = bounds.created
        progress = self.store.progress(self._source.name)
        if progress is not None and (
            progress.created != bounds.created or progress.seq > bounds.last
        ):
            log.warning("projection_of_another_stream", stream=self._source.name)
            self.store.reset()
            progress = None
        if progress is not None:
            if self._snapshots is not None:
                base = await self._snapshots.latest(self._source.journal, until=progress.seq)
                self.rows = Rows(base)
            async for batch in read_to(self._source.journal, self.rows.cell.seq, progress.seq):
                await asyncio.to_thread(self._refold, batch)
            self.seq = progress.seq

    @property
    def cell(self) -> Cell:
        """The state at the file's position, while nothing is being written."""
        return self.rows.cell

    def _refold(self, batch: list[Stored]) -> None:
        for stored in batch:
            record = stored.record()
            self.rows.fold(record)
            self.events += len(record.events)
        self._pass_time()

    def _pass_time(self) -> None:
        """Move what is due out of the timers, which would else only grow."""
        self.rows.cell.wake(self.rows.cell.now)

    async def run(self, *, until: int | None = None) -> None:
        """Project until cancelled, or up to a sequence number and nothing beyond it.

        Raises Unavailable when a write failed, and ever after: the fold is ahead of the file then.
        """
        if self.rows.cell.seq != self.seq:
            message = f"this projector's write after {self.seq} failed"
            raise Unavailable(message, hint="start a new one: it goes on where the file stands")
        if until is not None and self.seq >= until:
            return
        loop = asyncio.get_running_loop()
        async with (
            self._source.journal.follow(self.seq) as feed,
            aclosing(cut(feed, until)) as wanted,
            Intake(wanted) as intake,
        ):
            self._intake = intake
            pending = await intake.first()
            while pending:
                begun, before = loop.time(), self.projected
                while pending:
                    part, pending = pending[:MESSAGES_MAX], pending[MESSAGES_MAX:]
                    await self._project(part)
                if self.projected - before <= FULL_EVENTS:
                    spent_s = loop.time() - begun
                    pause_s = min(PAUSE_S_MAX, max(PAUSE_S_MIN, PAUSE_FACTOR * spent_s))
                    pending = await intake.more(pause_s=pause_s, calm_s=CALM_S)
                pending = pending or await intake.first()

    async def _project(self, batch: list[Stored]) -> None:
        async with self.lock:
            await asyncio.to_thread(self._write, batch)
        self.seq = self.rows.cell.seq
        async with self._moved:
            self._moved.notify_all()

    def _write(self, batch: list[Stored]) -> None:
        for stored in batch:
            record = stored.record()
            self.rows.add(record, stored.payload)
            self.projected += len(record.events)
            self.events += len(record.events)
        self._pass_time()
        progress = Progress(self.created, self.rows.cell.seq)
        rows = self.rows.take()
        self.store.write(self._source.name, progress, rows)
        self.tally.take(rows)
        for run_id in self.tally.runs:
            if self._has_ended(RunId(run_id)):
                self.tally.forget(run_id)

    async def reached(self, seq: int, *, wait_s: float) -> bool:
        """Wait until a sequence number is projected; say whether it is."""
        if self._intake is not None and self.seq < seq:
            self._intake.hurry()
        return await self.until(lambda: self.seq >= seq, wait_s=wait_s)

    async def run_ended(self, run_id: RunId, *, wait_s: float) -> bool:
        """Wait until a run and all its tasks have ended, as far as is projected; say whether so.

        A run that nobody knows has not ended.
        """
        return await self.until(lambda: self._has_ended(run_id), wait_s=wait_s)

    async def outcomes(self, run_id: RunId) -> dict[str, int]:
        """Return how many tests of a run have each outcome, by the latest word on each.

        While it runs they are counted as they come.
        """
        if self._has_ended(run_id):
            self.tally.forget(run_id)
            found = await asyncio.to_thread(self.store.query, OUTCOMES, [run_id])
            return {str(name): int(count) for name, count in found.rows}
        known = self.tally.counts(run_id)
        if known is None:
            async with self.lock:  # nothing is written in between
                await asyncio.to_thread(self._count, run_id)
            known = self.tally.counts(run_id)
        return known or {}

    def _count(self, run_id: RunId) -> None:
        homes = self.store.query(HOMES, [run_id], rows_max=COUNTED_MAX)
        standing = self.store.query(STANDING, [run_id], rows_max=COUNTED_MAX)
        self.tally.begin(run_id, homes.rows, standing.rows)

    def _has_ended(self, run_id: RunId) -> bool:
        run, suite = self.cell.runs.get(run_id), self.cell.suites.get(run_id)
        if suite is not None:
            return run is not None and suite.exit_code is not None and not run.unfinished
        return run is not None and bool(run.task_ids) and not run.unfinished

    async def until(self, condition: Callable[[], bool], *, wait_s: float) -> bool:
        """Wait until something holds of what is projected; say whether it does."""
        try:
            async with asyncio.timeout(wait_s), self._moved:
                await self._moved.wait_for(condition)
        except TimeoutError:
            return False
        return True


class TelemetryProjector:
    """Keeps the telemetry of the last day: a sample of each worker for each second, no more."""

    def __init__(self, store: Store, source: Source, *, lock: asyncio.Lock) -> None:
        self._store = store
        self._source = source
        self._lock = lock
        self.shed = 0
        """Samples that were not kept."""
        self._latest: dict[str, int] = {}
        """Of each worker, the second of its latest sample that was kept."""

    def _thinned(self, batch: list[Stored]) -> list[Row]:
        """Return what is kept of a batch: a flood must not fill the database."""
        rows: list[Row] = []
        if len(self._latest) > WORKERS_MAX:
            self._latest.clear()
        for stored in batch:
            worker_id, second = stored.subject.rpartition(".")[2], int(stored.stored_at)
            row = _telemetry_row(stored) if self._latest.get(worker_id) != second else None
            if row is None:
                self.shed += 1
            else:
                self._latest[worker_id] = second
                rows.append(row)
        return rows

    async def run(self) -> None:
        """Project until cancelled."""
        bounds = await self._source.journal.bounds()
        progress = self._store.progress(self._source.name)
        after = max(bounds.first - 1, 0)
        if progress is not None and progress.created == bounds.created:
            after = max(after, min(progress.seq, bounds.last))
        elif progress is not None:
            log.warning("projection_of_another_stream", stream=self._source.name)
            anew = Progress(bounds.created, 0)
            async with self._lock:
                await asyncio.to_thread(
                    self._store.write, self._source.name, anew, {"drop_telemetry": [()]}
                )
        async with self._source.journal.follow(after, subject="dtest.*.telemetry.*") as feed:
            forgotten = -1
            async for batch in feed:
                rows = {"telemetry": self._thinned(batch)}
                period = int(batch[-1].stored_at) // FORGET_EVERY_S
                if period != forgotten:
                    forgotten, rows["forget_telemetry"] = period, [()]
                progress = Progress(bounds.created, batch[-1].seq)
                async with self._lock:
                    await asyncio.to_thread(self._store.write, self._source.name, progress, rows)
                await asyncio.sleep(1.0)


def _telemetry_row(stored: Stored) -> Row | None:
    try:
        body = orjson.loads(stored.payload)
        figures = tuple(
            float(body[name]) if body.get(name) is not None else None for name in TELEMETRY_FIGURES
        )
    except (orjson.JSONDecodeError, TypeError, ValueError, AttributeError):
        return None  # telemetry that is not understood is shed, never an error
    worker_id = stored.subject.rpartition(".")[2]
    return (stored.seq, worker_id, micros(stored.stored_at), *figures)
