"""The checkpoints of one attempt: what it goes on from, and what the next one goes on from.

Whatever lies in the checkpoint directory is stored while the process runs, once its files are
complete. Nothing is deleted here: only the fold knows which checkpoint still counts.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from dtest.agents.archive import (
    Bounds,
    Changed,
    Listing,
    Packed,
    digest,
    look,
    sha256_of,
    unpack,
)
from dtest.agents.keeper.notes import write_json
from dtest.agents.reporter import Reporter
from dtest.agents.spool import Slot
from dtest.errors import DtestError, InvalidDocument, NotFound, Unavailable
from dtest.events.attempt import (
    AttemptAssigned,
    AttemptCheckpointed,
    AttemptCheckpointFailed,
    Checkpoint,
)
from dtest.events.fields import WorkerId
from dtest.runtime.clock import instant

log = structlog.get_logger()

NOTE = "checkpoint.json"
EMPTY = digest(())


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """When checkpoints are taken, how large they may be, how patient their transport is."""

    look_every_s: float = 2.0
    """Also how long nobody may have written to a file for it to count as complete."""
    bounds: Bounds = Bounds(bytes_max=1 << 30, files_max=10_000)  # noqa: RUF009 - it is frozen
    torn_looks_max: int = 5
    """Most looks that are left out after files were caught incomplete."""
    torn_max: int = 5
    """Times in a row that files are caught incomplete before that is told."""
    failed_looks_max: int = 32
    """Most looks that are left out after a checkpoint could not be stored."""
    last_s_max: float = 30.0
    """How long the last checkpoint may hold up the report of an attempt's end."""
    fetch_s_max: float = 300.0
    fetch_again_s: float = 1.0
    fetches_max: int = 3
    """Times that a checkpoint is fetched before it counts as damaged."""


DEFAULT_CHECKPOINTS = CheckpointPolicy()


class CheckpointStore(Protocol):
    """Where checkpoints lie."""

    async def put(self, name: str, path: Path) -> None:
        """Store a file under a name; raises DtestError."""
        ...

    async def fetch(self, name: str, path: Path) -> None:
        """Write a stored file to ``path``; raises NotFound, Unavailable, OSError."""
        ...


@dataclass(frozen=True, slots=True)
class CheckpointContext:
    """What the checkpoints of all attempts of one agent share."""

    worker_id: WorkerId
    reporter: Reporter
    store: CheckpointStore
    now: Callable[[], float]
    policy: CheckpointPolicy


