"""Agents under test: a keeper alone, and an executor on a workbench without network.
Real agents in a real cell: ``tests.agents.cell``.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psutil

from dtest.agents.checkpoints import DEFAULT_CHECKPOINTS
from dtest.agents.environments import EnvironmentPolicy
from dtest.agents.keeper import keeper_command
from dtest.agents.keeper.client import KeeperClient, Message
from dtest.agents.keeper.descendants import MARK
from dtest.agents.processes import Caches, Clocks, ProcessExecutor
from dtest.agents.reporter import Reporter
from dtest.agents.spool import Slot, Spool
from dtest.agents.workspaces import WorkspacePolicy
from dtest.errors import DtestError, NotFound, Unavailable
from dtest.events.attempt import AttemptAssigned, AttemptFinished
from dtest.events.catalogue import Payload
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import TaskId, WorkerId
from dtest.journal.memory import MemoryJournal
from dtest.journal.port import Appended, Guard, GuardRefused, Journal, Outgoing
from dtest.runtime.ids import IdSource
from dtest.workspaces.listing import list_files
from dtest.workspaces.pack import encode
from dtest.workspaces.tree import read_tree
from tests.kit import facts
from tests.kit.nats import eventually
from tests.kit.queue import MemoryQueue

PYTHON = sys.executable
WITHIN_S = 60.0
WORKER = WorkerId("w")
Fact = TypeVar("Fact", bound=Payload)


# --- processes ----------------------------------------------------------------------------------


def marked(directory: Path) -> list[int]:
    """The processes that come of attempts in a directory."""
    found: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            mark = process.environ().get(MARK, "")
            if str(directory) in mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def keepers(directory: Path) -> list[int]:
    """The keepers of a directory and of those below it."""
    found: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if any("keeper.process" in part for part in command) and any(
                part.startswith(str(directory)) for part in command
            ):
                found.append(process.pid)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_all(directory: Path) -> None:
    """Kill whatever works in a directory."""
    for pid in [*keepers(directory), *marked(directory)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- a journal that comes and goes --------------------------------------------------------------


class FickleJournal(MemoryJournal):
    """A journal that can be away, full, or lose its acknowledgements."""

    def __init__(self) -> None:
        super().__init__(clock=time.time)
        self.refusal: DtestError | None = None
        """What every append raises while this is set."""
        self.lost_acknowledgements = 0
        """So many appends are stored and raise all the same."""
        self.attempts = 0
        self.concurrent_max = 0
        self.flowing = asyncio.Event()
        """While this is not set, appends wait."""
        self.flowing.set()
        self._concurrent = 0

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """Store a message, or not."""
        self.attempts += 1
        self._concurrent += 1
        self.concurrent_max = max(self.concurrent_max, self._concurrent)
        try:
            await self.flowing.wait()
            await asyncio.sleep(0)
            if self.refusal is not None:
                raise self.refusal
            result = await super().append(message, guard=guard)
            if self.lost_acknowledgements:
                self.lost_acknowledgements -= 1
                raise Unavailable("the acknowledgement was lost")
            return result
        finally:
            self._concurrent -= 1

    async def records(self) -> list[Recorded]:
        """All messages, decoded."""
        bounds = await self.bounds()
        found = [await self.get(seq) for seq in range(1, bounds.last + 1)]
        return [stored.record() for stored in found if stored is not None]

    async def events(self) -> list[Event]:
        """All events; none may be malformed."""
        events: list[Event] = []
        for record in await self.records():
            for event in record.events:
                assert isinstance(event, Event), event
                events.append(event)
        return events

    async def facts(self, kind: type[Fact]) -> list[Fact]:
        """All facts of one kind, in order."""
        return [event.data for event in await self.events() if isinstance(event.data, kind)]


@asynccontextmanager
async def reporting(journal: Journal, worker_id: WorkerId = WORKER) -> AsyncIterator[Reporter]:
    """Run a reporter."""
    reporter = Reporter(
        journal, cell=facts.CELL, worker_id=worker_id, now=time.time, new_id=IdSource()
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(reporter.run())
        try:
            yield reporter
        finally:
            running.cancel()


# --- a keeper -------------------------------------------------------------------------------


class Keeping:
    """A keeper's directory, and an agent's line to the keeper."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[Message] = []
        self.client = KeeperClient(directory, told=self.said.append)

    @property
    def pid(self) -> int:
        """The keeper's process."""
        assert self.client.pid is not None
        return self.client.pid

    async def connect(self, env: dict[str, str] | None = None) -> list[Message]:
        """Reach the keeper, or start one; as after the loss of a connection if there was one."""
        self.client.close()
        return await self.client.connect({"PATH": os.environ["PATH"], **(env or {})})

    def slot(self, key: str) -> Path:
        """Where an attempt works."""
        return self.directory / key

    def spawn(self, key: str, *argv: str, env: dict[str, str] | None = None) -> None:
        """Order an attempt."""
        slot = self.slot(key)
        slot.mkdir(exist_ok=True)
        order = {"op": "spawn", "key": key, "argv": list(argv), "cwd": str(slot)}
        self.client.order({**order, "env": env or {}, "dir": str(slot)})

    def kill(self, key: str, grace_s: float = 0.0) -> None:
        """Order its end."""
        order = {"op": "kill", "key": key, "grace_s": grace_s, "reason": "cancelled_user"}
        self.client.order(order)

    def heard(self, op: str, key: str | None = None) -> Message | None:
        """What the keeper said of that kind, none if it did not."""
        return next((m for m in self.said if m["op"] == op and key in (None, m.get("key"))), None)

    async def hears(self, op: str, key: str | None = None) -> Message:
        """Wait until the keeper says it."""
        await eventually(lambda: self.heard(op, key) is not None, within_s=WITHIN_S, what=op)
        found = self.heard(op, key)
        assert found is not None
        return found

    async def run(self, key: str, *argv: str, env: dict[str, str] | None = None) -> Message:
        """Order an attempt and wait for its end."""
        self.spawn(key, *argv, env=env)
        return await self.hears("exited", key)

    async def prints(self, key: str, text: bytes) -> None:
        """Wait until the attempt's output holds a text."""
        path = self.slot(key) / "output.log"
        await eventually(
            lambda: path.exists() and text in path.read_bytes(),
            within_s=WITHIN_S,
            what=f"{key} prints {text!r}",
        )

    def output(self, key: str) -> bytes:
        """All that the attempt wrote."""
        return (self.slot(key) / "output.log").read_bytes()


