"""What a journal amounts to: the state, the rows and the audit's sums, in words of their own.

The names here are those of the golden files and never change. Where the code names a thing anew,
only the functions below follow; where it says something more, the account stays silent about it.
"""

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from dtest.events.fields import CellId
from dtest.journal.port import Stored
from dtest.leadership.audit import Report
from dtest.projections.projector import Projector, Source
from dtest.projections.store import opened
from dtest.state.cell import Cell
from dtest.state.fold import apply
from dtest.state.task import Task
from dtest.state.worker import Worker
from tests.kit.recording import Recording

SUMS = (
    "messages",
    "events",
    "refused",
    "tasks_accepted",
    "tasks_terminal",
    "tasks_open",
    "attempts",
    "late_reports",
    "decisions",
    "decisions_partial",
    "epochs",
)
"""Figures of the audit that a golden file holds."""
ROWS_MAX = 1_000_000
NOT_ROWS = frozenset({"progress", "telemetry"})
"""Tables that say nothing of the journal's content."""


@dataclass(frozen=True, slots=True)
class Section:
    """Records of one kind: their fields, and the values of each in the order of the fields."""

    fields: tuple[str, ...]
    records: list[list[Any]]

    def narrowed(self, fields: Sequence[str]) -> "Section":
        """Return the same records in these fields only. Raises ValueError for an unknown one."""
        if not self.records:
            return Section(tuple(fields), [])
        places = [self.fields.index(name) for name in fields]
        return Section(tuple(fields), [[record[n] for n in places] for record in self.records])

    def summary(self) -> dict[str, Any]:
        """Return what a golden file holds of it."""
        content = b"\n".join(self.lines())
        digest = hashlib.sha256(content).hexdigest()
        return {"fields": " ".join(self.fields), "records": len(self.records), "sha256": digest}

    def lines(self) -> list[bytes]:
        """Return each record as JSON."""
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_SORT_KEYS
        return [orjson.dumps(record, default=_plain, option=options) for record in self.records]


def _plain(value: Any) -> object:
    """Return what JSON has no form for.

    A dataclass without the fields that hold their default: one that is added later changes nothing.
    """
    if isinstance(value, set | frozenset):
        return sorted(value)
    if not dataclasses.is_dataclass(value):
        return str(value)
    stated = ((item, getattr(value, item.name)) for item in dataclasses.fields(value))
    return {item.name: content for item, content in stated if content != _default(item)}


def _default(item: "dataclasses.Field[Any]") -> object:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def folded(stored: Iterable[Stored], cell_id: CellId) -> Cell:
    """Fold a journal, without letting time pass."""
    cell = Cell(cell_id)
    for message in stored:
        apply(cell, message.record())
    return cell


def state_of(cell: Cell) -> dict[str, Section]:
    """Return the account of a state."""
    return {
        "cell": _section([_cell(cell)]),
        "runs": _section(
            {
                "run_id": run.id,
                "name": run.name,
                "opened_at": run.opened_at,
                "tasks": run.task_ids,
                "unfinished": run.unfinished,
            }
            for run in cell.runs.values()
        ),
        "tasks": _section(_task(task) for task in cell.tasks.values()),
        "workers": _section(_worker(worker) for worker in cell.workers.values()),
        "kinds": _section(
            {
                "kind": kind.key,
                "faults": kind.faults,
                "passed": kind.passed,
                "guard": kind.guard,
                "since": kind.since,
                "until": kind.until,
                "cause": kind.cause,
                "count": kind.count,
                "workers": kind.workers,
                "probe": kind.probe,
                "probed": kind.probed,
            }
            for kind in cell.kinds.values()
        ),
        "durations": _section(
            {"signature": key, "count": known.count, "buckets": sorted(known.buckets.items())}
            for key, known in cell.durations.items()
        ),
        "pending": _section({"what": what, "which": which} for what, which in _pending(cell)),
        "counts": _section(
            {"what": what, "count": count}
            for counts in (cell.ended, cell.ignored)
            for what, count in sorted(counts.items())
            if count
        ),
    }


