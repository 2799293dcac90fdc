"""The process of one agent, or of several simulated ones."""

import asyncio
import fcntl
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import structlog

import dtest
from dtest.agents.agent import Agent, AgentIdentity, NoPosition
from dtest.agents.checkpoints import DEFAULT_CHECKPOINTS, CheckpointPolicy
from dtest.agents.environments import EnvironmentPolicy
from dtest.agents.output import OutputRefused
from dtest.agents.probe import declared, detect
from dtest.agents.processes import (
    Caches,
    Clocks,
    ProcessExecutor,
    inherited_environment,
)
from dtest.agents.reporter import Reporter
from dtest.agents.simulated import SimulatedExecutor
from dtest.agents.spool import Spool
from dtest.agents.workspaces import WorkspacePolicy
from dtest.errors import Conflict, Unavailable, UsageError
from dtest.events import subject
from dtest.events.fields import TaskId, WorkerId
from dtest.events.worker import Capability
from dtest.journal.patient import PatientJournal
from dtest.journal.queue import UnitQueue
from dtest.journal.stores import (
    ObjectStore,
    OutputStore,
    artifact_store,
    checkpoint_store,
    output_stream,
)
from dtest.journal.workspace_store import WorkspaceStore
from dtest.roles.session import Session, session
from dtest.runtime.clock import SystemClock
from dtest.runtime.ids import short_id
from dtest.runtime.lifecycle import on_stop_signals
from dtest.runtime.machine import MachineUsage
from dtest.settings import Settings, environment

log = structlog.get_logger()

DRAIN_S_MAX = 10.0
CONNECT_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What an operator states about an agent."""

    worker_id: str = ""
    slots: int | None = None
    declared: Mapping[str, object] = field(default_factory=dict)
    drain_s: float = DRAIN_S_MAX
    checkpoints: CheckpointPolicy = DEFAULT_CHECKPOINTS


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """What the workers of a simulating process pretend to be."""

    kinds: tuple[tuple[str, int], ...]
    """Kinds of hardware with how many workers of each."""
    slots: int = 4
    seconds: float = 0.1
    """How long a task takes that does not say so itself."""
    prefix: str = "sim"


class _Stores:
    """Output, artefacts, checkpoints, workspaces and queues of one agent."""

    def __init__(
        self,
        output: OutputStore,
        artifacts: ObjectStore,
        checkpoints: ObjectStore,
        workspaces: WorkspaceStore,
        queue: Callable[[str], UnitQueue],
    ) -> None:
        self.checkpoints = checkpoints
        self.workspaces = workspaces
        self.queue = queue
        self._output = output
        self._artifacts = artifacts

    async def put_output(self, task_id: TaskId, attempt: int, offset: int, chunk: bytes) -> None:
        """Store a chunk of output, or raise OutputRefused."""
        try:
            await self._output.put(task_id, attempt, offset, chunk)
        except Unavailable as error:
            raise OutputRefused(error.message) from error

    async def put_artifact(self, name: str, path: Path) -> None:
        """Store a file."""
        await self._artifacts.put(name, path)


def default_worker_id() -> WorkerId:
    """Return the host's name as it may stand in a subject."""
    name = socket.gethostname().partition(".")[0].lower()
    kept = "".join(char if subject.TOKEN.fullmatch(char) else "-" for char in name)
    return WorkerId(kept[:60] or "worker")


def _named(name: str) -> WorkerId:
    if not subject.TOKEN.fullmatch(name):
        message = f"{name!r} cannot be the name of a worker"
        raise UsageError(message, hint="up to 100 letters, digits, dashes and underscores")
    return WorkerId(name)


