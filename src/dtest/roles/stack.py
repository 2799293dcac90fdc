"""A whole cell on one machine: brokers, scheduler, API and agents as child processes.

Children that end unasked are started again; children end when their supervisor does, and what
is left of a supervisor that was killed is ended before a new one starts.
"""

import asyncio
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import httpx
import structlog

from dtest.errors import Conflict, Unavailable
from dtest.events.fields import CellId
from dtest.journal.cluster import await_leaders
from dtest.journal.connection import NatsAddress, connect
from dtest.journal.migration import create_streams, usual_replicas
from dtest.journal.streams import Limits
from dtest.runtime.ids import secret
from dtest.runtime.lifecycle import end_with_parent
from dtest.runtime.machine import process_started_at
from dtest.runtime.nats_cluster import USER, Place, nodes_in, plan_cluster
from dtest.runtime.nats_server import free_port
from dtest.runtime.remains import end_remains, note_processes
from dtest.runtime.stack_file import StackFile, write_stack_file
from dtest.settings import LIMITS, environment

log = structlog.get_logger()

READY_S_MAX = 60.0
READY_LOOK_S = 0.02
DISK_PART = 0.2
"""Of the free disk: what a local cell may take. A broker takes three quarters at most, and may
serve several cells."""
STOP_S_MAX = 15.0
RESTART_S_MIN = 0.5
RESTART_S_MAX = 10.0
_OF_LIMITS = frozenset(f"DTEST_{key.upper()}" for key in LIMITS)
STEADY_S = 5.0
"""Who ran so long and ended is started again as if for the first time."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What to start."""

    cell: CellId
    state_dir: Path
    workers: int = 2
    slots: int | None = None
    """Of each real worker; by default what it detects."""
    simulate: str = ""
    """As ``cuda:2,rocm:1``."""
    simulate_slots: int = 4
    simulate_seconds: float = 0.1
    schedulers: int = 1
    """One leads, the others stand by."""
    api: bool = True
    api_port: int = 0
    second_api: bool = False
    """Beside the first, at the address and in the place that ``overrides`` give it."""
    nats: NatsAddress | None = None
    """A broker that runs already; by default an embedded one is started."""
    nodes: int | None = None
    """How many embedded brokers; by default those whose stores are there, or one."""
    replicas: int | None = None
    """How many of them keep each new stream; by default all."""
    brokers_only: bool = False
    """Start the brokers, make the streams, and leave the roles to somebody else."""
    broker_port: int = 0
    """Of a single embedded broker; by default a free one."""
    broker_places: Sequence[Place] = ()
    """Where each embedded broker runs; by default all on loopback."""
    starters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words before the command of single roles: what starts them elsewhere, as in a namespace."""
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What single processes, by their names here, find otherwise in their environment."""
    drain_s: float = 2.0
    restart_s_max: float = RESTART_S_MAX
    """Longest pause before what ends again and again is started once more."""


@dataclass(slots=True)
class Child:
    """One process of the stack."""

    name: str
    start: Callable[[], "asyncio.Future[asyncio.subprocess.Process]"]
    process: asyncio.subprocess.Process
    may_start: asyncio.Event
    """Cleared by who wants it to stay away once it ended."""
    restart: bool = True
    restarts: int = 0


