"""A queue of units in memory, with the rules of the one in JetStream but its time limits."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from dtest.journal.queue import Pulled, QueueState


@dataclass
class MemoryQueue:
    """One queue, shared by all who have it."""

    waiting: deque[tuple[str, bytes]] = field(default_factory=deque)
    held: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    beaten: set[str] = field(default_factory=set)
    closed: bool = False
    told: list[bytes] = field(default_factory=list)
    pullers: int = 0
    _ids: set[str] = field(default_factory=set)
    _count: int = 0
    _stir: asyncio.Condition = field(default_factory=asyncio.Condition)
    _ears: list[Callable[[str], None]] = field(default_factory=list)

    async def open(self) -> None:
        """It is there."""

    async def put(self, units: Iterable[tuple[str, bytes]]) -> None:
        """Append what is new."""
        for name, body in units:
            if name not in self._ids:
                self._ids.add(name)
                self.waiting.append((name, body))
        await self._tell()

    async def _tell(self) -> None:
        async with self._stir:
            self._stir.notify_all()

    async def tell(self, documents: Sequence[bytes]) -> None:
        """Keep it."""
        self.told = list(documents)

    async def pull(self, wait_s: float) -> Pulled | None:
        """Hand out the next."""
        self.pullers += 1
        try:
            async with asyncio.timeout(wait_s), self._stir:
                await self._stir.wait_for(lambda: bool(self.waiting))
        except TimeoutError:
            return None
        finally:
            self.pullers -= 1
        self._count += 1
        handle = f"h{self._count}"
        self.held[handle] = self.waiting.popleft()
        return Pulled(self.held[handle][1], handle, 1)

    async def done(self, handle: str) -> None:
        """Take out for good."""
        self.ended.append(self.held.pop(handle)[0])

    async def give_back(self, handle: str) -> None:
        """Put to the front again."""
        if handle in self.held:
            self.waiting.appendleft(self.held.pop(handle))
            await self._tell()

    async def beat(self, handles: Iterable[str]) -> None:
        """Remember who beats."""
        self.beaten.update(handles)

    async def state(self) -> QueueState:
        """Count."""
        return QueueState(len(self.waiting), len(self.held), self.pullers, self.closed)

    async def say_hungry(self, name: str) -> None:
        """Tell all who listen."""
        for heard in self._ears:
            heard(name)

    async def on_hungry(self, heard: Callable[[str], None]) -> Callable[[], Awaitable[None]]:
        """Listen."""
        self._ears.append(heard)

        async def stop() -> None:
            self._ears.remove(heard)

        return stop

    async def leave(self) -> None:
        """Nothing is on its way."""
