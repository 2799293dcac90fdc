"""One real server, and one cluster, for all tests of the journal; who kills starts its own."""

from collections.abc import AsyncIterator

import pytest

from dtest.events.fields import CellId
from dtest.runtime.ids import short_id
from tests.kit.cluster import Cluster, running_cluster
from tests.kit.nats import NatsCell, Server, joined, running


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("nats")) as started:
        yield started


@pytest.fixture(scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with running_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def cell_id() -> CellId:
    return CellId(f"cell-{short_id()}")


@pytest.fixture
async def cell(server: Server, cell_id: CellId) -> AsyncIterator[NatsCell]:
    async with joined(server.address, cell_id) as opened:
        yield opened
