"""A journal that was read, once more in memory: to check and to rehearse on without its brokers."""

from collections.abc import Iterable
from pathlib import Path

from dtest.events.fields import CellId
from dtest.journal.memory import MemoryJournal
from dtest.journal.port import Outgoing, Stored
from dtest.journal.streams import journal_name
from dtest.projections.projector import Projector, Source
from dtest.projections.store import opened


async def replica(messages: Iterable[Stored]) -> MemoryJournal:
    """Return a journal that holds the same messages at the same numbers and instants."""
    at = [0.0]
    journal = MemoryJournal(clock=lambda: at[0])
    for stored in messages:
        at[0] = stored.stored_at
        await journal.append(Outgoing(stored.subject, stored.payload, f"replica-{stored.seq}"))
    return journal


async def projection_differences(
    journal: MemoryJournal, cell: CellId, file: Path, fresh: Path
) -> list[str]:
    """Project a journal from zero to where a read model stands; say in which tables it differs."""
    source = Source(journal, journal_name(cell))
    with opened(file) as store:
        progress = store.progress(source.name)
        found = store.fingerprints()
    if progress is None:
        return ["the read model says nothing of this journal"]
    last = (await journal.bounds()).last
    if progress.seq > last:
        return [
            f"the read model stands at {progress.seq}, the messages that were read end at {last}"
        ]
    with opened(fresh) as store:
        projector = Projector(store, source, cell=cell)
        await projector.start()
        await projector.run(until=progress.seq)
        wanted = store.fingerprints()
    return [
        f"the read model's {table} has {found.get(table)}, a replay from zero {wanted[table]}"
        for table in wanted
        if found.get(table) != wanted[table]
    ]
