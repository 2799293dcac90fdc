"""Says whether a journal goes on where an archive ends."""

from contextlib import aclosing
from dataclasses import fields

from dtest.errors import Damaged, SequenceGap
from dtest.journal.port import Bounds, ReadableJournal, Stored, read_to

GAP_HINT = "the archive alone can be read with --offline"


async def check_continues(last: Stored, journal: ReadableJournal) -> Bounds:
    """Return what the journal holds, if it holds the archive's last message or the one after it.

    Raises SequenceGap where messages are in neither, Damaged if the journal's is another message.
    """
    bounds = await journal.bounds()
    if bounds.last < last.seq:
        message = f"the journal ends at {bounds.last}, before the archive's end at {last.seq}"
        raise SequenceGap(message, hint=f"it lost its end, or is another one; {GAP_HINT}")
    if bounds.first > last.seq + 1:
        message = f"the journal begins at {bounds.first}, the archive ends at {last.seq}"
        raise SequenceGap(message, hint=GAP_HINT)
    if bounds.first <= last.seq:
        check_same(last, await read_one(journal, last.seq))
    return bounds


async def read_one(journal: ReadableJournal, seq: int) -> Stored:
    """Return a message that exists, as a reader of the whole journal gets it."""
    async with aclosing(read_to(journal, seq - 1, seq)) as batches:
        return (await anext(batches))[0]


def check_same(archived: Stored | None, stored: Stored) -> None:
    """Raise Damaged unless a message of the journal is the archived one."""
    if archived == stored:
        return
    names = [one.name for one in fields(Stored)]
    differ = [name for name in names if getattr(archived, name, None) != getattr(stored, name)]
    message = (
        f"message {stored.seq} is not the same in the archive and in the journal:"
        f" {', '.join(differ)}"
    )
    raise Damaged(message, hint="`dtest archive verify` shows whether the archive was changed")
