"""The wires of a drill's cell: cables of a network of its own where permitted, else proxies."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from dtest.drills.layout import Layout, Way
from dtest.drills.networks import NamespacesRefused, Networks, networks
from dtest.drills.proxy import Proxy
from dtest.errors import UsageError
from dtest.runtime.nats_cluster import Place
from dtest.runtime.ports import HeldPorts


class Wire(Protocol):
    """What joins a part to the rest of its cell."""

    async def cut(self) -> None:
        """Let nothing through, in either direction."""
        ...

    async def mend(self) -> None:
        """Let everything through again."""
        ...


@dataclass(slots=True)
class Wiring:
    """The wires of one cell, and what its stack has to do so that its parts hang on them."""

    ports: HeldPorts
    """For all that listens in the cell and round it."""
    port: int
    """Of a single broker."""
    way: Way | None = None
    why: str = ""
    """Why this way, in words; empty where nothing is cut."""
    wires: dict[str, Wire] = field(default_factory=dict)
    """By the process; those that are proxies also in ``proxies``."""
    proxies: dict[str, Proxy] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    starters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    overrides: dict[str, dict[str, str]] = field(default_factory=dict)


def check_way(layout: Layout, asked: Way | None, name: str) -> None:
    """Raise UsageError if a drill cannot cut its wires in the way that is asked for."""
    if asked is None or asked in layout.ways:
        return
    if not layout.ways:
        message = f"--partition is {asked}; {name} cuts nothing off"
        raise UsageError(message, hint="leave it out")
    message = f"--partition is {asked}; {name} can be cut off by {layout.ways[0]} alone"
    raise UsageError(message, hint=f"give --partition {layout.ways[0]}, or leave it out")


@asynccontextmanager
async def wired(layout: Layout, nodes: int, asked: Way | None) -> AsyncIterator[Wiring]:
    """Make the wires of a cell on so many brokers; without ``asked`` in the best way permitted.

    Raises NamespacesRefused, if there is no other way or no other was asked for.
    """
    ways = (asked,) if asked is not None else layout.ways
    async with AsyncExitStack() as made:
        ports = made.enter_context(HeldPorts())
        wiring = Wiring(ports, ports.take())
        if Way.NETNS in ways:
            try:
                network = await made.enter_async_context(networks())
            except NamespacesRefused as error:
                if Way.PROXY not in ways:
                    raise
                wiring.why = error.message
            else:
                await _lay_cables(wiring, layout, nodes, network)
                wiring.way, wiring.why = Way.NETNS, "network namespaces are permitted here"
        if wiring.way is None and ways:
            for name in layout.on_wires:
                await made.enter_async_context(_proxied(wiring, name))
            wiring.way = Way.PROXY
            wiring.why = wiring.why or _why_proxy(layout)
        yield wiring


def _why_proxy(layout: Layout) -> str:
    return "one direction alone is held" if layout.one_way else "it was asked for"


async def _lay_cables(wiring: Wiring, layout: Layout, nodes: int, network: Networks) -> None:
    for number in range(1, nodes + 1):
        if not layout.brokers_on_wires:
            wiring.places.append(Place(network.address))
            continue
        address, starter, cable = await network.join()
        wiring.places.append(Place(address, starter))
        wiring.wires["nats" if nodes == 1 else f"nats-n{number}"] = cable
    for name in layout.on_wires:
        _, wiring.starters[name], wiring.wires[name] = await network.join()


@asynccontextmanager
async def _proxied(wiring: Wiring, name: str) -> AsyncIterator[None]:
    proxy = Proxy(wiring.ports.take(), wiring.port)
    await proxy.start()
    try:
        wiring.wires[name] = wiring.proxies[name] = proxy
        wiring.overrides[name] = {"DTEST_NATS_URL": f"nats://127.0.0.1:{proxy.port}"}
        yield
    finally:
        await proxy.stop()
