"""What the tests of agents share: a keeper, a workbench, and one real cell for many tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agents.cell import RealCell, real_cell
from tests.kit.agent import Keeping, Workbench, keeping, workbench
from tests.kit.nats import Server, running


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeping]:
    async with keeping(tmp_path) as running_keeper:
        yield running_keeper


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Workbench]:
    async with workbench(tmp_path) as laid_out:
        yield laid_out


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("nats")) as started:
        yield started


@pytest.fixture(scope="session")
async def cell(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealCell]:
    """A cell with one agent, for tests that leave both as they were."""
    async with real_cell(server, tmp_path_factory.mktemp("cell")) as opened:
        await opened.agent("w1", "--slots", "4", "--drain-seconds", "0").start()
        yield opened
