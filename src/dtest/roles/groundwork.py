"""What a cell stands on: its streams, on brokers that run. Loads the client of NATS."""

import shutil
from dataclasses import replace
from pathlib import Path

from dtest.events.fields import CellId
from dtest.journal.cluster import await_leaders
from dtest.journal.connection import NatsAddress, connect
from dtest.journal.migration import create_streams, keep_all_subjects, usual_replicas
from dtest.journal.streams import Limits

READY_S_MAX = 60.0
DISK_PART = 0.2
"""Of the free disk: what a local cell may take. A broker takes three quarters at most, and may
serve several cells."""


async def lay(address: NatsAddress, cell: CellId, directory: Path, *, copies: int | None) -> None:
    """Create a cell's streams unless they are there, and wait until each has a leader.

    ``copies`` of each stream; by default as the brokers suggest. Streams are bounded by what is
    free where ``directory`` is. Raises Unavailable.
    """
    connection = await connect(address, name="dtest stack", wait_s=READY_S_MAX)
    try:
        room = int(shutil.disk_usage(directory).free * DISK_PART) // len(address.servers)
        replicas = await usual_replicas(connection, cell, copies)
        await create_streams(connection, cell, replace(Limits().within(room), replicas=replicas))
        await keep_all_subjects(connection, cell)
        await await_leaders(connection, cell, wait_s=READY_S_MAX)
    finally:
        await connection.close()
