"""Deletes checkpoints that no attempt can be given any more. The leader does it, by its fold.

An agent must not: cut off from the brokers, it does not know that its attempt was given away, and
would delete what the next attempt goes on from. A fold that is behind only keeps more.
"""

import asyncio
import re
from typing import Protocol

import structlog

from dtest.errors import DtestError
from dtest.events.fields import TaskId
from dtest.leadership.leader import Leader
from dtest.state.cell import Cell
from dtest.state.task import LIVE

log = structlog.get_logger()

SWEEP_EVERY_S = 10.0
_COUNT = re.compile(r"[1-9][0-9]{0,9}")


class CheckpointFiles(Protocol):
    """The object store of checkpoints."""

    async def names(self) -> list[str]:
        """Return the names of all files; raises DtestError."""
        ...

    async def delete(self, name: str) -> None:
        """Leave nothing of a file; raises DtestError."""
        ...


class CheckpointSweeper:
    """Keeps the store of checkpoints small while its leader leads."""

    def __init__(
        self, leader: Leader, files: CheckpointFiles, *, every_s: float = SWEEP_EVERY_S
    ) -> None:
        self._leader = leader
        self._files = files
        self._every_s = every_s

    async def run(self) -> None:
        """Sweep until cancelled; a store that is away is swept later."""
        await self._leader.leading.wait()
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._sweep()
            except DtestError as error:
                log.warning("checkpoints_not_swept", problem=str(error))

    async def _sweep(self) -> None:
        for name in await self._files.names():
            if is_superfluous(self._leader.cell, name):
                await self._files.delete(name)
                log.info("checkpoint_deleted", name=name)


def is_superfluous(cell: Cell, name: str) -> bool:
    """Say whether no attempt will ever be given a checkpoint.

    What no agent named so, and what the fold has not heard of yet, is left alone: it goes with age.
    """
    task_id, attempt, number = _parsed(name)
    task = cell.tasks.get(TaskId(task_id))
    if task is None or attempt > task.attempt:
        return False
    counts = task.checkpoint
    place = (counts.attempt, counts.number) if counts is not None else (0, 0)
    if (attempt, number) == place:
        return False
    may_be_told_yet = attempt == task.attempt and task.status in LIVE and (attempt, number) > place
    return not may_be_told_yet


def _parsed(name: str) -> tuple[str, int, int]:
    """Return task, attempt and number; a task that cannot exist for any other name."""
    match name.split("/"):
        case [task_id, attempt, number] if _COUNT.fullmatch(attempt) and _COUNT.fullmatch(number):
            return task_id, int(attempt), int(number)
        case _:
            return "", 0, 0
