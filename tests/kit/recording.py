"""A journal that was written before, for those who only read."""

from collections.abc import Iterable

from dtest.journal.memory import MemoryJournal
from dtest.journal.port import Bounds, Stored


class Recording(MemoryJournal):
    """Given messages, with whatever is wrong about them."""

    def __init__(self, stored: Iterable[Stored]) -> None:
        super().__init__(clock=lambda: 0.0)
        self._stored = list(stored)

    async def bounds(self) -> Bounds:
        """See ``Journal.bounds``."""
        if not self._stored:
            return Bounds(0, 0, 0, "recording")
        first, last = self._stored[0].seq, self._stored[-1].seq
        return Bounds(first, last, len(self._stored), "recording")
