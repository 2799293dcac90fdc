"""A projector that is killed again and again, while events come in, projects each event once."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from dtest.events.fields import CellId
from dtest.journal.port import Outgoing, Stored
from dtest.journal.streams import journal_name
from dtest.projections.projector import Projector, Source
from dtest.projections.store import Store, opened
from tests.kit.nats import NatsCell, Server, joined, running
from tests.projections.history import History, tables, task
from tests.projections.story import Story

ROOT = Path(__file__).parents[2]
CELL = CellId("main")
KILLS = 10
KILLS_SLOW = 200
ROUND_S_MAX = 60.0
LINES_MAX = 6
"""A projector is killed after it said at most so much."""
MESSAGES_FOR_EACH_LINE = 10
"""Events come in while it writes."""


class Publisher:
    """Appends a story, and then tasks without end."""

    def __init__(self, cell: NatsCell, stored: Sequence[Stored]) -> None:
        self._cell = cell
        self._rest = list(stored)
        self._filler = History()
        self._turn = asyncio.Lock()
        self.events = 0

    async def publish(self) -> None:
        """Append some messages, in their order."""
        async with self._turn:
            for _ in range(MESSAGES_FOR_EACH_LINE):
                stored = self._next()
                await self._cell.journal.append(
                    Outgoing(stored.subject, stored.payload, self._cell.new_id())
                )
                self.events += len(stored.record().events)

    def _next(self) -> Stored:
        if self._rest:
            return self._rest.pop(0)
        number = self._filler.last
        self._filler.say(task(f"filler-{number}-a"), task(f"filler-{number}-b"))
        return self._filler.stored[-1]


@asynccontextmanager
async def projecting(path: Path, server: Server) -> AsyncIterator[asyncio.subprocess.Process]:
    """A projector's process; what is left of it is killed at the end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DTEST_")}
    address = server.address
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.projections.projecting", str(path), CELL),
        cwd=ROOT,
        env={
            **kept,
            "DTEST_NATS_URL": address.servers[0],
            "DTEST_NATS_USER": str(address.user),
            "DTEST_NATS_PASSWORD": str(address.password),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def killed_once(
    path: Path, server: Server, publisher: Publisher, *, after_lines: int
) -> list[str]:
    """Run a projector while events come in, and kill it in the middle of what it does."""
    said: list[str] = []
    async with asyncio.timeout(ROUND_S_MAX), projecting(path, server) as process:
        assert process.stdout is not None
        async with asyncio.TaskGroup() as group:
            while len(said) < after_lines:
                line = (await process.stdout.readline()).decode().strip()
                assert line, "the projector ended by itself"
                said.append(line)
                group.create_task(publisher.publish())
            process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        said += (await process.stdout.read()).decode().split("\n")[:-1]
    return said


async def catch_up(store: Store, cell: NatsCell) -> int:
    """Project all there is; return the journal's last sequence number."""
    source = Source(cell.journal, journal_name(CELL))
    projector = Projector(store, source, cell=CELL)
    await projector.start()
    last = (await cell.journal.bounds()).last
    await projector.run(until=last)
    return last


def check_each_event_once(store: Store, *, events: int, last: int) -> None:
    counted = store.query(
        "SELECT count(*), count(DISTINCT (seq, idx)), count(DISTINCT seq), max(seq) FROM events"
    ).rows
    assert counted == [(events, events, last, last)]
    progress = store.progress(journal_name(CELL))
    assert progress is not None
    assert progress.seq == last


def check_what_was_said(path: Path, said: Sequence[str]) -> None:
    """What was said to be written is; nothing is written that was not begun."""
    ended = [int(line.partition(" ")[2]) for line in said if line.startswith("end ")]
    begun = [int(line.partition(" ")[2]) for line in said if line.startswith("begin ")]
    with opened(path) as store:
        progress = store.progress(journal_name(CELL))
        held = progress.seq if progress is not None else 0
        assert held >= max(ended, default=0)
        if begun:
            assert held <= max(begun)
        (counted,) = store.query(
            "SELECT count(DISTINCT seq), coalesce(max(seq), 0) FROM events"
        ).rows
        assert counted == (held, held)


async def kill_in_a_loop(tmp_path: Path, *, kills: int, seed: int) -> None:
    luck = random.Random(seed)
    path = tmp_path / "read-model.duckdb"
    middles = 0
    async with running(tmp_path / "nats") as server, joined(server.address, CELL) as cell:
        publisher = Publisher(cell, Story(seed).tell(300).journal)
        for _ in range(kills):
            lines = luck.randint(2, LINES_MAX)
            said = await killed_once(path, server, publisher, after_lines=lines)
            middles += said[-1].startswith("begin ")
            check_what_was_said(path, said)
        with opened(path) as store, opened(tmp_path / "from-zero.duckdb") as anew:
            last = await catch_up(store, cell)
            check_each_event_once(store, events=publisher.events, last=last)
            await catch_up(anew, cell)

            assert tables(store) == tables(anew)
    assert middles, "not one kill was in the middle of a transaction: the test tests nothing"


@pytest.mark.slow
async def test_a_projector_that_is_killed_again_and_again_projects_each_event_once(
    tmp_path: Path,
) -> None:
    await kill_in_a_loop(tmp_path, kills=KILLS, seed=1)


@pytest.mark.slow
async def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    await kill_in_a_loop(tmp_path, kills=KILLS_SLOW, seed=2)
