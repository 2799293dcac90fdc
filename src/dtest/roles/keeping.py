"""When a cell that stays after its call ends: see ``runtime.kept``."""

import asyncio
from dataclasses import dataclass

import structlog

from dtest.runtime.kept import CallerLock, Watched, is_unchanged

log = structlog.get_logger()

LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Keeping:
    """The end of such a cell, as its supervisor sees it come."""

    lock: CallerLock
    watched: Watched
    """What it must not outlive: checkout, settings, interpreter."""

    async def until_unwanted(self) -> None:
        """Wait until nobody will use the cell; the lock is taken then, so that nobody can.

        That is when its caller died, when nobody came for as long as the last one said, or when
        something has changed that it must not outlive.
        """
        loop = asyncio.get_running_loop()
        idle_since: float | None = None
        stamp = 0
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self.lock.take():
                idle_since = None
                continue
            if idle_since is None or stamp != self.lock.stamp():  # somebody was here meanwhile
                idle_since, stamp = loop.time(), self.lock.stamp()
            why = self._why_unwanted(loop.time() - idle_since)
            if why:
                log.info("cell_not_kept", reason=why)
                return
            self.lock.give_back()

    def _why_unwanted(self, idle_s: float) -> str:
        will = self.lock.will()
        if will is None or will.keep_s is None:
            return "its caller died"
        if not is_unchanged(self.watched):
            return "its checkout or settings changed"
        return f"nobody came for {will.keep_s:g} s" if idle_s >= will.keep_s else ""
