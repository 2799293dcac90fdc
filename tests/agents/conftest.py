"""What the tests of agents share: a keeper of an empty directory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.agent import Keeping, keeping


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeping]:
    async with keeping(tmp_path) as running:
        yield running
