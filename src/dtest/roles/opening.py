"""The process that hands in the suite that its cell is made for, and ends.

``main`` takes the cell's directory and the number of its workers: the suite is divided among those
that are there when it is asked for. Whatever goes wrong here its caller meets again and tells, when
it hands the same suite in at the API: the event has the same id, so it is stored once.
"""

import asyncio
import sys
from pathlib import Path

from dtest.client import Client, event_ids, parse_suite
from dtest.errors import Unavailable
from dtest.events import subject
from dtest.events.fields import ClientId, RunId, WorkerId
from dtest.events.worker import WorkerRegistered
from dtest.journal.queue import UnitQueue, packed
from dtest.roles.session import Session, session
from dtest.runtime.clock import SystemClock
from dtest.runtime.first_suite import FirstSuite, read_first, write_answer
from dtest.runtime.logs import set_up_logs
from dtest.settings import load_settings

WRITTEN_S_MAX = 20.0
LOOK_EVERY_S = 0.005
REGISTERED_S_MAX = 30.0


def main() -> None:
    """Hand in what the caller writes down; note where it stands in the journal."""
    set_up_logs(role="opening", json_lines=True)
    asyncio.run(_open(Path(sys.argv[1]), int(sys.argv[2])))


async def _open(directory: Path, workers: int) -> None:
    settings = load_settings()
    async with session(settings, name="dtest opening") as opened:
        first = await _written(directory)
        await _registered(opened, workers)
        write_answer(directory, await handed_in(opened, first))


async def _written(directory: Path) -> FirstSuite:
    """Wait for what the caller promised to write. Raises Unavailable."""
    for _ in range(int(WRITTEN_S_MAX / LOOK_EVERY_S)):
        first = read_first(directory)
        if first is not None:
            return first
        await asyncio.sleep(LOOK_EVERY_S)
    message = "no first suite was written down"
    raise Unavailable(message)


async def _registered(opened: Session, workers: int) -> None:
    """Wait for the cell's workers. Raises TimeoutError."""
    where = subject.agent(opened.cell, WorkerId("*"), WorkerRegistered.TYPE)
    found = 0
    async with asyncio.timeout(REGISTERED_S_MAX), opened.journal.follow(0, subject=where) as feed:
        async for batch in feed:
            found += len(batch)
            if found >= workers:
                return


async def handed_in(opened: Session, first: FirstSuite) -> int:
    """Record the suite; return where it stands. Raises InvalidDocument."""
    name = str(first.document["run_id"])
    ids = event_ids(name, 1)
    spec = parse_suite(first.document, run_id=RunId(name))
    if first.known is not None:
        queue = UnitQueue(opened.connection, opened.cell, spec.run_id)
        await queue.recall(packed({**first.known, "run_id": name}))
    client = Client(
        opened.journal,
        cell=opened.cell,
        client_id=ClientId("opening"),
        now=SystemClock().now,
        new_id=opened.new_id,
    )
    return (await client.say([spec], ids=ids))[0].seq
