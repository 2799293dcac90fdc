"""What a drill keeps once a check did not hold: the journal, and what the processes said."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from dtest.archive.archiver import Archiver, SegmentSize
from dtest.archive.manifest import Entry, Stream
from dtest.archive.writer import writing
from dtest.events.fields import CellId
from dtest.journal.memory import MemoryJournal

JOURNAL = "journal"
LOGS = "logs"


async def keep(journal: MemoryJournal, cell: CellId, *, logs: Iterable[Path], to: Path) -> Path:
    """Write a journal as an archive, and copy logs, into a new directory below ``to``.

    ``dtest drill replay --journal`` reads that archive. Raises OSError.
    """
    directory = _new_directory(to)
    with writing(directory / JOURNAL, Stream(cell, (await journal.bounds()).created)) as writer:
        await Archiver(journal, writer, SegmentSize(), written=_no_word).catch_up()
    (directory / LOGS).mkdir()
    for log in logs:
        shutil.copy2(log, directory / LOGS)
    return directory


def _no_word(_: Entry) -> None:
    return


def _new_directory(to: Path) -> Path:
    """Make a directory that was not there, numbered if it has to be."""
    number = 1
    while True:
        found = to if number == 1 else to.with_name(f"{to.name}-{number}")
        try:
            found.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return found
