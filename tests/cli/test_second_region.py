"""``dtest server mirror`` and ``promote``: what an operator types when a region is lost."""

import asyncio
from pathlib import Path

import pytest

from dtest.events.fields import CellId
from tests.cli.command import Ended, Person
from tests.journal.conformance import Bench
from tests.kit.nats import LIMITS, PASSWORD, USER, Server, eventually, joined
from tests.kit.regions import joined_regions

SIZE = ("--journal-bytes", str(LIMITS.journal_bytes))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def at(person: Person, server: Server, *words: str) -> Ended:
    """A call of the command line at a server."""
    there = person.at(
        person.cwd,
        DTEST_NATS_URL=f"nats://127.0.0.1:{server.port}",
        DTEST_NATS_USER=USER,
        DTEST_NATS_PASSWORD=PASSWORD,
    )
    return await asyncio.to_thread(there.dtest, "server", *words)


async def test_a_region_is_copied_lost_and_replaced(person: Person, tmp_path: Path) -> None:
    async with joined_regions(tmp_path / "regions") as regions:
        async with joined(regions.first.address, CellId("main")) as cell:
            await cell.journal.append(Bench(cell.journal, cell.cell).message())
            missing = await at(person, regions.second, "mirror")
            made = await at(person, regions.second, "mirror", "--domain", "first", "--json", *SIZE)

            async def is_copied() -> bool:
                shown = await at(person, regions.second, "mirror", "--json")
                return bool(shown.good().json["last_seq"] == 1)

            await eventually(is_copied, what="the copy holds everything")
            early = await at(person, regions.second, "promote")

        assert (missing.code, early.code) == (2, 2)
        assert "dtest server mirror --domain NAME" in missing.err
        assert "the origin of dtest-main-journal answers" in early.err
        assert made.good().json["stream"] == "dtest-main-journal"

        await regions.first.kill()
        promoted = await at(person, regions.second, "promote", "--json")

        assert promoted.good().json == {"cell": "main", "last_seq": 1}
        (await at(person, regions.second, "migrate", "--check")).good()
        again = await at(person, regions.second, "promote")
        assert again.code == 2
        assert "no copy of the journal" in again.err
