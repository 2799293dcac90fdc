"""When to write what came: at once where somebody acts on it, else together with what follows."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from dtest.journal.port import Stored

CALM = ".testcase.finished"
"""Subjects that end so are calm: a suite tells many, and nobody acts on a single one."""
GATHERED_MAX = 4_000
"""Most messages that are gathered while nothing is written."""


class Intake:
    """Takes messages from a feed while they wait. Use it as an asynchronous context."""

    def __init__(self, feed: AsyncIterator[list[Stored]]) -> None:
        self._feed = feed
        self._coming: asyncio.Task[list[Stored]] | None = None
        self._wanted = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Nothing is taken before it is asked for."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take no more."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait({self._coming})

    def hurry(self) -> None:
        """Say that somebody waits for what comes."""
        self._wanted.set()

    async def first(self) -> list[Stored]:
        """Wait for the next batch; nothing, once the feed has ended. Raises as the feed does."""
        return await self._next(None) or []

    async def more(self, *, pause_s: float, calm_s: float) -> list[Stored]:
        """Gather what comes in ``pause_s``, and in ``calm_s`` unless that is urgent or wanted."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        gathered: list[Stored] = []
        while len(gathered) < GATHERED_MAX:
            is_calm = not self._wanted.is_set() and all(map(_is_calm, gathered))
            left_s = begun + (calm_s if is_calm else pause_s) - loop.time()
            batch = await self._next(left_s) if left_s > 0 else []
            if batch is not None:
                if not batch:  # too late, or the feed has ended
                    break
                gathered += batch
        self._wanted.clear()
        return gathered

    async def _next(self, wait_s: float | None) -> list[Stored] | None:
        """Return the next batch; none if none came in time, or somebody waits, or there is none."""
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_task(self._take())
        awaited: set[asyncio.Task[object]] = {self._coming}
        if wait_s is not None and not self._wanted.is_set():
            awaited.add(asyncio.get_running_loop().create_task(self._wanted.wait()))
        try:
            await asyncio.wait(awaited, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in awaited - {self._coming}:
                task.cancel()
        if not self._coming.done():
            return None
        batch = self._coming.result()
        if batch:  # else it has ended, and says so whenever it is asked
            self._coming = None
        return batch

    async def _take(self) -> list[Stored]:
        return await anext(self._feed, [])


def _is_calm(stored: Stored) -> bool:
    return stored.subject.endswith(CALM)