def _lock(directory: Path) -> IO[str]:
    """Hold an agent's directory; a second agent on the same one is refused."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)  # tasks, their output and the keeper's socket are nobody else's
    lock = (directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        message = f"another agent works in {directory}"
        raise Conflict(message, hint="give this one another --name") from error
    return lock


def _incarnation(directory: Path) -> str:
    path = directory / "incarnation"
    with suppress(FileNotFoundError):
        kept = path.read_text().strip()
        if kept:  # else killed while it was written
            return kept
    made = short_id()
    path.write_text(made)
    return made


async def serve_agent(settings: Settings, options: AgentOptions) -> None:
    """Run one agent with real processes until drained by a signal."""
    worker_id = _named(options.worker_id or default_worker_id())
    directory = settings.state_dir / settings.cell / "agents" / worker_id
    lock = _lock(directory)
    with lock:
        found = await asyncio.to_thread(detect, work_dir=directory)
        stated = dict(options.declared)
        if options.slots is not None:
            stated["slots"] = options.slots
        capability = declared.apply(found, stated)
        async with session(
            settings, name=f"dtest agent {worker_id}", wait_s=CONNECT_S_MAX
        ) as opened:
            caches = _caches(settings)
            agent = _real_agent(opened, worker_id, directory, capability, options, caches)
            on_stop_signals(lambda: agent.drain(options.drain_s))
            await agent.run(MachineUsage(str(directory)).figures)
        if agent.left_in_order:
            Spool(directory).forget()


def _caches(settings: Settings) -> Caches:
    """Return what all agents of this machine and cell share. Raises UsageError."""
    return Caches(
        settings.state_dir / settings.cell,
        WorkspacePolicy(int(settings.limit("workspace_cache_bytes"))),
        EnvironmentPolicy(int(settings.limit("environment_cache_bytes"))),
    )


def _real_agent(
    opened: Session,
    worker_id: WorkerId,
    directory: Path,
    capability: Capability,
    options: AgentOptions,
    caches: Caches,
) -> Agent:
    clock = SystemClock()
    journal = PatientJournal(opened.journal)
    identity = AgentIdentity(
        opened.cell,
        worker_id,
        _incarnation(directory),
        socket.gethostname(),
        os.getpid(),
        dtest.__version__,
        simulated=False,
    )
    reporter = Reporter(
        journal,
        cell=opened.cell,
        worker_id=worker_id,
        now=clock.now,
        new_id=opened.new_id,
    )
    output = OutputStore(output_stream(opened.connection, opened.cell, opened.new_id), opened.cell)
    where = (opened.connection, opened.cell)
    workspaces = WorkspaceStore(*where, new_id=opened.new_id)
    queue = partial(UnitQueue, *where)
    stores = _Stores(output, artifact_store(*where), checkpoint_store(*where), workspaces, queue)
    spool = Spool(directory)
    executor = ProcessExecutor(
        spool,
        reporter,
        stores,
        worker_id=worker_id,
        clocks=Clocks(clock.now, clock.monotonic),
        env=inherited_environment(environment()),
        caches=caches,
        checkpoints=options.checkpoints,
    )
    return Agent(
        identity,
        capability,
        journal=journal,
        line=opened.connection,
        reporter=reporter,
        executor=executor,
        position=spool,
        now=clock.now,
    )


async def serve_simulation(settings: Settings, options: SimulationOptions) -> None:
    """Run simulated agents in this process until drained by a signal."""
    async with session(settings, name="dtest simulation", wait_s=CONNECT_S_MAX) as opened:
        agents = [
            _simulated_agent(opened, kind, number, options)
            for kind, count in options.kinds
            for number in range(count)
        ]

        def drain() -> None:
            for agent in agents:
                agent.drain(DRAIN_S_MAX)

        on_stop_signals(drain)
        async with asyncio.TaskGroup() as group:
            for agent in agents:
                group.create_task(agent.run())


def _simulated_agent(opened: Session, kind: str, number: int, options: SimulationOptions) -> Agent:
    clock = SystemClock()
    journal = PatientJournal(opened.journal)
    worker_id = WorkerId(f"{options.prefix}-{kind}-{number}")
    identity = AgentIdentity(
        opened.cell,
        worker_id,
        short_id(),
        socket.gethostname(),
        os.getpid(),
        dtest.__version__,
        simulated=True,
    )
    reporter = Reporter(
        journal,
        cell=opened.cell,
        worker_id=worker_id,
        now=clock.now,
        new_id=opened.new_id,
    )
    capability = declared.apply(declared.simulated(kind, number), {"slots": options.slots})
    executor = SimulatedExecutor(
        reporter,
        worker_id=worker_id,
        now=clock.now,
        default_s=options.seconds,
        devices=capability.devices,
    )
    return Agent(
        identity,
        capability,
        journal=journal,
        line=opened.connection,
        reporter=reporter,
        executor=executor,
        position=NoPosition(),
        now=clock.now,
    )
