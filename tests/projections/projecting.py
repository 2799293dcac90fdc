"""A projector as a process of its own, to be killed: says on standard output where it stands.

``python -m tests.projections.projecting FILE CELL`` with the server's address in the environment.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dtest.events.fields import CellId
from dtest.journal.streams import journal_name
from dtest.projections.projector import Projector, Source
from dtest.projections.rows import Row
from dtest.projections.store import Progress, Store
from dtest.roles.session import session
from dtest.settings import load_settings


class TellingStore(Store):
    """Says before and after each transaction how far it leads."""

    def write(self, stream: str, progress: Progress, rows: Mapping[str, Sequence[Row]]) -> None:
        """Write and tell."""
        _tell(f"begin {progress.seq}")
        super().write(stream, progress, rows)
        _tell(f"end {progress.seq}")


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(path: Path, cell: CellId) -> None:
    """Project until killed."""
    store = TellingStore(path)
    async with session(load_settings({"cell": cell}), name="tests projector") as opened:
        source = Source(opened.journal, journal_name(cell))
        projector = Projector(store, source, cell=cell)
        await projector.start()
        _tell(f"ready {projector.seq}")
        await projector.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), CellId(sys.argv[2])))
