"""A whole cell on one machine: brokers, scheduler, API and agents as child processes.

Children that end unasked are started again; children end when their supervisor does, and what
is left of a supervisor that was killed is ended before a new one starts.
"""

import asyncio
import fcntl
import http.client
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from dtest.errors import Conflict, DtestError, Unavailable
from dtest.events.fields import CellId
from dtest.roles.child import Child, Process, RoleCommand, let_go
from dtest.roles.forking import ForkServer
from dtest.runtime.ids import secret
from dtest.runtime.machine import process_started_at
from dtest.runtime.nats_cluster import USER, EmbeddedCluster, Place, nodes_in, plan_cluster
from dtest.runtime.nats_server import LOOPBACK
from dtest.runtime.ports import HeldPorts
from dtest.runtime.remains import end_remains, note_processes
from dtest.runtime.stack_file import StackFile, write_stack_file
from dtest.settings import environment_of_roles

if TYPE_CHECKING:
    from dtest.journal.connection import NatsAddress

log = structlog.get_logger()

READY_S_MAX = 60.0
READY_LOOK_S = 0.02
ANSWER_S_MAX = 10.0
REMAINS_S_MAX = 15.0
RESTART_S_MIN = 0.5
RESTART_S_MAX = 10.0
LAST_BYTES_MAX = 2_000
"""Of a log, where the end of a process is looked for."""
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
    conductors: int = 1
    """Of runs of suites: one conducts, the others stand by."""
    api: bool = True
    api_port: int = 0
    host: str = LOOPBACK
    """The address of this machine at which the API, and brokers without a place, listen."""
    second_api: bool = False
    """Beside the first, at the address and in the place that ``overrides`` give it."""
    nats: "NatsAddress | None" = None
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
    """Where each embedded broker runs; by default all at ``host``."""
    starters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words before the command of single roles: what starts them elsewhere, as in a namespace."""
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What single processes, by their names here, find otherwise in their environment."""
    drain_s: float = 2.0
    restart_s_max: float = RESTART_S_MAX
    """Longest pause before what ends again and again is started once more."""


