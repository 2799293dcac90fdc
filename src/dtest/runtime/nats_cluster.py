"""The embedded NATS cluster: several servers of the wheel that keep one another's data.

It stands on one machine and on one disk, so it survives the death of servers, not of the machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dtest.errors import Conflict, UsageError
from dtest.runtime.nats_server import LOOPBACK, EmbeddedServer, Membership
from dtest.runtime.ports import HeldPorts

USER = "dtest"
SIZES = (1, 3, 5)
"""An even number of servers survives no more deaths than the odd one below it."""
SIZE_FILE = "nats-servers"
"""Servers of another number would not find the streams, or take them for left over."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one server runs."""

    host: str = LOOPBACK
    starter: tuple[str, ...] = ()
    """See ``EmbeddedServer.starter``."""


@dataclass(frozen=True, slots=True)
class EmbeddedCluster:
    """The servers, and who may speak to them. One server is a cluster of one."""

    servers: tuple[EmbeddedServer, ...]

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses for clients: whoever knows all of them outlasts any one."""
        return tuple(server.url for server in self.servers)

    @property
    def password(self) -> str:
        """The password of ``USER``, the same at every server."""
        return self.servers[0].password


def plan_cluster(
    directory: Path,
    nodes: int,
    *,
    secret: Callable[[], str],
    ports: HeldPorts,
    port: int = 0,
    places: Sequence[Place] = (),
) -> EmbeddedCluster:
    """Return a cluster on free ports, with new credentials, over the stores in a directory.

    ``ports`` are to be kept for as long as the cluster runs. ``port`` is where a single server
    listens, if that matters; ``places`` is where each one runs, by default all on loopback.

    Raises UsageError for a size that makes no sense, Conflict if there are stores of another size.
    """
    check_size(nodes)
    found = nodes_in(directory)
    if found not in (0, nodes):
        message = f"the journal in {directory} was made with {counted(found)}, not {nodes}"
        hint = f"give --nodes {found}, or another --cell, or `dtest down --purge` to delete it"
        raise Conflict(message, hint=hint)
    password = secret()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SIZE_FILE).write_text(str(nodes), encoding="utf-8")
    where = places or (Place(),) * nodes
    if nodes == 1:
        chosen = port or ports.take()
        alone = EmbeddedServer(
            directory / "nats", chosen, USER, password, host=where[0].host, starter=where[0].starter
        )
        return EmbeddedCluster((alone,))
    chosen_ports = ports.several(2 * nodes)
    between, system = secret(), secret()
    addresses = tuple(
        f"{place.host}:{port}" for place, port in zip(where, chosen_ports[nodes:], strict=True)
    )
    return EmbeddedCluster(
        tuple(
            EmbeddedServer(
                directory / f"nats-n{number}",
                chosen_ports[number - 1],
                USER,
                password,
                sync_always=True,
                member=Membership(
                    f"n{number}",
                    chosen_ports[nodes + number - 1],
                    addresses,
                    between,
                    system,
                ),
                host=where[number - 1].host,
                starter=where[number - 1].starter,
            )
            for number in range(1, nodes + 1)
        )
    )


def check_size(nodes: int) -> None:
    """Raise UsageError for a number of servers that no cluster has."""
    if nodes not in SIZES:
        message = f"a cluster of {counted(nodes)} is not offered"
        raise UsageError(message, hint="1 survives no death of a server, 3 survive one, 5 two")


def nodes_in(directory: Path) -> int:
    """Return of how many servers there are stores in a directory."""
    try:
        return int((directory / SIZE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return int((directory / "nats" / "jetstream").is_dir())


def counted(nodes: int) -> str:
    """Return a number of servers in words."""
    return f"{nodes} server" if nodes == 1 else f"{nodes} servers"
