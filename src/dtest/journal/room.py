"""How full the journal is, and whether clients may still write: the last part is not theirs.

What was accepted will have to be written about: assigned, started, finished. So submissions are
refused at the doors (API, command line) while there is still room for that. It is an estimate; a
journal that is full all the same loses nothing, for agents and leader repeat until there is room.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dtest.errors import JournalFull
from dtest.journal.jetstream import FULL_HINT
from dtest.journal.port import Bounds, Journal

LOOK_EVERY_S = 0.5
TASK_BYTES = 2_048
"""What is written about a task, its document apart. Measured: 1,800 bytes in all for a small task
with one attempt and no test cases."""
DOCUMENT_COPIES = 2
"""A task's document stands in its submission, and again in its assignment."""
FULL_BYTES = 1 << 20
"""No room for the largest message: full for some, though small ones may still fit."""


@dataclass(frozen=True, slots=True)
class Filling:
    """How full the journal is."""

    used_bytes: int
    max_bytes: int | None
    reserve_bytes: int
    """What clients leave to others."""

    @property
    def state(self) -> Literal["open", "reserved", "full"]:
        """Say who may write: all, all but submitting clients, or nobody for certain."""
        if self.max_bytes is None or self.used_bytes < self.max_bytes - self.reserve_bytes:
            return "open"
        fits = min(FULL_BYTES, self.reserve_bytes // 2)
        return "full" if self.used_bytes >= self.max_bytes - fits else "reserved"


class JournalRoom:
    """What clients may still write."""

    def __init__(
        self, journal: Journal, *, reserve_ratio: float, monotonic: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._reserve_ratio = reserve_ratio
        self._monotonic = monotonic
        self._seen: Bounds | None = None
        self._seen_at = 0.0
        self._admitted_bytes = 0
        """Since the last look."""
        self.refused = 0

    async def filling(self, *, unfinished: int) -> Filling:
        """Return how full the journal is, for a cell with so many unfinished tasks."""
        return self._filling(await self._look(), unfinished)

    async def admit(self, document_bytes: int, *, tasks: int, unfinished: int = 0) -> None:
        """Take a submission into account, or raise JournalFull while others still have room."""
        seen = await self._look()
        found = self._filling(seen, unfinished)
        wanted = DOCUMENT_COPIES * document_bytes + tasks * TASK_BYTES
        used_bytes = found.used_bytes + self._admitted_bytes
        if found.max_bytes is not None and used_bytes + wanted > (
            found.max_bytes - found.reserve_bytes
        ):
            self.refused += 1
            message = (
                f"the journal holds {used_bytes} of {found.max_bytes} bytes, and the last"
                f" {found.reserve_bytes} are kept for what was accepted already"
            )
            raise JournalFull(message, hint=FULL_HINT)
        self._admitted_bytes += wanted

    def _filling(self, seen: Bounds, unfinished: int) -> Filling:
        limit = seen.max_bytes
        fixed = int(self._reserve_ratio * limit) if limit is not None else 0
        return Filling(seen.used_bytes, limit, fixed + unfinished * TASK_BYTES)

    async def _look(self) -> Bounds:
        now = self._monotonic()
        if self._seen is None or now - self._seen_at >= LOOK_EVERY_S:
            self._seen = await self._journal.bounds()
            self._seen_at = now
            self._admitted_bytes = 0
        return self._seen
