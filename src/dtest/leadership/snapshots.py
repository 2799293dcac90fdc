"""Snapshots on disk: who folds the journal need not begin at its start each time.

A file is believed only if it is whole, holds a state of the form and the rules of the code that
reads it, and if the journal holds, at the snapshot's position, the message that it was taken
after. Otherwise the journal is folded from its start: a snapshot saves time, and nothing depends
on it.
"""

import asyncio
import gc
import hashlib
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import orjson
import structlog

from dtest.errors import InvalidDocument
from dtest.events.fields import CellId
from dtest.journal.port import ReadableJournal
from dtest.leadership.rules import CURRENT
from dtest.state.cell import Cell
from dtest.state.snapshot import dump, load
from dtest.state.snapshot_form import form_digest

log = structlog.get_logger()

EVENTS_MIN = 50_000
"""Fewer are folded in less time than a snapshot takes."""
EVENTS_PER_TASK = 0.3
"""So many more are waited for with each task that is remembered: about a tenth of all events."""
IDLE_EVENTS_MIN = 1_000
LOOK_EVERY_S = 2.0
WRITE_S_MAX = 300.0
"""A child that writes for longer hangs, and is ended."""
KEPT = 2


@dataclass(frozen=True, slots=True)
class Basis:
    """What the content of a snapshot depends on."""

    form: str
    """Digest of the state's form."""
    rules: int
    """Version of the rules by which it was folded: what an event means is part of them."""


def current_basis() -> Basis:
    """Return what snapshots of this code depend on."""
    return Basis(form_digest(), CURRENT.version)


class SnapshotFiles:
    """The snapshots of one cell in one directory."""

    def __init__(self, directory: Path, cell: CellId, basis: Basis) -> None:
        self._directory = directory
        self._cell = cell
        self._basis = basis

    async def latest(self, journal: ReadableJournal, *, until: int | None = None) -> Cell:
        """Return the newest state that fits the journal; the empty one if there is none.

        With ``until`` only one that was taken after no later message than that.
        """
        for path in sorted(self._directory.glob("*.snapshot"), reverse=True):
            try:
                if until is not None and int(path.stem) > until:
                    continue
                cell = self._read(path, (await journal.bounds()).created)
                await _check_position(cell, journal)
            except (OSError, ValueError, InvalidDocument) as error:
                log.warning("snapshot_not_used", file=path.name, detail=str(error))
            else:
                log.info("snapshot_used", file=path.name, seq=cell.seq, tasks=len(cell.tasks))
                return cell
        return Cell(self._cell)

    def _read(self, path: Path, stream: str) -> Cell:
        head, _, body = path.read_bytes().partition(b"\n")
        if head != self._head(stream, body):
            message = "it is damaged, or is of another stream, another form or other rules"
            raise InvalidDocument(message)
        return load(body)

    def _head(self, stream: str, body: bytes) -> bytes:
        return orjson.dumps(
            {
                "format": "dtest.snapshot",
                "cell": self._cell,
                "stream": stream,
                **asdict(self._basis),
                "sha256": hashlib.sha256(body).hexdigest(),
            }
        )

    def write(self, cell: Cell, stream: str) -> None:
        """Write a state down, whole or not at all; older files but one are removed."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        body = dump(cell)
        path = self._directory / f"{cell.seq:020}.snapshot"
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            part.touch(mode=0o600, exist_ok=False)
            with part.open("wb") as file:
                file.write(self._head(stream, body) + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        for old in sorted(self._directory.glob("*.snapshot"), reverse=True)[KEPT:]:
            old.unlink(missing_ok=True)


async def _check_position(cell: Cell, journal: ReadableJournal) -> None:
    """Raise InvalidDocument unless the journal goes on where the state stops."""
    stored = await journal.get(cell.seq) if cell.seq else None
    if stored is None or stored.stored_at != cell.now:
        message = f"the journal does not hold the message {cell.seq} that it was taken after"
        raise InvalidDocument(message)


class Folding(Protocol):
    """Who folds a journal."""

    @property
    def cell(self) -> Cell:
        """The state."""
        ...

    @property
    def events(self) -> int:
        """Folded since the snapshot that it began with, or since the journal's start."""
        ...


class SnapshotWriter:
    """Writes snapshots from a forked child: who folds does not stop for them."""

    def __init__(
        self,
        files: SnapshotFiles,
        folding: Folding,
        *,
        stream: str,
        lock: asyncio.Lock | None = None,
        events_min: int = EVENTS_MIN,
    ) -> None:
        self._files = files
        self._folding = folding
        self._stream = stream
        self._lock = lock or asyncio.Lock()
        """Held while the state may not change: where other threads change it."""
        self._events_min = events_min
        self._written_at = 0
        self._seen = -1

    async def run(self) -> None:
        """Write whenever it is worth it, until cancelled.

        Also at once, where much was folded to begin with: who is ended soon again and again would
        else fold more each time.
        """
        while True:
            if self._is_due():
                await self.write()
            await asyncio.sleep(LOOK_EVERY_S)

    def _is_due(self) -> bool:
        events = self._folding.events
        is_idle, self._seen = events == self._seen, events
        wanted = max(self._events_min, EVENTS_PER_TASK * len(self._folding.cell.tasks))
        return events - self._written_at >= (IDLE_EVENTS_MIN if is_idle else wanted)

    async def write(self) -> None:
        """Write the state as it is at this instant; a failure is logged, and tried again later."""
        async with self._lock:
            ended, alive = os.pipe()
            events, seq = self._folding.events, self._folding.cell.seq
            child = os.fork()
            if child == 0:
                self._write_and_exit(alive)
        os.close(alive)
        try:
            async with asyncio.timeout(WRITE_S_MAX):
                await _closed(ended)
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
        except asyncio.CancelledError:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.close(ended)
            _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - it has ended, or is being killed
        self._written_at = events
        code = os.waitstatus_to_exitcode(status)
        log.log(30 if code else 20, "snapshot_written", seq=seq, exit_code=code)

    def _write_and_exit(self, alive: int) -> None:
        """In the child: touch nothing of the parent's, and hold nothing of it, but ``alive``.

        The server would take the parent for connected as long as its socket is open here.
        """
        code = 1
        try:
            gc.disable()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.closerange(3, alive)
            os.closerange(alive + 1, os.sysconf("SC_OPEN_MAX"))
            os.nice(5)
            self._files.write(self._folding.cell, self._stream)
            code = 0
        finally:
            os._exit(code)


async def _closed(descriptor: int) -> None:
    """Wait until the other end of a pipe is closed."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    loop.add_reader(descriptor, closed.set)
    try:
        await closed.wait()
    finally:
        loop.remove_reader(descriptor)
