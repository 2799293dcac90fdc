"""The ground of a drill: a throw-away cell whose processes may be killed, stopped and held down."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import orjson

from dtest.client import Client
from dtest.drills.layout import Layout, Way
from dtest.drills.mounts import small_disk
from dtest.drills.wires import Wiring, wired
from dtest.errors import TimedOut
from dtest.events import subject
from dtest.events.fields import CellId, ClientId
from dtest.journal.cluster import await_leaders, get_placement
from dtest.journal.streams import journal_name
from dtest.roles.child import Child
from dtest.roles.session import Session, session
from dtest.roles.stack import Stack
from dtest.roles.stack_options import StackOptions
from dtest.runtime.clock import SystemClock
from dtest.runtime.machine import command_of, descendants_of, processes_with
from dtest.settings import Settings, settings_of

CELL = CellId("drill")
SECOND_API = "api 2"
SECOND_PLACE = "second-api"
LOOK_EVERY_S = 0.02
LEFT_S_MAX = 10.0
RESTART_S = 0.5
"""A drill kills more often than a fault would: the supervisor's growing pauses are left out."""


class Ground:
    """One cell for one drill."""

    def __init__(self, stack: Stack, settings: Settings, opened: Session, wiring: Wiring) -> None:
        self.small_disks: dict[str, Path] = {}
        """Where the processes with a small disk keep everything."""
        self.wiring = wiring
        self.stack = stack
        own = settings.require("api_url")
        second = stack.options.overrides.get(SECOND_API, {}).get("DTEST_API_URL")
        self.api_urls = {"api": own, **({SECOND_API: second} if second else {})}
        """Where each API is, by its process."""
        self.settings = settings
        self.opened = opened

    @property
    def directory(self) -> Path:
        """Where the cell keeps everything."""
        return self.stack.directory

    def child(self, name: str) -> Child:
        """One process of the cell by its name, as ``agent local-1``."""
        return self.stack.children[name]

    def client(self, name: str) -> Client:
        """Return a client that writes to the journal itself."""
        return Client(
            self.opened.journal,
            cell=self.opened.cell,
            client_id=ClientId(name),
            now=SystemClock().now,
            new_id=self.opened.new_id,
        )

    def api(self, name: str = "api") -> httpx.AsyncClient:
        """Return a client of one API, by its process."""
        headers = {"Authorization": f"Bearer {self.settings.require('token')}"}
        return httpx.AsyncClient(base_url=self.api_urls[name], headers=headers, trust_env=False)

    def agents(self) -> list[str]:
        """The names of the agents with real processes."""
        return [name for name in self.stack.children if name.startswith("agent ")]

    def brokers(self) -> list[Child]:
        """The brokers' processes."""
        return [child for name, child in self.stack.children.items() if name.startswith("nats")]

    async def stream_leader(self) -> Child:
        """The broker that leads the journal's stream; the only one, if there is one."""
        brokers = self.brokers()
        if len(brokers) == 1:
            return brokers[0]
        placement = await get_placement(self.opened.connection, journal_name(self.opened.cell))
        return self.child(f"nats-{placement.leader}")

    async def brokers_are_whole(self, within_s: float = 120.0) -> None:
        """Wait until each stream has a leader and all its copies. Raises Unavailable."""
        await await_leaders(self.opened.connection, self.opened.cell, wait_s=within_s, whole=True)

    async def leader_pid(self, within_s: float = 30.0) -> int:
        """Ask who leads. Raises TimedOut if nobody answers for so long."""
        card = await self._answered(subject.leader(self.opened.cell), "leader", within_s)
        return int(orjson.loads(card)["pid"])

    async def conductor_pid(self, within_s: float = 30.0) -> int:
        """Ask who conducts suites. Raises TimedOut if nobody answers for so long."""
        where = subject.conductor(self.opened.cell)
        return int(orjson.loads(await self._answered(where, "conductor", within_s))["pid"])

    async def standby_is_ready(self, within_s: float = 30.0) -> None:
        """Wait until a scheduler stands by. Raises TimedOut."""
        await self._answered(subject.standby(self.opened.cell), "standby", within_s)

    async def _answered(self, where: str, who: str, within_s: float) -> bytes:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    with suppress(TimeoutError):
                        answer = await self.opened.connection.ask(where, b"", timeout_s=0.5)
                        if answer.status == 0:
                            return answer.payload
                    await asyncio.sleep(LOOK_EVERY_S)
        message = f"no {who} answered for {within_s:g} s"
        raise TimedOut(message, hint=f"see the logs in {self.directory}")

    def kill_tree(self, name: str) -> list[int]:
        """Kill a process with all that came from it, as when its machine dies."""
        pid = self.child(name).process.pid
        pids = [pid, *descendants_of(pid), *processes_with(self._own_directory(name))]
        for each in dict.fromkeys(pids):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        return pids

    def _own_directory(self, name: str) -> str:
        """What stands in the command line or the environment of all that an agent started."""
        return str(self.directory / "agents" / name.removeprefix("agent "))

    async def started_again(self, name: str, was: int) -> None:
        """Wait until the supervisor has started another process in the place of one."""
        while self.child(name).process.pid == was:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_EVERY_S)

    async def processes_left(self) -> list[str]:
        """After the end: what still runs of this cell, once it had time to go."""
        left: Iterable[int] = ()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEFT_S_MAX):
                while left := processes_with(str(self.stack.options.state_dir)):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(LOOK_EVERY_S * 5)
        return [f"process {pid} is left: {command_of(pid)[:200]}" for pid in left]


