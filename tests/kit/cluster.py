"""Real NATS clusters for tests: single servers are killed, frozen and started again."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from dtest.journal.cluster import await_leaders, get_placement, greet_all
from dtest.journal.connection import NatsAddress
from dtest.runtime.ids import secret
from dtest.runtime.nats_cluster import USER, EmbeddedCluster, plan_cluster
from dtest.runtime.nats_server import EmbeddedServer
from dtest.runtime.ports import HeldPorts
from tests.kit.nats import LIMITS, NatsCell, eventually

LIMITS_OF_THREE = replace(LIMITS, replicas=3)
READY_S_MAX = 30.0


class Cluster:
    """The processes of a cluster, each of which may die and come back."""

    def __init__(self, directory: Path, nodes: int) -> None:
        with HeldPorts() as ports:
            planned = plan_cluster(directory, nodes, secret=secret, ports=ports)
        self.planned: EmbeddedCluster = planned
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def names(self) -> list[str]:
        """The servers."""
        return [name_of(server) for server in self.planned.servers]

    @property
    def address(self) -> NatsAddress:
        """All addresses, for the one user."""
        return NatsAddress(self.planned.urls, USER, self.planned.password)

    def address_at(self, name: str) -> NatsAddress:
        """The address of one server."""
        return NatsAddress((self._server(name).url,), USER, self.planned.password)

    def address_without(self, name: str) -> NatsAddress:
        """The addresses of the others."""
        urls = tuple(each.url for each in self.planned.servers if name_of(each) != name)
        return NatsAddress(urls, USER, self.planned.password)

    def _server(self, name: str) -> EmbeddedServer:
        return next(each for each in self.planned.servers if name_of(each) == name)

    async def start(self, *names: str) -> None:
        """Start servers; all if none is named."""
        for name in names or self.names:
            self._processes[name] = await self._server(name).start()

    async def stop(self, *names: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End servers; all if none is named."""
        ending = [self._processes.pop(name) for name in names or list(self._processes)]
        for process in ending:
            with suppress(ProcessLookupError):
                process.send_signal(number)
        for process in ending:
            await process.wait()

    @asynccontextmanager
    async def frozen(self, name: str) -> AsyncIterator[None]:
        """Stop a server for a while: its connections stay, answers do not come."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    async def leader(self, cell: NatsCell) -> str:
        """The server that leads the journal."""
        found: list[str] = []

        async def is_known() -> bool:
            found[:] = filter(None, [(await get_placement(cell.connection, cell.stream)).leader])
            return bool(found)

        await eventually(is_known, within_s=READY_S_MAX, what="the journal has a leader")
        return found[0]

    async def whole(self, cell: NatsCell) -> None:
        """Wait until every server holds everything."""
        await eventually(
            self._all_greet, within_s=READY_S_MAX, what="every server of the cluster answers"
        )
        await await_leaders(cell.connection, cell.cell, wait_s=READY_S_MAX, whole=True)

    async def _all_greet(self) -> bool:
        return all(one.server_name for one in await greet_all(self.planned.urls))


def name_of(server: EmbeddedServer) -> str:
    """The name of a server of a cluster."""
    assert server.member is not None
    return server.member.server_name


@asynccontextmanager
async def running_cluster(directory: Path, nodes: int = 3) -> AsyncIterator[Cluster]:
    """Run a cluster."""
    cluster = Cluster(directory, nodes)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()
