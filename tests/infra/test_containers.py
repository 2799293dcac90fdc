"""Three servers by infra/nats/three.conf in containers: one dies, one is cut off."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dtest.errors import Unavailable
from dtest.events.fields import CellId
from dtest.journal.api import ask_api
from dtest.journal.cluster import await_leaders, get_placement, greet, placements
from dtest.journal.connection import NatsAddress
from dtest.runtime.ids import short_id
from dtest.runtime.nats_server import server_binary
from dtest.runtime.ports import free_ports
from tests.infra.installed import INFRA, NAMES, Installed
from tests.journal.load import RESUMED_S_MAX, Load, loaded
from tests.kit.engine import engine
from tests.kit.nats import NatsCell, eventually

pytestmark = [
    pytest.mark.docker,
    # docker's own sockets are closed by the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HOME = "/etc/dtest/nats"
CLIENT_PORT = 4222


@dataclass(frozen=True)
class Node:
    """One server in its container."""

    name: str
    port: int
    """Where clients reach it on loopback."""
    container: Any

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"tls://127.0.0.1:{self.port}"

    def condition(self) -> str:
        """What the engine knows of it, and its last words."""
        container = self.container.get_wrapped_container()
        container.reload()
        words = container.logs(tail=20).decode(errors="replace")
        return f"{self.name}: {container.attrs['State']}\n{words}"


@dataclass(frozen=True)
class Containers:
    """The cluster."""

    nodes: dict[str, Node]
    network: Any
    address: NatsAddress

    async def leader(self, cell: NatsCell) -> Node:
        """The server that leads the journal."""
        found: list[str] = []

        async def is_known() -> bool:
            found[:] = filter(None, [(await get_placement(cell.connection, cell.stream)).leader])
            return bool(found)

        await eventually(is_known, within_s=RESUMED_S_MAX, what="the journal has a leader")
        return self.nodes[found[0]]

    def mend(self) -> None:
        """Start what does not run, connect what is cut off: a test that failed leaves it so."""
        for node in self.nodes.values():
            container = node.container.get_wrapped_container()
            container.reload()
            if container.status != "running":
                container.start()
            if self.network.name not in container.attrs["NetworkSettings"]["Networks"]:
                self.network.connect(container, aliases=[node.name])

    async def whole(self, cell: NatsCell) -> None:
        """Wait until every server answers and holds everything."""
        for node in self.nodes.values():

            async def answers(node: Node = node) -> bool:
                return (await greet(node.url)).server_name == node.name

            try:
                await eventually(answers, within_s=RESUMED_S_MAX, what=f"{node.name} answers")
            except AssertionError as error:
                error.add_note(await asyncio.to_thread(node.condition))
                raise
        try:
            await await_leaders(cell.connection, cell.cell, wait_s=RESUMED_S_MAX / 2, whole=True)
        except Unavailable:
            await self._follow_the_advice(cell)
            await await_leaders(cell.connection, cell.cell, wait_s=RESUMED_S_MAX, whole=True)

    async def _follow_the_advice(self, cell: NatsCell) -> None:
        """Have other servers lead what a copy does not catch up with: docs/operations.md."""
        for stream in await placements(cell.connection, cell.cell):
            if not stream.is_whole:
                await ask_api(cell.connection, f"STREAM.LEADER.STEPDOWN.{stream.stream}", {})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The image of infra/nats/Dockerfile around the server of the wheel."""
    with engine() as address, pytest.MonkeyPatch.context() as patch:
        if address is not None:
            patch.setenv("DOCKER_HOST", address)
        patch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        patch.setenv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
        from testcontainers.core.image import DockerImage  # noqa: PLC0415 - it reads the environment when it is loaded

        context = tmp_path_factory.mktemp("image")
        shutil.copy(INFRA / "nats" / "Dockerfile", context)
        shutil.copy(server_binary(), context / "nats-server")
        with DockerImage(context, tag="dtest-nats-server:test") as built:
            yield built


@pytest.fixture(scope="module")
def containers(
    image: Any, installed: Installed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - it reads the environment when it is loaded
    from testcontainers.core.network import Network  # noqa: PLC0415 - it reads the environment when it is loaded

    parent = tmp_path_factory.mktemp("hosts")
    names = NAMES[:3]
    with Network() as network:
        nodes: dict[str, Node] = {}
        try:
            for name, port in zip(names, free_ports(len(names)), strict=True):
                container: Any = (
                    DockerContainer(str(image))
                    .with_env("DTEST_NODE", name)
                    .with_network(network)
                    .with_network_aliases(name)
                    .with_volume_mapping(installed.of(name, parent), HOME)
                )
                container.ports[CLIENT_PORT] = ("127.0.0.1", port)  # loopback only, always the same
                nodes[name] = Node(name, port, container)
                container.start()
            urls = tuple(node.url for node in nodes.values())
            address = NatsAddress(urls, "dtest", installed.passwords["dtest"], tls=installed.trust)
            yield Containers(nodes, network._network, address)  # noqa: SLF001 - it offers no disconnect
        finally:
            for node in nodes.values():
                node.container.stop()


@pytest.fixture
async def load(containers: Containers) -> AsyncIterator[Load]:
    """The journal under load; what is stored is checked at the end."""
    await asyncio.to_thread(containers.mend)
    async with loaded(containers.address, CellId(f"cell-{short_id()}")) as load:
        await containers.whole(load.cell)
        yield load


async def test_nothing_is_lost_when_a_container_is_killed(
    containers: Containers, load: Load
) -> None:
    leader = await containers.leader(load.cell)
    container = leader.container.get_wrapped_container()

    await asyncio.to_thread(container.kill)
    await load.goes_on()
    await asyncio.to_thread(container.start)
    await containers.whole(load.cell)


async def test_nothing_is_lost_when_a_container_is_cut_off(
    containers: Containers, load: Load
) -> None:
    """It runs on and may think that it leads: nobody hears it."""
    leader = await containers.leader(load.cell)
    container = leader.container.get_wrapped_container()

    await asyncio.to_thread(containers.network.disconnect, container)
    await load.goes_on()
    await asyncio.to_thread(containers.network.connect, container, aliases=[leader.name])
    await containers.whole(load.cell)


def test_clients_reach_the_containers_on_loopback_only(containers: Containers) -> None:
    for node in containers.nodes.values():
        container = node.container.get_wrapped_container()
        container.reload()
        published = container.attrs["NetworkSettings"]["Ports"]

        assert published == {
            f"{CLIENT_PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(node.port)}]
        }


def test_the_containers_hold_the_server_and_nothing_else(image: Any) -> None:
    layers = image.get_wrapped_image().history()

    assert sum(layer["Size"] for layer in layers) < 2 * Path(server_binary()).stat().st_size
