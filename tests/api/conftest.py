"""One cell for all tests of the API: a real worker, a simulated one."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.kit.stack import Api, RunningStack, stack_up


@pytest.fixture(scope="session")
async def stack(anyio_backend: str) -> AsyncIterator[RunningStack]:
    """The cell."""
    async with stack_up(workers=1, slots=2, simulate="cpu:1", simulate_seconds=0.0) as running:
        yield running


@pytest.fixture(scope="session")
def api(stack: RunningStack) -> Iterator[Api]:
    """A client with the token."""
    with stack.api() as client:
        yield client
