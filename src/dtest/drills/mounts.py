"""Small file systems, made for a drill: they need the right to mount (root on Linux)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dtest.errors import PermissionRefused


@asynccontextmanager
async def small_disk(place: Path, megabytes: int) -> AsyncIterator[None]:
    """Mount a file system of so many megabytes in memory. Raises PermissionRefused."""
    await asyncio.to_thread(place.mkdir, parents=True)
    size = f"size={megabytes}m,mode=0700"
    said = await _run("mount", "-t", "tmpfs", "-o", size, "dtest-drill", str(place))
    if said:
        message = f"a small disk cannot be mounted: {said}"
        raise PermissionRefused(message, hint="run this drill as root on Linux")
    try:
        yield
    finally:
        await _run("umount", "--lazy", str(place))


async def _run(*command: str) -> str:
    """Run a command; return what it complained about, nothing if it did as asked."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        return str(error)
    _, said = await process.communicate()
    return said.decode(errors="replace").strip() if process.returncode else ""
