"""What all attempts of one agent share, and what they need of the cell."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dtest.agents.checkpoints import CheckpointContext, CheckpointStore
from dtest.agents.preparation import Workshop
from dtest.agents.queue_port import Queue
from dtest.agents.reporter import Reporter
from dtest.agents.usage import ProcessTable
from dtest.agents.workspaces import WorkspaceSource
from dtest.events.fields import TaskId, WorkerId


class Stores(Protocol):
    """Where output, artefacts and checkpoints go, and trees and units of tests come from."""

    @property
    def checkpoints(self) -> CheckpointStore:
        """Where checkpoints lie."""
        ...

    @property
    def workspaces(self) -> WorkspaceSource:
        """Where trees lie."""
        ...

    async def put_output(self, task_id: TaskId, attempt: int, offset: int, chunk: bytes) -> None:
        """Store a chunk of output; returns when it is acknowledged; raises OutputRefused."""
        ...

    async def put_artifact(self, name: str, path: Path) -> None:
        """Store a file under a name; raises DtestError."""
        ...

    def queue(self, name: str) -> Queue:
        """Return the queue of that name."""
        ...


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """What all attempts of one agent share."""

    worker_id: WorkerId
    reporter: Reporter
    stores: Stores
    checkpoints: CheckpointContext
    now: Callable[[], float]
    order: Callable[[dict[str, Any]], None]
    reached: asyncio.Event
    """Set while the keeper takes orders."""
    processes: ProcessTable
    workshop: Workshop