def _section(records: Iterable[dict[str, Any]]) -> Section:
    listed = list(records)
    fields = tuple(listed[0]) if listed else ()
    return Section(fields, [list(record.values()) for record in listed])


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "cell": cell.id,
        "seq": cell.seq,
        "now": cell.now,
        "resumed_at": cell.resumed_at,
        "epoch": cell.epoch,
        "leader_id": cell.leader_id,
        "ranking": cell.ranking,
        "strategy": cell.strategy,
        "timeouts": cell.timeouts,
        "refused": cell.refused,
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "run_id": task.run_id,
        "document": task.spec,
        "fingerprint": task.fingerprint.hex(),
        "seq": task.seq,
        "index": task.index,
        "queued_at": task.queued_at,
        "order": task.order,
        "status": task.status,
        "reason": task.reason,
        "since": task.since,
        "attempt": task.attempt,
        "worker_id": task.worker_id,
        "hardware": task.hardware,
        "devices": task.devices,
        "not_before": task.not_before,
        "waiting_on": task.waiting_on,
        "dependents": task.dependents,
        "retries_used": task.retries_used,
        "faults_used": task.faults_used,
        "refusals_used": task.refusals_used,
        "preemptions_used": task.preemptions_used,
        "timeout_factor": task.timeout_factor,
        "avoid": task.avoid,
        "upstream": task.upstream,
        "cancel": task.cancel,
        "retried_at": task.retried_at,
        "started": task.started,
        "flaky": task.flaky,
        "checkpoint": task.checkpoint,
        "remedy": task.remedy,
    }


def _worker(worker: Worker) -> dict[str, Any]:
    return {
        "worker_id": worker.id,
        "incarnation": worker.incarnation,
        "host": worker.host,
        "capability": worker.capability,
        "simulated": worker.simulated,
        "registered_at": worker.registered_at,
        "drain": worker.drain,
        "status": worker.status,
        "evidence": worker.evidence,
        "running": worker.running,
        "free_slots": worker.free.slots,
        "free_cpus": worker.free.cpus,
        "free_memory_gb": worker.free.memory_gb,
        "free_devices": worker.free.devices,
        "health": worker.health,
        "devices": worker.devices,
    }


def _pending(cell: Cell) -> Iterator[tuple[str, Any]]:
    """Yield what waits for the next decision."""
    yield "judged", list(cell.judged)
    yield "cancelling", list(cell.cancelling)
    yield "doomed", list(cell.doomed.items())
    yield "expiring", list(cell.expiring.items())
    yield "unaccepted", list(cell.unaccepted.items())
    yield "strays", list(cell.strays)
    yield "suspects", list(cell.suspects.items())
    yield "rejoining", sorted(cell.rejoining.items())
    yield "refusals", list(cell.refusals.values())
    yield "held", list(cell.held.items())
    yield "probes", sorted(cell.probes.items())


async def rows_of(
    stored: Sequence[Stored], cell_id: CellId, columns: dict[str, tuple[str, ...]] | None = None
) -> dict[str, Section]:
    """Project a journal and return the account of each table.

    With ``columns`` only of those tables and columns; they have to be there.
    """
    with tempfile.TemporaryDirectory() as directory, opened(Path(directory) / "rows") as store:
        projector = Projector(store, Source(Recording(stored), "golden"), cell=cell_id)
        await projector.start()
        await projector.run(until=stored[-1].seq)
        wanted = columns or _columns_of(store.query)
        found: dict[str, Section] = {}
        for table, names in wanted.items():
            listed = ", ".join(f'"{name}"' for name in names)
            sql = f'SELECT {listed} FROM "{table}" ORDER BY ALL'  # noqa: S608 - names of the catalogue
            answer = store.query(sql, rows_max=ROWS_MAX)
            found[table] = Section(names, [list(row) for row in answer.rows])
        return found


def _columns_of(query: Any) -> dict[str, tuple[str, ...]]:
    """Return the columns of each table of facts."""
    rows = query(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE table_name NOT IN"
        " (SELECT view_name FROM duckdb_views()) ORDER BY table_name, column_index"
    ).rows
    tables: dict[str, tuple[str, ...]] = {}
    for table, column in rows:
        if table not in NOT_ROWS:
            tables[table] = (*tables.get(table, ()), column)
    return tables


def sums_of(report: Report) -> dict[str, int]:
    """Return the audit's sums."""
    return {name: getattr(report, name) for name in SUMS}
