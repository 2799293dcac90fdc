"""Locks between tasks and processes of one machine, let go by the death of who holds them."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

AGAIN_S = 0.05


@asynccontextmanager
async def waiting_for(path: Path) -> AsyncIterator[None]:
    """Hold a lock; wait for it until cancelled. Raises OSError."""
    with _opened(path) as descriptor:
        while not _taken(descriptor):  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(AGAIN_S)
        yield


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock that nobody holds for long. Raises OSError."""
    with _opened(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