@dataclass(slots=True)
class Stack:
    """A running cell. Use ``start``, then ``stop``; ``supervise`` in between."""

    options: StackOptions
    children: dict[str, Child] = field(default_factory=dict)
    file: StackFile | None = None
    _lock: IO[str] | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def directory(self) -> Path:
        """Where the cell keeps its local state."""
        return self.options.state_dir / self.options.cell

    async def start(self) -> StackFile:
        """Start everything and wait until it serves. Raises Conflict or Unavailable."""
        self._take_directory()
        try:
            await end_remains(self.directory / "children.json", wait_s=STOP_S_MAX)
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    def _take_directory(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self.directory / "stack.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            message = f"a stack of cell {self.options.cell} is up already"
            raise Conflict(
                message, hint="use it, or `dtest down`, or give another --cell"
            ) from error
        self._lock = lock

    async def _start(self) -> StackFile:
        address = self.options.nats or await self._start_brokers()
        connection = await connect(address, name="dtest stack", wait_s=READY_S_MAX)
        try:
            nodes, asked = len(address.servers), self.options.replicas
            if self.options.nats is None:
                asked = min(nodes, asked or nodes)
            room = int(shutil.disk_usage(self.directory).free * DISK_PART) // nodes
            replicas = await usual_replicas(connection, self.options.cell, asked)
            limits = replace(Limits().within(room), replicas=replicas)
            await create_streams(connection, self.options.cell, limits)
            await await_leaders(connection, self.options.cell, wait_s=READY_S_MAX)
        finally:
            await connection.close()
        api_port = self.options.api_port or free_port()
        api = self.options.api and not self.options.brokers_only
        self.file = StackFile(
            self.options.cell,
            os.getpid(),
            process_started_at(os.getpid()) or 0.0,
            ",".join(address.servers),
            address.user,
            address.password,
            address.token,
            f"http://127.0.0.1:{api_port}" if api else None,
            secret() if api else None,
        )
        if not self.options.brokers_only:
            await self._start_roles()
        await self._ready()
        write_stack_file(self.directory / "stack.json", self.file)
        return self.file

    async def _start_brokers(self) -> NatsAddress:
        nodes = self.options.nodes or nodes_in(self.directory) or 1
        cluster = plan_cluster(
            self.directory,
            nodes,
            secret=secret,
            port=self.options.broker_port,
            places=self.options.broker_places,
        )
        for server in cluster.servers:
            await self._add(server.directory.name, server.start)
        return NatsAddress(cluster.urls, USER, cluster.password)

    async def _start_roles(self) -> None:
        options = self.options
        for number in range(1, options.schedulers + 1):
            await self._add_role("scheduler" if number == 1 else f"scheduler {number}", "scheduler")
        if options.api:
            await self._add_role("api", "api")
        if options.second_api:
            await self._add_role("api 2", "api")
        for number in range(1, options.workers + 1):
            arguments = ["--name", f"local-{number}", "--drain-seconds", str(options.drain_s)]
            if options.slots is not None:
                arguments += ["--slots", str(options.slots)]
            await self._add_role(f"agent local-{number}", "agent_main", arguments)
        if options.simulate:
            arguments = ["--simulate", options.simulate]
            arguments += ["--slots", str(options.simulate_slots)]
            arguments += ["--simulate-seconds", str(options.simulate_seconds)]
            await self._add_role("simulation", "agent_main", arguments)

    def child_environment(self, name: str = "") -> dict[str, str]:
        """Return the environment of one process: the stack's settings, and the bounds set."""
        kept = {
            word: value
            for word, value in environment().items()
            if word[:6] != "DTEST_" or word in _OF_LIMITS
        }
        if self.file is None:
            return kept
        stated = {
            "DTEST_CELL": self.file.cell,
            "DTEST_STATE_DIR": str(self.options.state_dir),
            "DTEST_NATS_URL": self.file.nats_url,
            "DTEST_NATS_USER": self.file.nats_user,
            "DTEST_NATS_PASSWORD": self.file.nats_password,
            "DTEST_NATS_TOKEN": self.file.nats_token,
            "DTEST_API_URL": self.file.api_url,
            "DTEST_TOKEN": self.file.token,
        }
        own = {word: value for word, value in stated.items() if value}
        return {**kept, **own, **self.options.overrides.get(name, {})}

    async def _add_role(self, name: str, module: str, arguments: list[str] | None = None) -> None:
        async def start() -> asyncio.subprocess.Process:
            with (self.directory / f"{name.replace(' ', '-')}.log").open("ab") as output:
                return await asyncio.create_subprocess_exec(
                    *self.options.starters.get(name, ()),
                    sys.executable,
                    *("-m", f"dtest.roles.{module}", *(arguments or [])),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self.child_environment(name),
                    start_new_session=True,
                    preexec_fn=end_with_parent,
                )

        await self._add(name, start)

    async def _add(self, name: str, start: Callable[[], object]) -> None:
        process = await start()  # type: ignore[misc]
        may_start = asyncio.Event()
        may_start.set()
        self.children[name] = Child(name, start, process, may_start)  # type: ignore[arg-type]
        self._note_children()

    def _note_children(self) -> None:
        pids = [child.process.pid for child in self.children.values()]
        note_processes(self.directory / "children.json", pids)

    # -- while it runs ------------------------------------------------------------------------

    async def _ready(self) -> None:
        """Wait until the API answers and every worker is registered."""
        self._check_alive()
        if self.file is None or self.file.api_url is None:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_S_MAX
        headers = {"Authorization": f"Bearer {self.file.token}"}
        url = self.file.api_url
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as api:
            while loop.time() < deadline:
                self._check_alive()
                if await self._serves(api):
                    return
                await asyncio.sleep(READY_LOOK_S)
        message = f"the stack did not become ready in {READY_S_MAX:g} s"
        raise Unavailable(message, hint=f"see the logs in {self.directory}")

    def _check_alive(self) -> None:
        for child in self.children.values():
            if child.process.returncode is not None:
                log_name = f"{child.name.replace(' ', '-')}.log"
                message = f"{child.name} ended with {child.process.returncode} while starting"
                raise Unavailable(message, hint=f"see {self.directory / log_name}")

    async def _serves(self, api: httpx.AsyncClient) -> bool:
        wanted = self.options.workers + sum(
            int(part.partition(":")[2] or 1) for part in self.options.simulate.split(",") if part
        )
        try:
            answer = await api.get("/api/status")
        except httpx.HTTPError:
            return False
        if answer.status_code != httpx.codes.OK:
            return False
        content = answer.json()
        return bool(content["leader_id"]) and content["workers"].get("active", 0) >= wanted

    async def supervise(self) -> None:
        """Start again what ends unasked, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for child in self.children.values():
                group.create_task(self._keep(child))

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            begun = loop.time()
            await child.process.wait()
            if self._stopping.is_set() or not child.restart:
                return
            if loop.time() - begun >= STEADY_S:
                child.restarts = 0
            delay_s = min(self.options.restart_s_max, RESTART_S_MIN * 2**child.restarts)
            log.warning("child_ended", child=child.name, code=child.process.returncode)
            child.restarts += 1
            await asyncio.sleep(delay_s)
            await child.may_start.wait()
            if not self._stopping.is_set():
                child.process = await child.start()
                self._note_children()

    # -- the end ------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End everything: agents first, so that they can say goodbye; the broker last."""
        self._stopping.set()
        agents = [c for name, c in self.children.items() if name.startswith(("agent", "simul"))]
        roles = [c for name, c in self.children.items() if name.startswith(("api", "sched"))]
        broker = [c for name, c in self.children.items() if name.startswith("nats")]
        for group in (agents, roles, broker):
            await asyncio.gather(*(_end(child) for child in group))
        if self._lock is None:  # the directory is another stack's
            return
        for name in ("children.json", "stack.json"):  # who waits for the end looks at the last one
            (self.directory / name).unlink(missing_ok=True)
        self._lock.close()
        self._lock = None

    def remove(self) -> None:
        """Delete the state directory: the journal and everything else."""
        shutil.rmtree(self.options.state_dir, ignore_errors=True)


async def _end(child: Child) -> None:
    process = child.process
    if process.returncode is not None:
        return
    try:
        process.terminate()
        async with asyncio.timeout(STOP_S_MAX):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except ProcessLookupError:
        return