@asynccontextmanager
async def ground(
    layout: Layout, *, nodes: int, partition: Way | None = None
) -> AsyncIterator[Ground]:
    """Start a cell on so many brokers in a directory of its own; end and remove it.

    ``partition`` is how parts are cut off; by default in the best way that is permitted.
    """
    place = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="dtest-drill-"))
    disks = (
        {layout.small_disk: _directory_of(layout.small_disk, place)} if layout.small_disk else {}
    )
    try:
        async with AsyncExitStack() as made:
            wiring = await made.enter_async_context(wired(layout, nodes, partition))
            for disk in disks.values():
                await made.enter_async_context(small_disk(disk, layout.small_disk_mb))
            stack = _stack(layout, nodes, place, wiring)
            async with _running(stack, place, wiring) as running:
                running.small_disks.update(disks)
                yield running
    finally:
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)


def _stack(layout: Layout, nodes: int, place: Path, wiring: Wiring) -> Stack:
    second = {
        SECOND_API: {
            "DTEST_API_URL": f"http://127.0.0.1:{wiring.ports.take()}",
            "DTEST_STATE_DIR": str(place / SECOND_PLACE),
        }
    }
    return Stack(
        StackOptions(
            CELL,
            place,
            layout.workers,
            layout.slots,
            f"cpu:{layout.simulated}" if layout.simulated else "",
            simulate_slots=layout.simulated_slots,
            simulate_seconds=0.0,
            schedulers=layout.schedulers,
            conductors=layout.conductors,
            restart_s_max=RESTART_S,
            broker_port=wiring.port,
            broker_places=wiring.places,
            starters=wiring.starters,
            nodes=nodes,
            second_api=layout.second_api,
            overrides={**wiring.overrides, **(second if layout.second_api else {})},
        )
    )


@asynccontextmanager
async def _running(stack: Stack, place: Path, wiring: Wiring) -> AsyncIterator[Ground]:
    try:
        file = await stack.start()
        settings = settings_of(file, place)
        async with session(settings, name="dtest drill", retry_s_max=120.0) as opened:
            supervising = asyncio.get_running_loop().create_task(stack.supervise())
            try:
                yield Ground(stack, settings, opened, wiring)
            finally:
                supervising.cancel()
    finally:
        await stack.stop()


def _directory_of(name: str, place: Path) -> Path:
    """Where a process keeps everything."""
    if name == SECOND_API:
        return place / SECOND_PLACE
    return place / CELL / "agents" / name.removeprefix("agent ")