@dataclass(slots=True)
class Stack:
    """A running cell. Use ``start``, then ``stop``; ``supervise`` in between."""

    options: StackOptions
    children: dict[str, Child] = field(default_factory=dict)
    file: StackFile | None = None
    _ports: HeldPorts = field(init=False)
    _forks: ForkServer | None = None
    _lock: IO[str] | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Hold what ports are taken for it."""
        self._ports = HeldPorts(self.options.host)

    @property
    def directory(self) -> Path:
        """Where the cell keeps its local state."""
        return self.options.state_dir / self.options.cell

    async def start(self) -> StackFile:
        """Start everything and wait until it serves. Raises Conflict or Unavailable."""
        self._take_directory()
        try:
            await end_remains(self.directory / "children.json", wait_s=REMAINS_S_MAX)
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
        cluster = None if self.options.nats else self._plan_brokers()
        self.file = self._own_file(cluster)
        self._forks = ForkServer({**environment_of_roles(), **self.child_environment("")})
        try:
            async with asyncio.TaskGroup() as group:
                roles = [] if self.options.brokers_only else self._load_roles(group)
                for server in cluster.servers if cluster else ():
                    await self._add(server.directory.name, server.start)
                await self._lay_ground(self.file, cluster)
        except* DtestError as failures:
            raise failures.exceptions[0] from None
        for loaded in roles:
            let_go(loaded.result())
        await self._ready()
        write_stack_file(self.directory / "stack.json", self.file)
        return self.file

    def _plan_brokers(self) -> EmbeddedCluster:
        nodes = self.options.nodes or nodes_in(self.directory) or 1
        return plan_cluster(
            self.directory,
            nodes,
            secret=secret,
            ports=self._ports,
            port=self.options.broker_port,
            places=self.options.broker_places or (Place(self.options.host),) * nodes,
        )

    def _own_file(self, cluster: EmbeddedCluster | None) -> StackFile:
        nats = self.options.nats
        api = self.options.api and not self.options.brokers_only
        return StackFile(
            self.options.cell,
            os.getpid(),
            process_started_at(os.getpid()) or 0.0,
            ",".join(cluster.urls if cluster else nats.servers if nats else ()),
            USER if cluster else nats.user if nats else None,
            cluster.password if cluster else nats.password if nats else None,
            nats.token if nats else None,
            f"http://{self.options.host}:{self.options.api_port or self._ports.take()}"
            if api
            else None,
            secret() if api else None,
        )

    def _api_url(self) -> str:
        port = self.options.api_port or self._ports.take()
        return f"http://{self.options.host}:{port}"

    async def _lay_ground(self, file: StackFile, cluster: EmbeddedCluster | None) -> None:
        from dtest.journal.connection import NatsAddress
        from dtest.roles.groundwork import lay

        servers, copies = tuple(file.nats_url.split(",")), self.options.replicas
        if cluster is not None:
            copies = min(len(servers), copies or len(servers))
        address = self.options.nats or NatsAddress(servers, file.nats_user, file.nats_password)
        await lay(address, self.options.cell, self.directory, copies=copies)

    def _load_roles(self, group: asyncio.TaskGroup) -> list[asyncio.Task[Process]]:
        """Start the processes of the roles; they load while the brokers start, and wait."""
        options = self.options

        async def load(name: str, module: str, arguments: Sequence[str] = ()) -> Process:
            log_path = self.directory / f"{name.replace(' ', '-')}.log"
            starter = options.starters.get(name, ())
            role = RoleCommand(module, arguments, log_path, starter, self._forks)
            process = await role.load(self.child_environment(name))
            self._note(name, partial(self._run, name, role), process)
            return process

        return [group.create_task(load(*words)) for words in _roles(options)]

    def child_environment(self, name: str) -> dict[str, str]:
        """Return what the environment of one process says of the stack's settings."""
        if self.file is None:
            return {}
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
        return {**own, **self.options.overrides.get(name, {})}

    async def _run(self, name: str, role: RoleCommand) -> Process:
        return await role.run(self.child_environment(name))

    async def _add(self, name: str, start: Callable[[], Awaitable[Process]]) -> None:
        self._note(name, start, await start())

    def _note(self, name: str, start: Callable[[], Awaitable[Process]], process: Process) -> Child:
        """Take a process in, to be kept alive and ended."""
        may_start = asyncio.Event()
        may_start.set()
        child = self.children[name] = Child(name, start, process, may_start)
        self._note_children()
        return child

    def _note_children(self) -> None:
        pids = [child.process.pid for child in self.children.values()]
        if self._forks is not None:
            pids.append(self._forks.pid)
        note_processes(self.directory / "children.json", pids)

    # -- while it runs ------------------------------------------------------------------------

    async def _ready(self) -> None:
        """Wait until the API answers and every worker is registered."""
        self._check_alive()
        if self.file is None or self.file.api_url is None:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_S_MAX
        while loop.time() < deadline:
            self._check_alive()
            if await asyncio.to_thread(self._serves, self.file.api_url, self.file.token or ""):
                return
            await asyncio.sleep(READY_LOOK_S)
        message = f"the stack did not become ready in {READY_S_MAX:g} s"
        raise Unavailable(message, hint=f"see the logs in {self.directory}")

    def _check_alive(self) -> None:
        for child in self.children.values():
            if child.process.returncode is not None:
                path = self.directory / f"{child.name.replace(' ', '-')}.log"
                message = f"{child.name} ended with {child.process.returncode} while starting"
                said = _last_line(path)
                raise Unavailable(f"{message}: {said}" if said else message, hint=f"see {path}")

    def _serves(self, url: str, token: str) -> bool:
        """Say whether somebody leads and all workers are there, as far as the API knows."""
        wanted = self.options.workers + sum(
            int(part.partition(":")[2] or 1) for part in self.options.simulate.split(",") if part
        )
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S_MAX)
        try:
            connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            return False
        content = json.loads(body)
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

    async def stop(self, *, leave_nothing: bool = False) -> None:
        """End everything: agents first, so that they can say goodbye; the broker last.

        With ``leave_nothing`` the agents end what they run, and all else is killed: nobody will
        read what it would still write down.
        """
        self._stopping.set()
        agents = [c for name, c in self.children.items() if name.startswith(("agent", "simul"))]
        broker = [c for name, c in self.children.items() if name.startswith("nats")]
        roles = [c for c in self.children.values() if c not in agents and c not in broker]
        for group in (agents, roles, broker):
            at_once = leave_nothing and group is not agents
            await asyncio.gather(*(child.kill() if at_once else child.end() for child in group))
        if self._forks is not None:
            self._forks.close()
        self._ports.close()
        if self._lock is None:  # the directory is another stack's
            return
        for name in ("children.json", "stack.json"):  # who waits for the end looks at the last one
            (self.directory / name).unlink(missing_ok=True)
        self._lock.close()
        self._lock = None

    def remove(self) -> None:
        """Delete the state directory: the journal and everything else."""
        place = self.options.state_dir
        going = place.with_name(f".{place.name}-{os.getpid()}")
        try:
            place.rename(going)  # at one stroke: somebody may make it anew at once
        except OSError:
            going = place
        shutil.rmtree(going, ignore_errors=True)


def _last_line(path: Path) -> str:
    """Return what a process said last, if it said anything."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_BYTES_MAX))
            lines = log.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _roles(options: StackOptions) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yield name, module and arguments of each; first those that take the longest to load."""

    def several(name: str, count: int) -> list[str]:
        return [name if number == 1 else f"{name} {number}" for number in range(1, count + 1)]

    for name in several("api", options.api + options.second_api):
        yield name, "api", ()
    for name in several("scheduler", options.schedulers):
        yield name, "scheduler", ()
    for name in several("conductor", options.conductors):
        yield name, "conductor", ()
    for number in range(1, options.workers + 1):
        arguments = ["--name", f"local-{number}", "--drain-seconds", str(options.drain_s)]
        if options.slots is not None:
            arguments += ["--slots", str(options.slots)]
        yield f"agent local-{number}", "agent_main", arguments
    if options.simulate:
        arguments = ["--simulate", options.simulate]
        arguments += ["--slots", str(options.simulate_slots)]
        arguments += ["--simulate-seconds", str(options.simulate_seconds)]
        yield "simulation", "agent_main", arguments
