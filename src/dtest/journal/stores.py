"""Output and artefacts: the data plane beside the journal."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import ObjectStoreConfig
from nats.js.object_store import ObjectStore

from dtest.errors import NotFound, Unavailable
from dtest.events import subject
from dtest.events.fields import CellId, TaskId
from dtest.journal.connection import Connection
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.port import Outgoing, Stored
from dtest.journal.streams import Limits, artifact_bucket, output_name


class OutputStore:
    """Chunks of output, each under its attempt and offset."""

    def __init__(self, stream: JetStreamJournal, cell: CellId) -> None:
        self._stream = stream
        self._cell = cell

    async def put(self, task_id: TaskId, attempt: int, offset: int, chunk: bytes) -> None:
        """Store a chunk; repeats until acknowledged."""
        name = f"{task_id}.{attempt}.{offset}"
        outgoing = Outgoing(subject.output(self._cell, task_id, attempt), chunk, name)
        while True:
            try:
                await self._stream.append(outgoing)
            except Unavailable:
                continue  # the stream's own retries paced this
            return

    async def chunks(self, task_id: TaskId, attempt: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the stored chunks of an attempt, oldest first, then end."""
        where = subject.output(self._cell, task_id, attempt)
        last = await self._stream.last(where)
        if last is None:
            return
        async for batch in self.follow(task_id, attempt):
            for stored in batch:
                yield _offset(stored), stored.payload
            if batch[-1].seq >= last.seq:
                return

    async def follow(self, task_id: TaskId, attempt: int) -> AsyncIterator[list[Stored]]:
        """Yield the stored chunks of an attempt and those to come."""
        where = subject.output(self._cell, task_id, attempt)
        async with self._stream.follow(0, subject=where) as feed:
            async for batch in feed:
                yield batch


def _offset(stored: Stored) -> int:
    return int(stored.id.rpartition(".")[2] or 0)


def output_stream(
    connection: Connection, cell: CellId, new_id: Callable[[], str]
) -> JetStreamJournal:
    """Return the stream that keeps output."""
    return JetStreamJournal(connection, output_name(cell), new_id=new_id)


class ArtifactStore:
    """Files that attempts left, in JetStream's object store."""

    def __init__(self, connection: Connection, cell: CellId, limits: Limits) -> None:
        self._context: JetStreamContext = connection.client.jetstream()
        self._bucket = artifact_bucket(cell)
        self._limits = limits
        self._store: ObjectStore | None = None
        self._lock = asyncio.Lock()

    async def _open(self) -> ObjectStore:
        async with self._lock:
            if self._store is None:
                try:
                    self._store = await self._context.object_store(self._bucket)
                except nats.js.errors.NotFoundError:
                    config = ObjectStoreConfig(
                        max_bytes=self._limits.artifact_bytes, replicas=self._limits.replicas
                    )
                    self._store = await self._context.create_object_store(self._bucket, config)
            return self._store

    async def put(self, name: str, path: Path) -> None:
        """Store a file. Raises Unavailable."""
        try:
            store = await self._open()
            with path.open("rb") as file:
                await store.put(name, file)
        except (nats.js.errors.Error, TimeoutError) as error:
            message = f"cannot store {name}: {error}"
            raise Unavailable(message) from error

    async def get(self, name: str) -> bytes:
        """Return a file's content. Raises NotFound or Unavailable."""
        try:
            store = await self._open()
            found = await store.get(name)
        except nats.js.errors.NotFoundError as error:
            message = f"no artefact is called {name}"
            raise NotFound(message) from error
        except (nats.js.errors.Error, TimeoutError) as error:
            message = f"cannot read {name}: {error}"
            raise Unavailable(message) from error
        return found.data or b""
