"""A real cell for tests of agents: a server, a leader in this process, agents as processes."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from dtest.client import Client
from dtest.events.attempt import AttemptFinished, AttemptStarted
from dtest.events.catalogue import ClientPayload
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import CellId, TaskId, WorkerId
from dtest.events.task import Requirements, TaskQueued
from dtest.events.worker import WorkerRegistered
from dtest.journal.stores import OutputStore, artifact_store, checkpoint_store, output_stream
from dtest.journal.streams import Limits
from dtest.journal.workspace_store import WorkspaceStore
from dtest.leadership.checkpoints import CheckpointSweeper
from dtest.leadership.detector import Detector
from dtest.leadership.follower import Follower
from dtest.leadership.leader import Identity, Leader
from dtest.runtime.clock import SystemClock
from dtest.runtime.ids import short_id
from dtest.state.cell import Cell
from dtest.state.task import TERMINAL, Task
from dtest.workspaces.listing import list_files
from dtest.workspaces.pack import encode
from dtest.workspaces.tree import read_tree
from tests.kit import facts
from tests.kit.agent import PYTHON, WITHIN_S, Fact, end_all, joined_chunks, keepers
from tests.kit.nats import LIMITS, NatsCell, Server, eventually, joined
from tests.kit.world import rules

HASTY = rules(fault_delay_s=0.1, refusal_delay_s=0.05)


class AgentProcess:
    """One agent, as an operator starts it; the process may die and be started again."""

    def __init__(self, cell: "RealCell", name: str, options: tuple[str, ...]) -> None:
        self.name = WorkerId(name)
        self.directory = cell.directory / "state" / cell.id / "agents" / name
        self.log = cell.directory / f"{name}.log"
        self._cell = cell
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self._started_after = 0

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> "AgentProcess":
        """Start it and wait until it is registered."""
        self._started_after = len(self._cell.history)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                PYTHON,
                *("-m", "dtest.roles.agent_main", "--name", self.name, *self._options),
                env=self._cell.agent_env(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await eventually(self._is_registered, within_s=WITHIN_S, what=f"{self.name} registers")
        return self

    def _is_registered(self) -> bool:
        process = self._process
        assert process is not None
        assert process.returncode is None, self.log.read_text()
        return any(
            isinstance(event.data, WorkerRegistered) and event.data.worker_id == self.name
            for event in self._cell.events(self._started_after)
        )

    async def kill(self) -> None:
        """Let the agent die without a word; keeper and attempts are other groups."""
        await self._signal(signal.SIGKILL)

    async def terminate(self) -> int:
        """Have it drain; return its exit code."""
        return await self._signal(signal.SIGTERM)

    async def _signal(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        async with asyncio.timeout(WITHIN_S):
            return await process.wait()

    async def end(self) -> None:
        """Have nothing of it left."""
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    def keeper_pid(self) -> int:
        """Its keeper's process."""
        (pid,) = keepers(self.directory)
        return pid


