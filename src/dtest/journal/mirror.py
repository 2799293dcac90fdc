"""A copy of a journal in a second region, and how it becomes the journal.

The two regions are servers of different JetStream domains, joined by a leaf node. The copy keeps
the origin's sequence numbers. It follows with a delay: what was acknowledged in the last moments
before the origin's loss may be missing. Output and artefacts are not copied.
"""

from dataclasses import dataclass, replace
from typing import Any

from dtest.errors import Conflict, NotFound, Unavailable
from dtest.events.fields import CellId
from dtest.journal.api import ask_api, get_info
from dtest.journal.connection import Connection
from dtest.journal.migration import create_streams, find_stream, usual_replicas
from dtest.journal.streams import Limits, journal_name, stream_configs

ORIGIN_S_MAX = 3.0
_NOT_IN_A_MIRROR = frozenset({"subjects", "allow_atomic", "duplicate_window"})
_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class MirrorState:
    """How far a copy is."""

    stream: str
    api: str
    """Where the origin's JetStream is asked."""
    last_seq: int
    lag: int
    """Messages that the origin has more, as far as it was heard."""
    heard_s: float | None
    """How long ago the origin was last heard; none if never."""


def mirror_config(cell: CellId, limits: Limits, domain: str) -> dict[str, Any]:
    """Return the configuration of a copy of a cell's journal that lies in another domain."""
    journal = stream_configs(cell, limits)[0]
    kept = {name: value for name, value in journal.items() if name not in _NOT_IN_A_MIRROR}
    return {**kept, "mirror": {"name": journal["name"], "external": {"api": f"$JS.{domain}.API"}}}


async def create_mirror(connection: Connection, cell: CellId, limits: Limits, domain: str) -> None:
    """Create the copy where there is none. Raises Conflict if its name is another stream's."""
    wanted = mirror_config(cell, limits, domain)
    found = await find_stream(connection, wanted["name"])
    if found is not None:
        state = mirror_state(found)
        if state is None:
            message = f"{wanted['name']} is a journal of its own here"
            raise Conflict(message, hint="connect to the servers of the second region by --nats")
        if state.api != wanted["mirror"]["external"]["api"]:
            message = f"{state.stream} is a copy from {state.api} already, not from {domain}"
            raise Conflict(message, hint="delete it there first, or name that domain")
        return
    reply = await ask_api(connection, f"STREAM.CREATE.{wanted['name']}", wanted)
    if "error" in reply:
        message = f"cannot create {wanted['name']}: {reply['error'].get('description')}"
        raise Unavailable(message, hint="docs/operations.md, section Second region")


def mirror_state(info: dict[str, Any]) -> MirrorState | None:
    """Read how far a copy is; none for a stream that is no copy."""
    if "mirror" not in info["config"]:
        return None
    source = info.get("mirror") or {}
    active = int(source.get("active", -1))
    return MirrorState(
        str(info["config"]["name"]),
        str(info["config"]["mirror"].get("external", {}).get("api", "")),
        int(info["state"]["last_seq"]),
        int(source.get("lag", 0)),
        round(active / _NS_PER_S, 3) if active >= 0 else None,
    )


async def get_mirror(connection: Connection, cell: CellId) -> MirrorState:
    """Say how far the copy of a cell's journal is. Raises NotFound if there is no copy."""
    found = await find_stream(connection, journal_name(cell))
    state = mirror_state(found) if found is not None else None
    if state is None:
        message = f"there is no copy of the journal of cell {cell} here"
        raise NotFound(message, hint="make one: `dtest server mirror --domain NAME`")
    return state


async def promote(connection: Connection, cell: CellId, *, replicas: int | None = None) -> int:
    """Make the copy the journal, and the cell's other streams; return its last sequence number.

    Raises NotFound if there is no copy, Conflict if it holds nothing, and while the origin answers:
    there would be two journals with different events under the same numbers.
    """
    state = await get_mirror(connection, cell)
    if state.last_seq == 0:
        message = f"the copy of {state.stream} holds nothing: it never heard its origin"
        raise Conflict(message, hint="check the leaf node's link, or delete the copy")
    if await _answers(connection, f"{state.api}.STREAM.INFO.{state.stream}"):
        message = f"the origin of {state.stream} answers at {state.api}"
        hint = "stop it or cut the leaf node's link first: a cell must not have two journals"
        raise Conflict(message, hint=hint)
    info = await get_info(connection, state.stream)
    count = await usual_replicas(connection, cell, replicas)
    limits = replace(Limits(), replicas=count, journal_bytes=int(info["config"]["max_bytes"]))
    config = {**info["config"], **stream_configs(cell, limits)[0]}
    del config["mirror"]
    reply = await ask_api(connection, f"STREAM.UPDATE.{state.stream}", config)
    if "error" in reply:
        message = f"cannot promote {state.stream}: {reply['error'].get('description')}"
        raise Unavailable(message, hint="nothing was changed; repeat")
    await create_streams(connection, cell, limits)
    return int(reply["state"]["last_seq"])


async def _answers(connection: Connection, where: str) -> bool:
    try:
        return (await connection.ask(where, b"", timeout_s=ORIGIN_S_MAX)).status == 0
    except TimeoutError:
        return False
