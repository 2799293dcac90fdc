"""Where commands that read the past read it: in the journal, an archive, or both as one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dtest.cli.options import CallOptions
from dtest.errors import UsageError
from dtest.events.fields import CellId

if TYPE_CHECKING:
    from dtest.journal.port import ReadableJournal


@Parameter(name="*", group="Archive")
@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """Which archive to read, and whether alone."""

    archive: Path | None = None
    """Read this archive and the journal as one; what both hold is compared."""
    offline: Annotated[bool, Parameter(negative="")] = False
    """Read the archive alone: no broker is needed."""


JOURNAL_ALONE = ArchiveOptions()


@dataclass(frozen=True, slots=True)
class History:
    """What can be read of one cell."""

    cell: CellId
    journal: "ReadableJournal"


@asynccontextmanager
async def history(
    call: CallOptions, options: ArchiveOptions, *, name: str
) -> AsyncIterator[History]:
    """Open what the options ask for."""
    from dtest.roles.session import session

    if options.archive is None:
        if options.offline:
            message = "--offline reads an archive alone"
            raise UsageError(message, hint="name it by --archive DIR")
        async with session(call.settings(), name=name) as opened:
            yield History(opened.cell, opened.journal)
        return
    from dtest.archive.joined import ArchivedJournal, join
    from dtest.archive.reader import open_archive

    archive = open_archive(options.archive)
    if options.offline:
        yield History(archive.stream.cell, ArchivedJournal(archive))
        return
    async with session(call.settings(), name=name) as opened:
        yield History(opened.cell, await join(archive, opened.journal, opened.cell))