class AttemptCheckpoints:
    """The checkpoints of one attempt."""

    def __init__(self, context: CheckpointContext, assigned: AttemptAssigned, slot: Slot) -> None:
        self._context = context
        self._policy = context.policy
        self._assigned = assigned
        self._slot = slot
        self._key = f"{assigned.task_id}.{assigned.attempt}"
        self._root = slot.path / "checkpoint"
        self._archive = slot.path / "checkpoint.tar"
        noted = slot.note(NOTE, self._key) or {}
        self._number = int(noted.get("number", 0))
        """Of the latest one that may have been stored: no number is used twice."""
        self._taken = str(noted.get("taken", EMPTY))
        """What the directory looked like when it was last stored, or filled."""
        self._acknowledged = asyncio.Event()
        self._acknowledged.set()
        self._torn = 0
        self._failed = 0
        self._told_failure = False
        self.is_saving_last = False

    # -- what it goes on from -----------------------------------------------------------------

    async def restore(self, given: Checkpoint) -> None:
        """Fill the directory.

        Raises Unavailable when the store cannot be reached, InvalidDocument when the checkpoint is
        damaged or gone, OSError when the disk does not take it.
        """
        try:
            try:
                async with asyncio.timeout(self._policy.fetch_s_max):
                    await self._fetch(given)
            except TimeoutError as error:
                message = f"checkpoint {given.object_name} could not be fetched: no answer"
                raise Unavailable(message) from error
            bounds = self._policy.bounds
            await _undisturbed(partial(unpack, self._archive, self._root, bounds))
            self._taken = digest(await asyncio.to_thread(look, self._root, bounds))
            self._note()
        finally:
            self._archive.unlink(missing_ok=True)
        log.info("checkpoint_restored", attempt=self._key, name=given.object_name)

    async def _fetch(self, given: Checkpoint) -> None:
        fetches = 0
        while True:
            try:
                await self._context.store.fetch(given.object_name, self._archive)
            except NotFound as error:
                message = "it is stored no longer"
                raise InvalidDocument(message) from error
            except Unavailable as error:
                log.warning("checkpoint_not_fetched", attempt=self._key, problem=str(error))
            else:
                fetches += 1
                if await asyncio.to_thread(sha256_of, self._archive) == given.sha256:
                    return
                log.error("checkpoint_damaged", attempt=self._key, name=given.object_name)
                if fetches >= self._policy.fetches_max:
                    message = f"{fetches} times its content was not what was stored"
                    raise InvalidDocument(message)
            await asyncio.sleep(self._policy.fetch_again_s)

    # -- what the next one goes on from ---------------------------------------------------------

    async def follow(self) -> None:
        """Store what changes, until cancelled."""
        while True:
            await asyncio.sleep(self._policy.look_every_s * (1 + self._looks_left_out()))
            await self._acknowledged.wait()
            if not self._is_as_ever():
                await self._take(settle_s=self._policy.look_every_s)

    def _looks_left_out(self) -> int:
        if self._failed:
            return min(1 << min(self._failed, 16), self._policy.failed_looks_max)
        return min(self._torn, self._policy.torn_looks_max)

    def _is_as_ever(self) -> bool:
        """Say whether the attempt has no use for checkpoints, as most do not, at no cost."""
        if self._taken != EMPTY:
            return False
        try:
            with os.scandir(self._root) as entries:
                return not any(True for _ in entries)
        except OSError:
            return True  # it removed the directory

    async def last(self, *, by_signal: bool, ended_at: float) -> None:
        """Store what the process left at its end, for ``last_s_max`` seconds at most.

        A process that a signal ended may have been writing: then only what had rested counts.
        """
        if self._is_as_ever():
            return
        rested_at = ended_at - self._policy.look_every_s if by_signal else None
        self.is_saving_last = True
        try:
            async with asyncio.timeout(self._policy.last_s_max):
                await self._take(settle_s=0.0, rested_at=rested_at)
        except TimeoutError:
            text = f"the last checkpoint was not stored within {self._policy.last_s_max:g} s"
            self._tell_failure(text)
        finally:
            self.is_saving_last = False

    async def _take(self, *, settle_s: float, rested_at: float | None = None) -> None:
        try:
            listing = await asyncio.to_thread(look, self._root, self._policy.bounds)
            if digest(listing) == self._taken:
                self._torn = self._failed = 0
            elif rested_at is None or all(
                entry.modified_ns / 1e9 <= rested_at for entry in listing
            ):
                await self._pack(listing, settle_s)
        except Changed:
            self._count_torn()
        except (DtestError, OSError) as error:
            self._failed += 1
            self._tell_failure(f"the checkpoint could not be stored: {error}")

    async def _pack(self, listing: Listing, settle_s: float) -> None:
        packed = Packed(self._root, self._archive, listing)
        try:
            await _undisturbed(packed.fill)
            again = await asyncio.to_thread(look, self._root, self._policy.bounds)
            if again != listing:
                raise Changed
            taken_at = self._context.now()
            await asyncio.sleep(settle_s)
            if not await asyncio.to_thread(packed.is_whole):
                raise Changed
            await self._store(packed, taken_at)
        finally:
            packed.close()

    async def _store(self, packed: Packed, taken_at: float) -> None:
        self._number += 1
        number, taken = self._number, digest(packed.listing)
        self._note()
        name = f"{self._assigned.task_id}/{self._assigned.attempt}/{number}"
        await self._context.store.put(name, packed.path)
        self._taken = taken
        self._torn = self._failed = 0
        self._told_failure = False
        self._acknowledged.clear()
        told = AttemptCheckpointed(
            self._assigned.task_id,
            self._assigned.attempt,
            self._context.worker_id,
            number,
            name,
            packed.size_bytes,
            packed.sha256,
            instant(taken_at),
        )
        self._context.reporter.tell(told, stored=self._recorded)

    def _recorded(self) -> None:
        self._acknowledged.set()
        self._slot.keep(NOTE, self._key, {"number": self._number, "taken": self._taken})

    def _note(self) -> None:
        """Have the number outlive the agent. Raises OSError."""
        content = {"key": self._key, "number": self._number, "taken": self._taken}
        write_json(self._slot.path / NOTE, content)

    def _count_torn(self) -> None:
        self._torn += 1
        if self._torn >= self._policy.torn_max:
            text = (
                "the checkpoint could not be stored: its files change all the time; "
                "write to NAME.tmp and rename it to NAME"
            )
            self._tell_failure(text)

    def _tell_failure(self, detail: str) -> None:
        log.warning("checkpoint_failed", attempt=self._key, detail=detail)
        if not self._told_failure:
            self._told_failure = True
            where = (self._assigned.task_id, self._assigned.attempt, self._context.worker_id)
            self._context.reporter.tell(AttemptCheckpointFailed(*where, detail))


async def _undisturbed(call: Callable[[], None]) -> None:
    """Run a call in a thread, to its end also when the task is cancelled meanwhile."""
    running = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if (error := running.exception()) is not None:
            log.info("interrupted_call_failed", problem=str(error))
        raise
