"""Output, artefacts and checkpoints: the data plane beside the journal.

Files lie in the form of JetStream's object store, so that its tools read them. The client's
own object store is not used: it gives up at the first lost answer and waits for ever for a chunk.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

from dtest.errors import JournalFull, NotFound, PermissionRefused, Unavailable
from dtest.events import subject
from dtest.events.fields import CellId, TaskId
from dtest.journal.api import ask_api, get_info
from dtest.journal.connection import Connection
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.port import Outgoing, Stored, read_to
from dtest.journal.streams import artifact_bucket, bucket_stream, checkpoint_bucket, output_name

CHUNK_BYTES = 128 << 10
PIECE_BYTES_MAX = 1 << 20
"""Of output in one answer; the chunk that exceeds it is the last one."""
PUT_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """How far the output of an attempt was read."""

    seq: int = 0
    """Of the last message that was read."""
    offset: int = 0
    """From there on nothing was read: a chunk that starts before was put a second time."""


@dataclass(frozen=True, slots=True)
class OutputFound:
    """Some output of an attempt."""

    data: bytes
    next: OutputPlace
    is_last: bool
    """Nothing more is stored for now."""


class OutputStore:
    """Chunks of output, each under its attempt and offset."""

    def __init__(self, stream: JetStreamJournal, cell: CellId) -> None:
        self._stream = stream
        self._cell = cell

    async def put(self, task_id: TaskId, attempt: int, offset: int, chunk: bytes) -> None:
        """Store a chunk; repeats until acknowledged.

        Raises JournalFull where there is no room, and Unavailable for a stream that does not
        answer though its server does: only while that is away there is something to wait for.
        """
        name = f"{task_id}.{attempt}.{offset}"
        outgoing = Outgoing(subject.output(self._cell, task_id, attempt), chunk, name)
        while True:
            try:
                await self._stream.append(outgoing)
            except JournalFull:
                raise
            except Unavailable:
                if self._stream.is_reachable:
                    raise
                await asyncio.sleep(PUT_AGAIN_S)
                continue
            return

    async def chunks(self, task_id: TaskId, attempt: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the stored chunks of an attempt, each once, oldest first, then end."""
        where = subject.output(self._cell, task_id, attempt)
        last = await self._stream.last(where)
        if last is None:
            return
        reached = -1
        async with aclosing(read_to(self._stream, 0, last.seq, subject=where)) as batches:
            async for batch in batches:
                for stored in batch:
                    offset = _offset(stored)
                    if offset > reached:  # else it was put again after the server forgot its id
                        reached = offset
                        yield offset, stored.payload

    async def after(self, task_id: TaskId, attempt: int, place: OutputPlace) -> OutputFound:
        """Return what is stored after a place, about ``PIECE_BYTES_MAX`` at most."""
        where = subject.output(self._cell, task_id, attempt)
        last = await self._stream.last(where)
        if last is None or last.seq <= place.seq:
            return OutputFound(b"", place, is_last=True)
        chunks: list[bytes] = []
        async with aclosing(read_to(self._stream, place.seq, last.seq, subject=where)) as batches:
            async for batch in batches:
                for stored in batch:
                    offset = _offset(stored)
                    if offset >= place.offset:
                        chunks.append(stored.payload)
                    place = OutputPlace(stored.seq, max(place.offset, offset + 1))
                    if sum(map(len, chunks)) >= PIECE_BYTES_MAX:
                        return OutputFound(b"".join(chunks), place, is_last=place.seq == last.seq)
        return OutputFound(b"".join(chunks), place, is_last=True)

    async def arrival(self, task_id: TaskId, attempt: int, place: OutputPlace) -> None:
        """Wait until something is stored after a place."""
        where = subject.output(self._cell, task_id, attempt)
        last = await self._stream.last(where)
        if last is not None and last.seq > place.seq:
            return
        end = await self._stream.bounds()  # a place beyond it is of another stream
        async with self._stream.follow(min(place.seq, end.last), subject=where) as feed:
            async for _ in feed:
                return


def _offset(stored: Stored) -> int:
    """Read a chunk's place from its id; -1 if somebody else wrote it."""
    place = stored.id.rpartition(".")[2]
    return int(place) if place.isdecimal() else -1


def output_stream(
    connection: Connection, cell: CellId, new_id: Callable[[], str]
) -> JetStreamJournal:
    """Return the stream that keeps output."""
    return JetStreamJournal(connection, output_name(cell), new_id=new_id)


@dataclass(frozen=True, slots=True)
class _Object:
    """Where the chunks of a file lie, and what they add up to."""

    id: str
    digest: str


