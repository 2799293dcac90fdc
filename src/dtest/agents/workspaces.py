"""Trees for attempts: fetched once on a machine, then each attempt gets a copy of its own.

Files are copied, not linked: a test that writes into one changes neither the cache nor the tree of
another attempt.
"""

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from dtest.agents.filelock import waiting_for
from dtest.agents.parts import Lost, PartCache
from dtest.errors import InvalidDocument, NotFound, Unavailable
from dtest.workspaces.manifest import File, Link, Manifest, parse_manifest
from dtest.workspaces.pack import verified

log = structlog.get_logger()

FETCHING_MAX = 16
"""Parts that are fetched at once."""
LOCKS = 64
"""Files that locks stand on: a bound, so that two trees may wait for each other for nothing."""


class WorkspaceSource(Protocol):
    """Where trees and their parts lie."""

    async def manifest(self, digest: str) -> bytes | None:
        """Return a tree's canonical bytes; none if it is not stored; raises DtestError."""
        ...

    async def part(self, digest: str) -> bytes | None:
        """Return an encoded part, unchecked; none if it is not stored; raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class WorkspacePolicy:
    """How patient the transport is, and what is kept."""

    cache_bytes_max: int = 4 << 30
    fetch_s_max: float = 600.0
    fetches_max: int = 3
    """Times that a part is asked for which is missing or damaged."""
    fetch_again_s: float = 1.0


class WorkspaceCache:
    """The trees on one machine."""

    def __init__(
        self,
        root: Path,
        source: WorkspaceSource,
        *,
        policy: WorkspacePolicy,
        now: Callable[[], float],
    ) -> None:
        self._source = source
        self._policy = policy
        self._locks = root / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        self._cache = PartCache(root, bytes_max=policy.cache_bytes_max, now=now)

    async def lay_out(self, digest: str, target: Path) -> Manifest:
        """Make ``target`` a copy of a tree, whatever was there; return what it holds.

        Raises NotFound for a tree that the cell does not have, Unavailable when it cannot be
        fetched whole, OSError when the disk does not take it.
        """
        try:
            async with asyncio.timeout(self._policy.fetch_s_max):
                manifest = await self._fetched_manifest(digest)
                with self._cache.using([*manifest.chunks, digest]):
                    await self._lay_out(digest, manifest, target)
        except TimeoutError as error:
            message = f"workspace {digest[:12]} was not fetched in {self._policy.fetch_s_max:g} s"
            raise Unavailable(message) from error
        removed = await asyncio.to_thread(self._cache.shrink)
        if removed:
            log.info("workspace_cache_shrunk", removed_bytes=removed)
        return manifest

    async def _lay_out(self, digest: str, manifest: Manifest, target: Path) -> None:
        for _ in range(self._policy.fetches_max):
            await self._fetch_missing(digest, manifest)
            try:
                await _in_thread(lambda stop: write_tree(manifest, target, self._cache.read, stop))
            except Lost as lost:  # damaged, or another agent made room: fetched again
                log.warning("workspace_part_lost", part=lost.digest)
                await asyncio.to_thread(self._drop_damaged, manifest)
            else:
                return
        message = f"workspace {digest[:12]}: its parts get lost on this worker's disk"
        raise Unavailable(message)

    def _drop_damaged(self, manifest: Manifest) -> None:
        """Look at every part: after the loss of power, many are torn."""
        for chunk in manifest.chunks:
            with suppress(Lost):
                self._cache.read(chunk)

    async def _fetched_manifest(self, digest: str) -> Manifest:
        try:
            content: bytes | None = await asyncio.to_thread(self._cache.read, digest)
        except Lost:
            content = await self._source_manifest(digest)
            await asyncio.to_thread(self._cache.add, digest, content)
        try:
            return await asyncio.to_thread(parse_manifest, content or b"")
        except InvalidDocument as error:
            message = f"workspace {digest[:12]} cannot be laid out: {error.message}"
            raise NotFound(message) from error

    async def _source_manifest(self, digest: str) -> bytes:
        problem = ""
        for fetches in range(self._policy.fetches_max):
            if fetches:
                await asyncio.sleep(self._policy.fetch_again_s)
            try:
                content = await self._source.manifest(digest)
            except InvalidDocument as error:
                problem = error.message
                continue
            if content is not None:
                return content
            problem = ""
        if problem:
            raise Unavailable(problem)
        message = f"workspace {digest[:12]} is not stored: never shipped, or too long ago"
        raise NotFound(message, hint="ship it again")

    async def _fetch_missing(self, digest: str, manifest: Manifest) -> None:
        """Fetch what is not here; who comes meanwhile for the same tree waits, and finds it."""
        async with waiting_for(self._locks / f"{int(digest[:8], 16) % LOCKS:02d}"):
            missing = await asyncio.to_thread(
                lambda: [chunk for chunk in manifest.chunks if not self._cache.has(chunk)]
            )
            if missing:
                await self._fetch(missing)
                log.info("workspace_fetched", digest=digest, parts=len(missing))

    async def _fetch(self, digests: list[str]) -> None:
        waiting = iter(digests)

        async def work() -> None:
            for digest in waiting:
                content = await self._fetched_part(digest)
                await asyncio.to_thread(self._cache.add, digest, content)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(FETCHING_MAX, len(digests))):
                    group.create_task(work())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _fetched_part(self, digest: str) -> bytes:
        problem = ""
        for fetches in range(self._policy.fetches_max):
            if fetches:
                await asyncio.sleep(self._policy.fetch_again_s)
            encoded = await self._source.part(digest)
            if encoded is None:
                problem = "it is not stored"
                continue
            try:
                return verified(digest, encoded)
            except InvalidDocument as error:
                problem = error.message
                log.warning("workspace_part_damaged", part=digest)
        message = f"part {digest[:12]} of the workspace cannot be had: {problem}"
        raise Unavailable(message, hint="ship the workspace again")


def write_tree(
    manifest: Manifest, target: Path, read: Callable[[str], bytes], stop: threading.Event
) -> None:
    """Make ``target`` a copy of a tree. Raises OSError, and whatever ``read`` raises.

    Only directories that are made here are entered, and links are made last: nothing is written
    outside, whatever the links say.
    """
    clear(target)
    made: set[str] = set()
    root = str(target)
    for entry in manifest.entries:
        if stop.is_set():
            return
        parent = entry.path.rpartition("/")[0]
        if parent and parent not in made:
            os.makedirs(f"{root}/{parent}", exist_ok=True)  # noqa: PTH103 - many short calls
            made.add(parent)
        if isinstance(entry, File):
            _write_file(f"{root}/{entry.path}", entry, read)
    for entry in manifest.entries:
        if isinstance(entry, Link):
            (target / entry.path).symlink_to(entry.target)


def _write_file(path: str, file: File, read: Callable[[str], bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o755 if file.is_executable else 0o644)
    with os.fdopen(descriptor, "wb") as written:
        for chunk in file.chunks:
            written.write(read(chunk))


def clear(target: Path) -> None:
    """Make ``target`` an empty directory. Raises OSError."""
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)


async def _in_thread(call: Callable[[threading.Event], None]) -> None:
    """Run a call in a thread; when cancelled, have it stop, and wait for that."""
    stop = threading.Event()
    running = asyncio.get_running_loop().run_in_executor(None, call, stop)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        if (error := running.exception()) is not None:
            log.info("interrupted_call_failed", problem=str(error))
        raise
