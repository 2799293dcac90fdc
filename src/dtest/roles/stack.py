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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import structlog

from dtest.errors import Conflict, DtestError, Unavailable
from dtest.roles.child import Child, Process, RoleCommand, let_go
from dtest.roles.forking import ForkServer
from dtest.roles.stack_options import StackOptions, roles_of
from dtest.runtime.first_suite import read_answer
from dtest.runtime.ids import secret
from dtest.runtime.machine import process_started_at
from dtest.runtime.nats_cluster import USER, EmbeddedCluster, Place, nodes_in, plan_cluster
from dtest.runtime.ports import HeldPorts
from dtest.runtime.remains import end_remains, note_processes
from dtest.runtime.stack_file import StackFile, write_stack_file
from dtest.settings import environment_of_roles

log = structlog.get_logger()

READY_S_MAX = 60.0
READY_LOOK_S = 0.02
ANSWER_S_MAX = 10.0
REMAINS_S_MAX = 15.0
RESTART_S_MIN = 0.5
LAST_BYTES_MAX = 2_000
"""Of a log, where the end of a process is looked for."""
STEADY_S = 5.0
"""Who ran so long and ended is started again as if for the first time."""


@dataclass(slots=True)
class Stack:
    """A running cell. Use ``start``, then ``stop``; ``supervise`` in between."""

    options: StackOptions
    forks: ForkServer | None = None
    """By default one is started."""
    children: dict[str, Child] = field(default_factory=dict)
    file: StackFile | None = None
    _ports: HeldPorts = field(init=False)
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
        if self.forks is None:
            own = {**environment_of_roles(), **self.child_environment("")}
            self.forks = ForkServer(own)
        is_laid = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                if not self.options.brokers_only:
                    self._load_roles(group, is_laid)
                for server in cluster.servers if cluster else ():
                    await self._add(server.directory.name, server.start)
                await self._lay_ground(self.file, cluster)
                is_laid.set()
                group.create_task(self._ready())
        except* DtestError as failures:
            raise failures.exceptions[0] from None
        self.file = replace(self.file, first_seq=read_answer(self.directory))
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
            self._api_url() if api else None,
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

    def _load_roles(self, group: asyncio.TaskGroup, may_begin: asyncio.Event) -> None:
        """Start the processes of the roles; they load while the brokers start, and wait."""

        async def load(name: str, module: str, arguments: Sequence[str] = ()) -> None:
            role = self._role(name, module, arguments)
            process = await role.load(self.child_environment(name))
            self._note(name, partial(self._run, name, role), process)
            await may_begin.wait()
            let_go(process)

        for words in roles_of(self.options):
            group.create_task(load(*words))
        if self.options.first:
            group.create_task(self._open_first(may_begin))

    def _role(self, name: str, module: str, arguments: Sequence[str]) -> RoleCommand:
        log_path = self.directory / f"{name.replace(' ', '-')}.log"
        starter = self.options.starters.get(name, ())
        return RoleCommand(module, arguments, log_path, starter, self.forks)

    async def _open_first(self, may_begin: asyncio.Event) -> None:
        """Hand in the suite that the stack is made for; its caller hands in what fails here."""
        words = [str(self.directory), str(self.options.workers)]
        role = self._role("opening", "opening", words)
        process = await role.load(self.child_environment("opening"))
        await may_begin.wait()
        let_go(process)
        code = await process.wait()
        if code:
            log.warning("first_suite_not_handed_in", code=code)

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
        if self.forks is not None:
            pids.append(self.forks.pid)
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
        if self.forks is not None:
            self.forks.close()
        self._ports.close()
        if self._lock is None:  # the directory is another stack's
            return
        for name in ("children.json", "stack.json"):  # who waits for the end looks at the last one
            (self.directory / name).unlink(missing_ok=True)
        self._lock.close()
        self._lock = None

    def remove(self) -> None:
        """Delete the state directory: the journal and everything else."""
        shutil.rmtree(self.options.state_dir, ignore_errors=True)


def _last_line(path: Path) -> str:
    """Return what a process said last, if it said anything."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_BYTES_MAX))
            lines = log.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
