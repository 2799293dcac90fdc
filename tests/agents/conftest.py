"""What the tests of agents share: a keeper of an empty directory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.agent import Keeping, Workbench, keeping, workbench


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeping]:
    async with keeping(tmp_path) as running:
        yield running


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Workbench]:
    async with workbench(tmp_path) as laid_out:
        yield laid_out