class ObjectStore:
    """Files under names, in one bucket."""

    def __init__(self, connection: Connection, bucket: str, *, noun: str) -> None:
        """``noun`` is what messages call a file."""
        self._connection = connection
        self._bucket = bucket
        self._noun = noun
        self._name = bucket_stream(bucket)
        self._stream = JetStreamJournal(connection, self._name, new_id=self._new_id)
        self._is_open = False

    async def put(self, name: str, path: Path) -> None:
        """Store a file. Raises Unavailable."""
        await self._open()
        before = await self._find(name)
        try:
            stored = await self._put(name, path)
        except JournalFull as error:
            message = f"cannot store {name}: there is no room for more {self._noun}s"
            raise Unavailable(message, hint="free disk space, or raise their limit") from error
        if before is not None and before.id != stored.id:
            await self._forget(before.id)

    async def _put(self, name: str, path: Path) -> _Object:
        object_id = self._new_id()
        sha256 = hashlib.sha256()
        size = count = 0
        try:
            with path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    sha256.update(chunk)
                    where = self._chunks(object_id)
                    await self._stream.append(Outgoing(where, chunk, f"{object_id}.{count}"))
                    size += len(chunk)
                    count += 1
            digest = f"SHA-256={base64.urlsafe_b64encode(sha256.digest()).decode()}"
            about = {
                "name": name,
                "bucket": self._bucket,
                "nuid": object_id,
                "size": size,
                "chunks": count,
                "digest": digest,
                "options": {"max_chunk_size": CHUNK_BYTES},
            }
            body = json.dumps(about).encode()
            await self._stream.append(Outgoing(self._about(name), body, object_id))
        except BaseException:
            if count:
                await self._forget(object_id)
            raise
        return _Object(object_id, digest)

    async def get(self, name: str) -> bytes:
        """Return a file's content. Raises NotFound or Unavailable."""
        found = await self._found(name)
        content = bytearray()
        async with aclosing(self._read(found)) as chunks:
            async for chunk in chunks:
                content += chunk
        sha256 = await asyncio.to_thread(hashlib.sha256, content)
        if f"SHA-256={base64.urlsafe_b64encode(sha256.digest()).decode()}" != found.digest:
            message = f"the content of {name} is not what was stored"
            raise Unavailable(message, hint="it may just have been replaced: repeat")
        return bytes(content)

    async def fetch(self, name: str, path: Path) -> None:
        """Write a file's content to ``path``, for the caller to check against its digest.

        Raises NotFound, Unavailable or OSError.
        """
        found = await self._found(name)
        async with aclosing(self._read(found)) as chunks:
            with path.open("wb") as file:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)

    async def delete(self, name: str) -> None:
        """Leave nothing of a file; one that is not there is no error. Raises Unavailable.

        Its name goes last: a deletion that was cut short can be repeated.
        """
        await self._open()
        found = await self._find(name)
        if found is not None:
            await self._purge(self._chunks(found.id))
            await self._purge(self._about(name))

    async def names(self) -> list[str]:
        """Return the names of all files. Raises Unavailable."""
        await self._open()
        about = f"$O.{self._bucket}.M."
        found: dict[str, int] = {}
        while True:
            request: dict[str, object] = {"subjects_filter": f"{about}>", "offset": len(found)}
            reply = await ask_api(self._connection, f"STREAM.INFO.{self._name}", request)
            if "error" in reply:
                message = f"{self._name}: {reply['error'].get('description')}"
                raise Unavailable(message)
            page = reply["state"].get("subjects") or {}
            if not page.keys() - found.keys():
                return sorted(_named(where.removeprefix(about)) for where in found)
            found |= page

    async def _found(self, name: str) -> _Object:
        await self._open()
        found = await self._find(name)
        if found is None:
            message = f"no {self._noun} is called {name}"
            raise NotFound(message)
        return found

    async def _read(self, found: _Object) -> AsyncGenerator[bytes, None]:
        where = self._chunks(found.id)
        last = await self._stream.last(where)
        if last is not None:
            async with aclosing(read_to(self._stream, 0, last.seq, subject=where)) as batches:
                async for batch in batches:
                    for stored in batch:
                        yield stored.payload

    async def _purge(self, where: str) -> None:
        reply = await ask_api(self._connection, f"STREAM.PURGE.{self._name}", {"filter": where})
        if "error" in reply:
            message = f"{self._name} does not delete: {reply['error'].get('description')}"
            raise Unavailable(message)

    async def _find(self, name: str) -> _Object | None:
        last = await self._stream.last(self._about(name))
        about = json.loads(last.payload) if last is not None else {}
        if not about or about.get("deleted"):
            return None
        return _Object(str(about["nuid"]), str(about["digest"]))

    async def _forget(self, object_id: str) -> None:
        """Remove chunks that nothing names, if that is possible now: they only take room."""
        with suppress(PermissionRefused, Unavailable):
            await self._purge(self._chunks(object_id))

    async def _open(self) -> None:
        """Look whether the bucket is there: an append to none would be repeated in vain."""
        if not self._is_open:
            await get_info(self._connection, self._name)
            self._is_open = True

    def _new_id(self) -> str:
        return self._connection.client.new_inbox().rpartition(".")[2]

    def _chunks(self, object_id: str) -> str:
        return f"$O.{self._bucket}.C.{object_id}"

    def _about(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def _named(token: str) -> str:
    """Return the name behind a subject's last token; the token itself if others wrote it."""
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        return token


def artifact_store(connection: Connection, cell: CellId) -> ObjectStore:
    """Return the store of files that attempts left."""
    return ObjectStore(connection, artifact_bucket(cell), noun="artefact")


def checkpoint_store(connection: Connection, cell: CellId) -> ObjectStore:
    """Return the store of what attempts go on from."""
    return ObjectStore(connection, checkpoint_bucket(cell), noun="checkpoint")