class RealCell:
    """A server, a leader in this process, a client, and agents as processes."""

    def __init__(self, server: Server, opened: NatsCell, directory: Path) -> None:
        self.server = server
        self.opened = opened
        self.id = opened.cell
        self.directory = directory
        self.history: list[Recorded] = []
        self.leader = Leader(
            opened.journal,
            Follower(opened.journal, Cell(self.id)),
            identity=Identity(self.id, "leader", "here", "0"),
            clock=SystemClock(),
            new_id=opened.new_id,
            rules=HASTY,
        )
        self.outputs = OutputStore(
            output_stream(opened.connection, self.id, opened.new_id), self.id
        )
        self.artifacts = artifact_store(opened.connection, self.id)
        self.checkpoints = checkpoint_store(opened.connection, self.id)
        self.workspaces = WorkspaceStore(opened.connection, self.id, new_id=opened.new_id)
        self.agents: list[AgentProcess] = []
        self._count = 0

    async def read(self) -> None:
        """Collect what the journal says, until cancelled."""
        async with self.opened.journal.follow(0) as feed:
            async for batch in feed:
                self.history += [stored.record() for stored in batch]

    async def lead(self, *, detects: bool) -> None:
        """Decide, until cancelled; with or without watching who is silent."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.leader.follower.run())
            group.create_task(self.leader.run())
            sweeper = CheckpointSweeper(self.leader, self.checkpoints, every_s=0.2)
            group.create_task(sweeper.run())
            if detects:
                detector = Detector(
                    self.leader, self.opened.connection, cell=self.id, monotonic=time.monotonic
                )
                group.create_task(detector.run())

    def agent_env(self) -> dict[str, str]:
        """The environment of an agent, its secrets included."""
        kept = {name: value for name, value in os.environ.items() if name[:6] != "DTEST_"}
        address = self.server.address
        return {
            **kept,
            "DTEST_CELL": self.id,
            "DTEST_STATE_DIR": str(self.directory / "state"),
            "DTEST_NATS_URL": address.servers[0],
            "DTEST_NATS_USER": address.user or "",
            "DTEST_NATS_PASSWORD": address.password or "",
            "DTEST_TOKEN": "a token of the API",
        }

    def agent(self, name: str = "w1", *options: str) -> AgentProcess:
        """An agent that is not started yet."""
        made = AgentProcess(self, name, options)
        self.agents.append(made)
        return made

    # -- given and when -----------------------------------------------------------------------

    async def submit(self, command: list[str] | str, task: str = "", **more: Any) -> str:
        """Queue a task; return its id."""
        self._count += 1
        task = task or f"task-{self._count}"
        config = more.pop("config", {"command": command})
        await self.say(TaskQueued(TaskId(task), more.pop("type", "command"), config, **more))
        return task

    async def ship(self, root: Path) -> str:
        """Store a tree; return its name."""
        snapshot = read_tree(root, list_files(root).paths, now=0.0)
        wanted = snapshot.manifest.chunks
        parts = [(digest, encode(raw)) for digest, raw in snapshot.parts(wanted)]
        await self.workspaces.put_parts(parts)
        await self.workspaces.put_manifest(snapshot.manifest.encoded())
        return snapshot.manifest.digest

    def only(self, agent: AgentProcess) -> Requirements:
        """What only an agent has that was started with ``--label only=NAME``."""
        return Requirements(labels={"only": agent.name})

    async def test(self, suite: Path, *paths: str, **more: Any) -> str:
        """Queue a test task; pytest starts without the plugins of this project."""
        config = {"paths": list(paths or ["."]), "cwd": str(suite), **more.pop("config", {})}
        config["env"] = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return await self.submit("", type="test", config=config, **more)

    async def say(self, *facts_said: ClientPayload) -> None:
        """Have a client write."""
        client = Client(
            self.opened.journal,
            cell=self.id,
            client_id=facts.CLIENT,
            now=time.time,
            new_id=self.opened.new_id,
        )
        await client.say(facts_said)

    async def run(self, command: list[str] | str, **more: Any) -> AttemptFinished:
        """Queue a task and wait for its end."""
        return await self.finished(await self.submit(command, **more))

    # -- then ---------------------------------------------------------------------------------

    def events(self, after: int = 0) -> list[Event]:
        """All events; none may be malformed."""
        found: list[Event] = []
        for record in self.history[after:]:
            for event in record.events:
                assert isinstance(event, Event), event
                found.append(event)
        return found

    def facts(self, kind: type[Fact], task: str | None = None) -> list[Fact]:
        """All facts of one kind, in order."""
        return [
            event.data
            for event in self.events()
            if isinstance(event.data, kind) and task in (None, event.data.entity_id)
        ]

    async def wait(self, kind: type[Fact], task: str, count: int = 1) -> Fact:
        """Wait for a fact about a task, or so many; return the last one."""
        await eventually(
            lambda: len(self.facts(kind, task)) >= count,
            within_s=WITHIN_S,
            what=f"{kind.__name__} of {task}",
        )
        return self.facts(kind, task)[-1]

    async def finished(self, task: str) -> AttemptFinished:
        """Wait until a task is at its end; return how its last attempt ended."""
        await self.terminal(task)
        seq = self.leader.cell.seq
        await eventually(
            lambda: bool(self.history) and self.history[-1].seq >= seq,
            within_s=WITHIN_S,
            what=f"message {seq} is read",
        )
        return await self.wait(AttemptFinished, task)

    async def terminal(self, task: str) -> Task:
        """Wait until a task is at its end."""
        await eventually(
            lambda: (
                task in self.leader.cell.tasks
                and self.leader.cell.tasks[TaskId(task)].status in TERMINAL
            ),
            within_s=WITHIN_S,
            what=f"{task} ends",
        )
        return self.leader.cell.tasks[TaskId(task)]

    async def running(self, task: str) -> int:
        """Wait until a task's process runs; return it."""
        started = await self.wait(AttemptStarted, task)
        assert started.pid is not None
        return started.pid

    async def chunks(self, task: str, attempt: int = 1) -> dict[int, bytes]:
        """The stored chunks of an attempt's output by their offset."""
        return {offset: chunk async for offset, chunk in self.outputs.chunks(TaskId(task), attempt)}

    async def output(self, task: str, attempt: int = 1) -> bytes:
        """The stored output of an attempt; no chunk may overlap another."""
        return joined_chunks(await self.chunks(task, attempt))

    async def prints(self, task: str, text: bytes, attempt: int = 1) -> None:
        """Wait until a text is stored."""

        async def stored() -> bool:
            return text in await self.output(task, attempt)

        await eventually(stored, within_s=WITHIN_S, what=f"{task} prints {text!r}")

    def ignored(self) -> dict[str, int]:
        """What no longer applied, by the leader's count."""
        return dict(self.leader.cell.ignored)


@asynccontextmanager
async def real_cell(
    server: Server, directory: Path, *, detects: bool = False, limits: Limits = LIMITS
) -> AsyncIterator[RealCell]:
    """Hold a cell; nothing of its agents is left."""
    cell_id = CellId(f"cell-{short_id()}")
    async with joined(server.address, cell_id, limits=limits, retry_s_max=3_600.0) as opened:
        cell = RealCell(server, opened, directory)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(cell.read()),
                group.create_task(cell.lead(detects=detects)),
            ]
            try:
                await cell.leader.leading.wait()
                yield cell
            finally:
                for agent in cell.agents:
                    await agent.end()
                end_all(directory)
                for task in tasks:
                    task.cancel()
