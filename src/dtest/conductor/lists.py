"""Lists of tests in the journal: told once, read by their digest."""

from dtest.conductor.following import View
from dtest.conductor.office import Pen
from dtest.errors import Damaged
from dtest.events import subject
from dtest.events.envelope import Event
from dtest.events.suite_list import ListPart, SuiteListed
from dtest.journal.port import ReadableJournal, read_to
from dtest.state.cell import Cell
from dtest.suites.suite import Suite, digest_of, joined_parts


async def tell_list(suite: Suite, view: View, pen: Pen) -> str:
    """Tell a list unless an equal one is told; go on where somebody was cut off."""
    parts = suite.parts()
    digest = digest_of(parts)
    known = view.cell.lists.get(digest)
    for place in range(known.told if known is not None else 0, len(parts)):
        await view.reached(await pen.decide([SuiteListed(digest, place, parts[place])]))
    return digest


async def read_list(journal: ReadableJournal, cell: Cell, digest: str) -> Suite:
    """Return a list. Raises Damaged if it is not what its digest says."""
    known = cell.lists[digest]
    where = subject.listed(cell.id, digest)
    found: list[ListPart] = []
    async for batch in read_to(journal, known.first_seq - 1, known.last_seq, subject=where):
        for stored in batch:
            for event in stored.record().events:
                data = event.data if isinstance(event, Event) else None
                if isinstance(data, SuiteListed) and data.part == len(found):
                    found.append(data.content)
    if digest_of(found) != digest:
        message = f"the list {digest} is not what its digest says"
        raise Damaged(message, hint="`dtest event verify` says what else does not hold")
    return joined_parts(found)
