"""What the API does with shipped trees: says what is missing, checks what comes, stores it.

A tree counts as stored once all of its parts are there and young enough to outlast its use.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from dtest.errors import InvalidDocument
from dtest.journal.workspace_store import MANIFEST_FRESH_S, PART_FRESH_S, WorkspaceStore
from dtest.workspaces.manifest import Manifest, parse_manifest
from dtest.workspaces.pack import decode, unpack, verified

MANIFEST_BYTES_MAX = 64 << 20
KNOWN_PARTS_MAX = 200_000
KNOWN_S_MAX = 3_600.0
"""So long it is believed that a part is there: nothing deletes one that is fresh."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What became of a tree."""

    digest: str
    missing: tuple[str, ...]
    """Parts to send first; none if the tree is stored."""


class Shelf:
    """The trees of one cell, as its clients ship them."""

    def __init__(self, store: WorkspaceStore, *, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._known: OrderedDict[str, float] = OrderedDict()
        """Parts that are there and fresh, with the instant at which that was so."""

    async def is_stored(self, digest: str) -> bool:
        """Say whether a tree need not be shipped. Raises Unavailable."""
        stored_at = await self._store.manifest_stored_at(digest)
        return stored_at is not None and self._now() - stored_at < MANIFEST_FRESH_S

    async def place(self, body: bytes) -> Placement:
        """Store a tree if all of its parts are there. Raises InvalidDocument or Unavailable."""
        content, manifest = await asyncio.to_thread(_manifest, body)
        missing = await self._missing(manifest)
        if not missing:
            await self._store.put_manifest(content)
        return Placement(sha256(content).hexdigest(), missing)

    async def add(self, body: bytes) -> int:
        """Store the parts in a pack, or none of them; return how many they are.

        Raises InvalidDocument or Unavailable.
        """
        parts = await asyncio.to_thread(_parts, body)
        await self._store.put_parts(parts)
        now = self._now()
        for digest, _ in parts:
            self._note(digest, now)
        return len(parts)

    async def _missing(self, manifest: Manifest) -> tuple[str, ...]:
        now = self._now()
        chunks = manifest.chunks
        doubtful = [
            chunk for chunk in chunks if now - self._known.get(chunk, -KNOWN_S_MAX) >= KNOWN_S_MAX
        ]
        found = await self._store.stored_at(doubtful)
        fresh = {chunk for chunk, stored_at in found.items() if now - stored_at < PART_FRESH_S}
        for chunk in fresh:
            self._note(chunk, now)
        return tuple(sorted(set(doubtful) - fresh))

    def _note(self, digest: str, now: float) -> None:
        self._known[digest] = now
        self._known.move_to_end(digest)
        if len(self._known) > KNOWN_PARTS_MAX:
            self._known.popitem(last=False)


def _manifest(body: bytes) -> tuple[bytes, Manifest]:
    content = decode(body, bytes_max=MANIFEST_BYTES_MAX)
    manifest = parse_manifest(content)
    if not manifest.entries:
        message = "a workspace holds at least one file"
        raise InvalidDocument(message)
    return content, manifest


def _parts(body: bytes) -> list[tuple[str, bytes]]:
    parts = list(unpack(body))
    if not parts:
        message = "a pack holds at least one part"
        raise InvalidDocument(message)
    for digest, encoded in parts:
        verified(digest, encoded)
    return parts
