"""What every role opens first: the connection and the journal of its cell."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtest.errors import UsageError
from dtest.events.fields import CellId
from dtest.journal.connection import Connection, NatsAddress, connect
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.streams import journal_name
from dtest.runtime.ids import IdSource
from dtest.runtime.lifecycle import hold_many_objects, on_stop_signals, run_until_stopped
from dtest.settings import Settings


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection to one cell."""

    cell: CellId
    connection: Connection
    journal: JetStreamJournal
    new_id: IdSource


def address_of(settings: Settings) -> NatsAddress:
    """Return where NATS is. Raises Unavailable if nothing says so."""
    creds = settings.get("nats_creds")
    return NatsAddress(
        tuple(settings.require("nats_url").split(",")),
        settings.get("nats_user"),
        settings.get("nats_password"),
        settings.get("nats_token"),
        Path(creds) if creds else None,
        _trusting(settings.get("nats_ca")),
    )


def _trusting(path: str | None) -> ssl.SSLContext | None:
    """Return what TLS trusts: the certificates of a file; none: what the machine trusts."""
    if path is None:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        message = f"nats_ca names {path}, which holds no certificates: {error}"
        raise UsageError(message, hint="it takes the authority's certificate as PEM") from error


PATIENCE_S = 3_600.0
"""How long the holder of an office repeats one append while the brokers are away."""
OFFICE_CONNECT_S_MAX = 15.0


async def hold_office(
    settings: Settings, run: Callable[[Session], Coroutine[Any, Any, None]], *, name: str
) -> None:
    """Run a process that stands by and is in office in turns, until a signal stops it.

    Raises as ``session``, and what ``run`` raises.
    """
    hold_many_objects()
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    async with (
        session(settings, name=name, retry_s_max=PATIENCE_S, wait_s=OFFICE_CONNECT_S_MAX) as opened,
        asyncio.TaskGroup() as group,
    ):
        await run_until_stopped(group.create_task(run(opened)), stop)


@asynccontextmanager
async def session(
    settings: Settings, *, name: str, retry_s_max: float = 30.0, wait_s: float = 5.0
) -> AsyncIterator[Session]:
    """Connect to the settings' cell."""
    connection = await connect(address_of(settings), name=name, wait_s=wait_s)
    new_id = IdSource()
    stream = journal_name(settings.cell)
    journal = JetStreamJournal(connection, stream, new_id=new_id, retry_s_max=retry_s_max)
    try:
        yield Session(settings.cell, connection, journal, new_id)
    finally:
        await connection.close()