@asynccontextmanager
async def listening(keeping: Keeping) -> AsyncIterator[None]:
    """Hear the keeper for a while."""
    async with asyncio.TaskGroup() as group:
        listener = group.create_task(keeping.client.listen())
        try:
            yield
        finally:
            listener.cancel()


@asynccontextmanager
async def keeping(directory: Path, env: dict[str, str] | None = None) -> AsyncIterator[Keeping]:
    """Run a keeper and hear it; nothing of it is left."""
    opened = Keeping(directory)
    try:
        await opened.connect(env)
        async with listening(opened):
            yield opened
    finally:
        opened.client.order({"op": "quit"})
        opened.client.close()
        end_all(directory)


@contextmanager
def keeper_alone(directory: Path, *, lonely_s_max: float) -> Iterator[subprocess.Popen[bytes]]:
    """Run a keeper without an agent."""
    command = [*keeper_command(directory), str(lonely_s_max)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()
            end_all(directory)


# --- an executor on a workbench -------------------------------------------------------------


class MemoryObjects:
    """Files under names in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.put_refusals: list[DtestError | OSError] = []
        """What the next puts raise."""
        self.fetch_refusals: list[DtestError | OSError] = []
        """What the next fetches raise."""
        self.fetches = 0
        self.flowing = asyncio.Event()
        """While this is not set, nothing is put or fetched."""
        self.flowing.set()

    async def put(self, name: str, path: Path) -> None:
        """Keep a file."""
        await self.flowing.wait()
        if self.put_refusals:
            raise self.put_refusals.pop(0)
        self.files[name] = await asyncio.to_thread(path.read_bytes)

    async def fetch(self, name: str, path: Path) -> None:
        """Write a kept file."""
        self.fetches += 1
        await self.flowing.wait()
        if self.fetch_refusals:
            raise self.fetch_refusals.pop(0)
        if name not in self.files:
            message = f"no file is called {name}"
            raise NotFound(message)
        await asyncio.to_thread(path.write_bytes, self.files[name])


class MemoryTrees:
    """Shipped trees in memory."""

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.fetched: list[str] = []
        """The parts that were asked for, in order."""
        self.refusals: list[DtestError] = []
        """What the next fetches of parts raise."""
        self.flowing = asyncio.Event()
        """While this is not set, no part is fetched."""
        self.flowing.set()

    def hold(self, root: Path) -> str:
        """Keep a directory; return its digest."""
        snapshot = read_tree(root, list_files(root).paths, now=0.0)
        for digest, raw in snapshot.parts(snapshot.manifest.chunks):
            self.parts[digest] = encode(raw)
        self.manifests[snapshot.manifest.digest] = snapshot.manifest.encoded()
        return snapshot.manifest.digest

    async def manifest(self, digest: str) -> bytes | None:
        """See ``WorkspaceSource.manifest``."""
        return self.manifests.get(digest)

    async def part(self, digest: str) -> bytes | None:
        """See ``WorkspaceSource.part``."""
        self.fetched.append(digest)
        await self.flowing.wait()
        if self.refusals:
            raise self.refusals.pop(0)
        return self.parts.get(digest)


class MemoryStores:
    """Output and artefacts in memory, with the rules of the streams."""

    def __init__(self) -> None:
        self.chunks: dict[str, dict[int, bytes]] = {}
        self.artifacts: dict[str, bytes] = {}
        self.checkpoints = MemoryObjects()
        self.workspaces = MemoryTrees()
        self.flowing = asyncio.Event()
        """While this is not set, nothing is acknowledged."""
        self.flowing.set()
        self.queues: defaultdict[str, MemoryQueue] = defaultdict(MemoryQueue)
        self.artifact_refusals: list[DtestError] = []
        """What the next artefacts raise."""

    async def put_output(self, task_id: TaskId, attempt: int, offset: int, chunk: bytes) -> None:
        """Keep the first chunk of each offset."""
        await self.flowing.wait()
        self.chunks.setdefault(f"{task_id}.{attempt}", {}).setdefault(offset, chunk)

    async def put_artifact(self, name: str, path: Path) -> None:
        """Keep a file."""
        await self.flowing.wait()
        if self.artifact_refusals:
            raise self.artifact_refusals.pop(0)
        self.artifacts[name] = await asyncio.to_thread(path.read_bytes)

    def queue(self, name: str) -> MemoryQueue:
        """The one of that name."""
        return self.queues[name]

    def output(self, name: str = "t.1") -> bytes:
        """What was stored of an attempt's output; no chunk may overlap another."""
        return joined_chunks(self.chunks.get(name, {}))


def joined_chunks(chunks: dict[int, bytes]) -> bytes:
    """Chunks by their offset as one text; gaps are left out, overlaps are an error."""
    place, text = 0, b""
    for offset, chunk in sorted(chunks.items()):
        assert offset >= place, f"chunk at {offset} overlaps the one before, which ends at {place}"
        place = offset + len(chunk)
        text += chunk
    return text


class Workbench:
    """An executor of real processes; its journal and stores are in memory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.journal = FickleJournal()
        self.stores = MemoryStores()
        self.checkpoints = replace(DEFAULT_CHECKPOINTS, look_every_s=0.05, fetch_again_s=0.02)
        self.caches = Caches(
            directory / "machine", WorkspacePolicy(fetch_again_s=0.02), EnvironmentPolicy()
        )
        self.reporter: Reporter
        self.executor: ProcessExecutor

    @asynccontextmanager
    async def agent(self) -> AsyncIterator["Workbench"]:
        """Run an executor; leaving is its death: keeper and attempts go on."""
        async with reporting(self.journal) as self.reporter:
            self.executor = ProcessExecutor(
                Spool(self.directory),
                self.reporter,
                self.stores,
                worker_id=WORKER,
                clocks=Clocks(time.time, time.monotonic),
                env={"PATH": os.environ["PATH"]},
                caches=self.caches,
                checkpoints=self.checkpoints,
            )
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self.executor.run())
                try:
                    yield self
                finally:
                    running.cancel()

    def start(self, command: list[str] | str, task: str = "t", **more: Any) -> str:
        """Take an attempt; return its name."""
        config = {"command": command, **more.pop("config", {})}
        assigned = AttemptAssigned(
            TaskId(task),
            more.pop("attempt", 1),
            WORKER,
            "i1",
            "cpu",
            more.pop("type", "command"),
            config=config,
            **more,
        )
        self.executor.start(assigned)
        return f"{assigned.task_id}.{assigned.attempt}"

    async def wait(self, kind: type[Fact], task: str = "t", count: int = 1) -> Fact:
        """Wait until the journal has a fact about a task; return the last one."""
        found: list[Fact] = []

        async def told() -> bool:
            found[:] = [fact for fact in await self.journal.facts(kind) if fact.entity_id == task]
            return len(found) >= count

        await eventually(told, within_s=WITHIN_S, what=f"{kind.__name__} of {task}")
        return found[-1]

    async def ended(self, task: str = "t") -> AttemptFinished:
        """Wait for the one end of a task."""
        return await self.wait(AttemptFinished, task)

    async def run(self, command: list[str] | str, **more: Any) -> AttemptFinished:
        """Take an attempt and wait for its end."""
        name = self.start(command, **more)
        return await self.ended(name.rpartition(".")[0])

    async def prints(self, text: bytes, task: str = "t.1") -> None:
        """Wait until a text of an attempt is stored."""
        await eventually(
            lambda: text in self.stores.output(task), within_s=WITHIN_S, what=f"{text!r} stored"
        )

    def slots(self) -> list[str]:
        """The slots on disk that hold an attempt."""
        paths = sorted((self.directory / "slots").iterdir())
        return [path.name for path in paths if Slot(path).assignment() is not None]

    def keeper_pid(self) -> int:
        """The keeper's process."""
        (pid,) = keepers(self.directory)
        return pid


@asynccontextmanager
async def workbench(directory: Path) -> AsyncIterator[Workbench]:
    """A workbench of which nothing is left."""
    try:
        yield Workbench(directory)
    finally:
        end_all(directory)
