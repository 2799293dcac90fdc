"""Keeps workspaces from growing old while tasks that need them are unfinished.

The stream forgets by age alone; the leader, by its fold, knows which trees are still waited for.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from dtest.errors import DtestError
from dtest.leadership.leader import Leader
from dtest.state.cell import Cell
from dtest.state.task import TERMINAL

log = structlog.get_logger()

RENEW_EVERY_S = 3_600.0
TASKS_AT_ONCE = 10_000
"""Looked at before others have their turn."""


class Workspaces(Protocol):
    """The store of trees."""

    async def renew(self, digest: str, *, now: float) -> int:
        """Make a tree young if it is old; return how many parts were; raises DtestError."""
        ...


class WorkspaceRenewer:
    """Renews what is needed while its leader leads."""

    def __init__(
        self,
        leader: Leader,
        store: Workspaces,
        *,
        now: Callable[[], float],
        every_s: float = RENEW_EVERY_S,
    ) -> None:
        self._leader = leader
        self._store = store
        self._now = now
        self._every_s = every_s

    async def run(self) -> None:
        """Renew until cancelled; what fails is tried again at the next time."""
        await self._leader.leading.wait()
        while True:
            await asyncio.sleep(self._every_s)
            for digest in await needed(self._leader.cell):
                try:
                    parts = await self._store.renew(digest, now=self._now())
                except DtestError as error:
                    log.warning("workspace_not_renewed", digest=digest, problem=str(error))
                    continue
                if parts:
                    log.info("workspace_renewed", digest=digest, parts=parts)


async def needed(cell: Cell) -> set[str]:
    """Return the trees of unfinished tasks."""
    found: set[str] = set()
    for place, task in enumerate(list(cell.tasks.values())):
        if place % TASKS_AT_ONCE == 0:
            await asyncio.sleep(0)
        if task.status not in TERMINAL and task.spec is not None:
            digest = task.spec.config.get("workspace")
            if isinstance(digest, str):
                found.add(digest)
    return found
