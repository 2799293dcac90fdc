"""Shipped trees on a stream of their own: one message for each part of a file, one for each tree.

Parts are named by their digest; whoever reads one checks that. The stream forgets what was not
written for ``WORKSPACE_DAYS_MAX`` days; writing a part again makes it young again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TypeVar

import orjson

from dtest.errors import InvalidDocument, JournalFull, Unavailable
from dtest.events import subject
from dtest.events.fields import CellId
from dtest.journal.api import ASK_AGAIN_S, ASK_S_MAX, PATIENCE_S, get_info
from dtest.journal.connection import Connection
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.port import Outgoing
from dtest.journal.streams import workspace_name
from dtest.workspaces.manifest import CHUNK_BYTES, Manifest, parse_manifest
from dtest.workspaces.pack import encode, verified

AT_ONCE_MAX = 32
"""Questions under way at one time."""
PART_FRESH_S = 7 * 86_400.0
"""A client need not send a part again that is younger."""
MANIFEST_FRESH_S = 7 * 86_400.0
"""A client need not ship a tree again that is younger: all parts of it last as long again."""
_NOT_FOUND = 404
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept:
    """A message of the stream."""

    payload: bytes
    stored_at: float
    """Seconds since 1970 UTC, by the server's clock."""


class WorkspaceStore:
    """The trees of one cell."""

    def __init__(self, connection: Connection, cell: CellId, *, new_id: Callable[[], str]) -> None:
        self._connection = connection
        self._name = workspace_name(cell)
        self._root = subject.workspace(cell)
        self._stream = JetStreamJournal(connection, self._name, new_id=new_id)
        self._new_id = new_id
        self._is_open = False

    async def part(self, digest: str) -> bytes | None:
        """Return an encoded part, unchecked; none if it is not stored. Raises Unavailable."""
        await self._open()
        kept = await self._get(f"part.{digest}")
        return kept.payload if kept is not None else None

    async def put_parts(self, parts: Iterable[tuple[str, bytes]]) -> None:
        """Store encoded parts under their digests. Raises Unavailable."""
        await self._open()
        await _each(parts, lambda part: self._put(f"part.{part[0]}", part[1]))

    async def stored_at(self, digests: Collection[str]) -> dict[str, float]:
        """Return when parts were stored; those that are not are left out. Raises Unavailable."""
        await self._open()
        found: dict[str, float] = {}

        async def look(digest: str) -> None:
            kept = await self._get(f"part.{digest}")
            if kept is not None:
                found[digest] = kept.stored_at

        await _each(digests, look)
        return found

    async def put_manifest(self, content: bytes) -> None:
        """Store the canonical bytes of a tree whose parts are stored. Raises Unavailable."""
        pieces = [
            content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)
        ]
        parts = [(sha256(piece).hexdigest(), encode(piece)) for piece in pieces]
        await self.put_parts(parts)
        digest = sha256(content).hexdigest()
        await self._put(f"tree.{digest}", orjson.dumps([name for name, _ in parts]))

    async def manifest_stored_at(self, digest: str) -> float | None:
        """Return when a tree was stored; none if it is not. Raises Unavailable."""
        await self._open()
        kept = await self._get(f"tree.{digest}")
        return kept.stored_at if kept is not None else None

    async def manifest(self, digest: str) -> bytes | None:
        """Return the canonical bytes of a tree; none if it, or a part of it, is not stored.

        Raises Unavailable, InvalidDocument if what is stored is not what it was.
        """
        await self._open()
        kept = await self._get(f"tree.{digest}")
        if kept is None:
            return None
        content = bytearray()
        for name in orjson.loads(kept.payload):
            part = await self.part(str(name))
            if part is None:
                return None
            content += verified(str(name), part)
        if sha256(content).hexdigest() != digest:
            message = f"the manifest of workspace {digest} is not what was stored"
            raise InvalidDocument(message)
        return bytes(content)

    async def renew(self, digest: str, *, now: float) -> int:
        """Write a tree that is no longer fresh once more, with its parts; return how many parts.

        Raises Unavailable, InvalidDocument.
        """
        stored_at = await self.manifest_stored_at(digest)
        if stored_at is None or now - stored_at < MANIFEST_FRESH_S:
            return 0
        content = await self.manifest(digest)
        if content is None:
            return 0
        manifest: Manifest = await asyncio.to_thread(parse_manifest, content)
        renewed = 0

        async def renew(part: str) -> None:
            nonlocal renewed
            kept = await self._get(f"part.{part}")
            if kept is not None and now - kept.stored_at >= PART_FRESH_S:
                await self._put(f"part.{part}", kept.payload)
                renewed += 1

        await _each(manifest.chunks, renew)
        await self.put_manifest(content)
        return renewed

    async def _put(self, name: str, payload: bytes) -> None:
        try:
            await self._stream.append(Outgoing(f"{self._root}.{name}", payload, self._new_id()))
        except JournalFull as error:
            message = "the cell has no room for more workspaces"
            hint = "raise it: `dtest server migrate --workspace-bytes N`; see docs/limits.md"
            raise JournalFull(message, hint=hint) from error

    async def _get(self, name: str) -> Kept | None:
        """Ask whichever server holds a copy, patiently."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        where = f"$JS.API.DIRECT.GET.{self._name}.{self._root}.{name}"
        while True:
            try:
                answer = await self._connection.ask(where, b"", timeout_s=ASK_S_MAX)
                if answer.status == 0:
                    stamp = datetime.fromisoformat(answer.headers["Nats-Time-Stamp"])
                    return Kept(answer.payload, stamp.timestamp())
                if answer.status == _NOT_FOUND:
                    return None
                problem = f"status {answer.status}"
            except TimeoutError as error:
                problem = str(error) or "no answer"
            if loop.time() > deadline:
                message = f"{self._name} does not answer: {problem}"
                raise Unavailable(message, hint="is the NATS server up?")
            await asyncio.sleep(ASK_AGAIN_S)

    async def _open(self) -> None:
        """Look whether the stream is there: a question to none would be repeated in vain."""
        if not self._is_open:
            await get_info(self._connection, self._name)
            self._is_open = True


async def _each(items: Iterable[T], call: Callable[[T], Awaitable[None]]) -> None:
    """Call for every item, a few at once; raise what the first failure raised."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await call(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE_MAX):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
