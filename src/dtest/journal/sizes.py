"""Changes the sizes of a cell's streams, while they are in use."""

from collections.abc import Mapping
from typing import Any, Literal

from dtest.errors import Conflict, Unavailable
from dtest.events.fields import CellId
from dtest.journal.api import ask_api
from dtest.journal.connection import Connection
from dtest.journal.streams import artifact_bucket, journal_name, output_name, telemetry_name

Sized = Literal["journal", "output", "telemetry", "artifacts"]


def stream_of(cell: CellId, sized: Sized) -> str:
    """Return the name of the stream."""
    match sized:
        case "journal":
            return journal_name(cell)
        case "output":
            return output_name(cell)
        case "telemetry":
            return telemetry_name(cell)
        case "artifacts":
            return f"OBJ_{artifact_bucket(cell)}"


async def resize_streams(
    connection: Connection, cell: CellId, sizes: Mapping[Sized, int]
) -> dict[str, int]:
    """Set the limits of streams that exist; return each by its name.

    Raises Conflict for a stream that forgets nothing and holds more than that already.
    """
    changed: dict[str, int] = {}
    for sized, max_bytes in sizes.items():
        name = stream_of(cell, sized)
        found = await _ask(connection, f"STREAM.INFO.{name}", {}, name)
        config, used_bytes = found["config"], int(found["state"]["bytes"])
        if config["discard"] == "new" and used_bytes > max_bytes:
            message = f"{name} holds {used_bytes} bytes, more than {max_bytes}"
            raise Conflict(message, hint="it forgets nothing: give it more")
        await _ask(connection, f"STREAM.UPDATE.{name}", {**config, "max_bytes": max_bytes}, name)
        changed[name] = max_bytes
    return changed


async def _ask(
    connection: Connection, verb: str, request: dict[str, object], name: str
) -> dict[str, Any]:
    reply = await ask_api(connection, verb, request)
    error = reply.get("error")
    if error is not None:
        message = f"cannot change {name}: {error.get('description')}"
        hint = "create it with `dtest server migrate`, or free disk space at the broker"
        raise Unavailable(message, hint=hint)
    return reply
