"""Drills on the read side: the projector dies in the middle of its writing."""

import asyncio
import os
import signal
from contextlib import suppress

import httpx

from dtest.drills.drill import Scene
from dtest.drills.report import Injection
from dtest.errors import TimedOut

RECOVERED_S_MAX = 60.0
LOOK_EVERY_S = 0.02


async def kill_projector(scene: Scene, _: int) -> Injection:
    """Kill the API with its projector; recovered is when it shows what was there at its death."""
    ground = scene.ground
    wanted = scene.watcher.messages[-1].seq
    pid = ground.child("api").process.pid
    at = scene.watcher.since()
    os.kill(pid, signal.SIGKILL)
    await shows(scene, "api", wanted)
    return Injection("projector killed", at, scene.watcher.since())


async def shows(scene: Scene, name: str, wanted: int) -> None:
    """Wait until an API shows a message. Raises TimedOut."""
    async with scene.ground.api(name) as api:
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOVERED_S_MAX):
                while True:
                    with suppress(httpx.HTTPError):
                        shown = (await api.get("/api/status")).json()
                        if shown.get("projected_seq", 0) >= wanted:
                            return
                    await asyncio.sleep(LOOK_EVERY_S)
    message = f"{name} did not show message {wanted} within {RECOVERED_S_MAX:g} s"
    raise TimedOut(message)
