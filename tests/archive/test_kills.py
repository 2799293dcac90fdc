"""A writer that is killed again and again leaves an exact archive, and always a readable one."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import orjson
import pytest

from dtest.archive.inspection import inspect
from dtest.archive.reader import read_archive
from dtest.events.fields import CellId
from dtest.journal.port import Outgoing, Stored, read_to
from tests.kit.archives import archived, segments
from tests.kit.nats import NatsCell, Server, joined, running

CELL = CellId("main")
KILLS = 4
KILLS_SLOW = 60
SEGMENT = 7
MESSAGES_EACH_KILL = 400
"""More than a writer gets done before it is killed."""
LINES_MAX = 12
ROUND_S_MAX = 60.0


async def say(cell: NatsCell, count: int) -> None:
    """Append messages, many at once."""
    last = (await cell.journal.bounds()).last
    where = f"dtest.{CELL}.client.x.task.queued"
    await cell.journal.append_batch(
        [Outgoing(where, b"%d" % (last + n) * (n % 50), cell.new_id()) for n in range(count)]
    )


@asynccontextmanager
async def archiving(directory: Path, server: Server) -> AsyncIterator[asyncio.subprocess.Process]:
    """A writer's process; what is left of it is killed at the end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DTEST_")}
    address = server.address
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dtest", "archive", "write", "--to", str(directory), "--follow"),
        *("--segment-messages", str(SEGMENT), "--segment-seconds", "0.05", "--json"),
        env={
            **kept,
            "DTEST_CELL": CELL,
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


async def killed_once(directory: Path, server: Server, *, after_lines: int) -> int:
    """Kill a writer that has work left; return the last message that it said is archived."""
    last = 0
    async with asyncio.timeout(ROUND_S_MAX), archiving(directory, server) as process:
        assert process.stdout is not None
        for _ in range(after_lines):
            line = await process.stdout.readline()
            assert line, "the writer ended by itself"
            last = orjson.loads(line)["label"]["last_seq"]
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    return last


async def told(cell: NatsCell) -> list[Stored]:
    last = (await cell.journal.bounds()).last
    async with aclosing(read_to(cell.journal, 0, last)) as batches:
        return [stored async for batch in batches for stored in batch]


async def kill_in_a_loop(tmp_path: Path, *, kills: int, seed: int) -> None:
    luck = random.Random(seed)
    directory = tmp_path / "archive"
    async with running(tmp_path / "nats") as server, joined(server.address, CELL) as cell:
        for _ in range(kills):
            await say(cell, MESSAGES_EACH_KILL)
            said = await killed_once(directory, server, after_lines=luck.randint(1, LINES_MAX))
            everything = await told(cell)
            held = list(read_archive(directory))

            assert inspect(directory).violations == []
            assert said <= len(held) < len(everything)
            assert held == everything[: len(held)]
        before = {path: path.read_bytes() for path in segments(directory)}
        await archived(cell.journal, directory, segment=SEGMENT, cell=CELL)

        assert list(read_archive(directory)) == await told(cell)
    found = inspect(directory)
    assert (found.violations, found.messages) == ([], kills * MESSAGES_EACH_KILL)
    assert {path: path.read_bytes() for path in before} == before


async def test_a_writer_that_is_killed_again_and_again_leaves_an_exact_archive(
    tmp_path: Path,
) -> None:
    await kill_in_a_loop(tmp_path, kills=KILLS, seed=1)


@pytest.mark.slow
async def test_sixty_kills_leave_an_exact_archive(tmp_path: Path) -> None:
    await kill_in_a_loop(tmp_path, kills=KILLS_SLOW, seed=2)
