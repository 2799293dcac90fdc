"""What is known of a run by a journal, or an archive of one, alone: no API, no read model kept."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from dtest.errors import NotFound
from dtest.events.fields import CellId
from dtest.journal.port import ReadableJournal
from dtest.projections.plain import readable
from dtest.projections.projector import Projector, Source
from dtest.projections.store import Store
from dtest.reports.muting import KnownFlaky
from dtest.reports.observation import Known
from dtest.reports.reading import has_ended, known_of, muted_of, observation_of, planned_of

RUN = "SELECT * FROM run_summary WHERE run_id = ?"
SUITE = "SELECT * FROM suites WHERE run_id = ?"
TASKS = "SELECT * FROM tasks WHERE run_id = ?"
ATTEMPTS = "SELECT attempts.* FROM attempts JOIN tasks USING (task_id) WHERE run_id = ?"
CASES = "SELECT * FROM testcases WHERE run_id = ? ORDER BY seq, ordinal"
PLANNED = "SELECT * FROM planned WHERE run_id = ? ORDER BY seq, idx"
ROWS_MAX = 1_000_000
JSON = frozenset(
    {"labels", "document", "artifacts", "properties", "suite_properties"}
    | {"muted", "notes", "counts"}
)
"""Columns that hold JSON."""
Past = tuple[Known, KnownFlaky | None]
_RUNS = "SELECT run_id FROM runs ORDER BY opened_at DESC, run_id"


async def known_from(
    journal: ReadableJournal, cell: CellId, run: str
) -> tuple[Known, KnownFlaky | None]:
    """Return what is known of a run, and the list of known flaky tests that a suite was given.

    ``run`` is an id, a unique beginning of one, or ``@last``. Raises NotFound, and as the journal.
    """
    bounds = await journal.bounds()
    with tempfile.TemporaryDirectory(prefix="dtest-past-") as place:
        store = Store(Path(place) / "past.duckdb")
        try:
            projector = Projector(store, Source(journal, "past"), cell=cell)
            await projector.start()
            await projector.run(until=bounds.last)
            return await asyncio.to_thread(_read, store, run)
        finally:
            store.close()


def _read(store: Store, run: str) -> Past:
    def rows(sql: str, *words: object) -> list[dict[str, Any]]:
        answer = store.query(sql, list(words), rows_max=ROWS_MAX)
        return [readable(record, JSON) for record in answer.records()]

    names = [row["run_id"] for row in rows(_RUNS)]
    run_id = _named(names, run)
    (found,) = rows(RUN, run_id)
    suite = next(iter(rows(SUITE, run_id)), None)
    known = known_of(
        {**found, "finished": has_ended(found, suite)},
        tasks=rows(TASKS, run_id),
        attempts=rows(ATTEMPTS, run_id),
        observed=map(observation_of, rows(CASES, run_id)),
        planned=map(planned_of, rows(PLANNED, run_id)),
        suite=suite,
    )
    return known, muted_of(suite) if suite is not None else None


def _named(names: list[str], run: str) -> str:
    if run == "@last" and names:
        return names[0]
    begins = [name for name in names if name.startswith(run)] if run else []
    found = [name for name in names if name == run] or begins
    if len(found) == 1:
        return found[0]
    message = f"{'more than one' if found else 'no'} run is called {run!r}"
    raise NotFound(message, hint="`dtest event replay` shows what a journal holds")
