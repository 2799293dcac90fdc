"""Drills on full disks: the small file system under one part of a cell is filled up for a while."""

import asyncio
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from dtest.drills.drill import Scene
from dtest.drills.ground import SECOND_API
from dtest.drills.load import seen_within
from dtest.drills.readers import shows
from dtest.drills.replica import projection_differences, replica
from dtest.drills.report import Injection
from dtest.journal.port import Stored

FULL_S = 8.0
RECOVERED_S_MAX = 90.0
CHUNK = b"x" * 65_536


async def fill_agent(scene: Scene, _: int) -> Injection:
    """Fill the disk of an agent for a while; recovered is when its work is done elsewhere."""
    ((name, disk),) = scene.ground.small_disks.items()
    async with scene.watcher.expecting(_done_again) as again:
        at = scene.watcher.since()
        await _kept_full(disk / "filling")
        recovered_at = await seen_within(again, RECOVERED_S_MAX, "the end of a second attempt")
    return Injection("agent's disk full", at, recovered_at, name)


def _done_again(kind: str, data: dict[str, Any], _: Stored) -> bool:
    """A later attempt ends by its own verdict."""
    return (
        kind == "attempt.finished"
        and data["attempt"] > 1
        and data["outcome"] in ("passed", "failed")
    )


async def fill_projector(scene: Scene, _: int) -> Injection:
    """Fill the disk of an API's read model; recovered is when it shows what came meanwhile."""
    ((name, disk),) = scene.ground.small_disks.items()
    at = scene.watcher.since()
    await _kept_full(disk / "filling")
    await shows(scene, name, scene.watcher.messages[-1].seq)
    return Injection("projector's disk full", at, scene.watcher.since(), name)


async def rows_are_exact(scene: Scene) -> list[str]:
    """Say where the read model that had no room differs from the one that had."""
    ((_, disk),) = scene.ground.small_disks.items()
    cell = scene.ground.opened.cell
    last = scene.watcher.messages[-1].seq
    await asyncio.gather(*(shows(scene, name, last) for name in scene.ground.api_urls))
    copy = await replica(scene.watcher.messages)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "read-model.duckdb"
        await _stop(scene)
        await asyncio.to_thread(shutil.copy, disk / cell / "read-model.duckdb", file)
        return await projection_differences(copy, cell, file, Path(place) / "fresh.duckdb")


async def _stop(scene: Scene) -> None:
    """End the API whose file is looked at: it has one owner at a time."""
    child = scene.ground.child(SECOND_API)
    child.may_start.clear()
    child.process.terminate()
    await child.process.wait()


async def _kept_full(filling: Path) -> None:
    """Take every byte that is free, again and again for a while, then give them back."""
    loop = asyncio.get_running_loop()
    until = loop.time() + FULL_S
    try:
        while loop.time() < until:
            await asyncio.to_thread(_fill, filling)
            await asyncio.sleep(0.1)
    finally:
        await asyncio.to_thread(filling.unlink, missing_ok=True)


def _fill(filling: Path) -> None:
    with filling.open("ab", buffering=0) as file:
        try:
            while os.write(file.fileno(), CHUNK):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
