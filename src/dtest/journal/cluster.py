"""The servers behind a connection: who is alive, who leads which stream, whose replica lags.

A server is asked directly, on the port for clients: it greets everybody with its name. What the
replicas hold is what each stream's leader says.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dtest.errors import Unavailable
from dtest.events.fields import CellId
from dtest.journal.api import get_info
from dtest.journal.connection import Connection
from dtest.journal.streams import stream_names

GREET_S_MAX = 1.0
LOOK_EVERY_S = 0.05
LAG_MAX = 100
"""Under load a copy is always a few entries behind; that is no defect."""
HEARD_MS_MAX = 3_000.0
"""Copies answer their leader each second. A leader that was cut off still takes for current what it
no longer hears."""
CLIENT_PORT = 4222
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Greeting:
    """How the server at an address answers; without a name: not at all."""

    address: str
    server_name: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Replica:
    """One server's copy of a stream, as the stream's leader sees it."""

    server_name: str
    leads: bool
    current: bool
    """Whether it holds everything, or nearly."""
    offline: bool
    lag: int
    """Messages and other entries that it has yet to store."""
    heard_ms: float | None
    """How long ago it was last heard; none for the leader itself."""

    @property
    def is_near(self) -> bool:
        """Say whether it holds everything but what is on its way."""
        return self.is_heard and (self.current or 0 < self.lag <= LAG_MAX)

    @property
    def is_heard(self) -> bool:
        """Say whether its leader hears it."""
        return not self.offline and (self.leads or (self.heard_ms or 0.0) <= HEARD_MS_MAX)

    def lacking(self) -> str:
        """Say what keeps it from being near."""
        if self.offline:
            return f"{self.server_name} is offline"
        if not self.is_heard:
            return f"{self.server_name} was not heard for {self.heard_ms or 0.0:.0f} ms"
        return f"{self.server_name} lags by {self.lag}"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a stream lies."""

    stream: str
    leader: str | None
    """None while there is none, and for a server that stands alone."""
    clustered: bool
    replicas: tuple[Replica, ...]
    copies: int
    """How many there should be."""
    messages: int

    @property
    def is_led(self) -> bool:
        """Say whether somebody serves it."""
        return self.leader is not None or not self.clustered

    @property
    def is_whole(self) -> bool:
        """Say whether every copy is there and holds everything, or nearly under load."""
        whole = [one for one in self.replicas if one.is_near]
        return self.is_led and (not self.clustered or len(whole) == self.copies)

    def lacking(self) -> str:
        """Say what keeps it from being whole."""
        if not self.is_led:
            return f"{self.stream} has no leader"
        away = [one.lacking() for one in self.replicas if not one.is_near]
        missing = self.copies - len(self.replicas)
        return f"{self.stream}: {', '.join(away) or f'copies to be made: {missing}'}"


async def greet(address: str) -> Greeting:
    """Ask the server at an address for its name."""
    where = urlsplit(address if "://" in address else f"nats://{address}")
    shown = f"{where.hostname}:{where.port or CLIENT_PORT}"
    try:
        async with asyncio.timeout(GREET_S_MAX):
            reader, writer = await asyncio.open_connection(
                where.hostname, where.port or CLIENT_PORT
            )
            try:
                line = await reader.readline()
            finally:
                writer.transport.abort()
        info = json.loads(line.removeprefix(b"INFO "))
        return Greeting(shown, str(info["server_name"]), str(info["version"]))
    except (OSError, TimeoutError, ValueError, KeyError):
        return Greeting(shown, None, None)


async def greet_all(addresses: Iterable[str]) -> list[Greeting]:
    """Ask all servers at once."""
    return list(await asyncio.gather(*(greet(address) for address in addresses)))


async def get_placement(connection: Connection, stream: str) -> Placement:
    """Say where a stream lies. Raises Unavailable, also when there is no such stream."""
    return _placement(stream, await get_info(connection, stream))


def _placement(stream: str, info: dict[str, Any]) -> Placement:
    cluster = info.get("cluster") or {}
    leader = str(cluster["leader"]) if cluster.get("leader") else None
    replicas = [_replica(reply) for reply in cluster.get("replicas") or []]
    if leader is not None:
        replicas.append(
            Replica(leader, leads=True, current=True, offline=False, lag=0, heard_ms=None)
        )
    replicas.sort(key=lambda replica: replica.server_name)
    messages = int(info["state"]["messages"])
    copies = int(info["config"]["num_replicas"])
    return Placement(stream, leader, bool(cluster), tuple(replicas), copies, messages)


def _replica(reply: dict[str, Any]) -> Replica:
    return Replica(
        str(reply["name"]),
        leads=False,
        current=bool(reply.get("current")),
        offline=bool(reply.get("offline")),
        lag=int(reply.get("lag", 0)),
        heard_ms=round(int(reply.get("active", 0)) / _NS_PER_MS, 3),
    )


async def placements(connection: Connection, cell: CellId) -> list[Placement]:
    """Say where each stream of a cell lies. Raises as ``get_placement``."""
    return [await get_placement(connection, name) for name in stream_names(cell)]


async def await_leaders(
    connection: Connection, cell: CellId, *, wait_s: float, whole: bool = False
) -> list[Placement]:
    """Wait until each stream of a cell has a leader, or even all its copies. Raises Unavailable."""
    problem = "no answer"
    try:
        async with asyncio.timeout(wait_s):
            while True:
                try:
                    found = await placements(connection, cell)
                except Unavailable as error:
                    problem = error.message
                else:
                    lacking = [
                        one.lacking()
                        for one in found
                        if not (one.is_whole if whole else one.is_led)
                    ]
                    if not lacking:
                        return found
                    problem = "; ".join(lacking)
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError as error:
        message = f"the streams are not ready after {wait_s:g} s: {problem}"
        raise Unavailable(message, hint="`dtest cluster status` shows which server is away") from (
            error
        )
