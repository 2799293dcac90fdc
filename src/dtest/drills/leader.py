"""Drills on the leader: killed, stopped, asked to go; its standby takes over."""

import asyncio
import os
import signal

from dtest.drills.drill import Scene
from dtest.drills.load import seen_within
from dtest.drills.report import Injection

RECOVERED_S_MAX = 30.0


async def kill_or_stop(scene: Scene, number: int) -> Injection:
    """Kill the leader by -9, or stop it and let it go on later, in turns."""
    return await _depose(scene, signal.SIGSTOP if number % 2 else signal.SIGKILL)


async def kill(scene: Scene, _: int) -> Injection:
    """Kill the leader by -9."""
    return await _depose(scene, signal.SIGKILL)


async def any_way(scene: Scene, number: int) -> Injection:
    """End the leader's term gracefully, hard, or by a stop, in turns."""
    ways = (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP)
    return await _depose(scene, ways[number % len(ways)])


async def _depose(scene: Scene, how: signal.Signals) -> Injection:
    """Recovered is when a client sees the first assignment of the next leader."""
    pid = await scene.ground.leader_pid()
    epoch = scene.watcher.ledger.findings.epochs[-1]

    def is_next(kind: str, _: object, __: object) -> bool:
        return kind == "attempt.assigned" and scene.watcher.ledger.findings.epochs[-1] > epoch

    async with scene.watcher.expecting(is_next) as assigned:
        at = scene.watcher.since()
        os.kill(pid, how)
        try:
            recovered_at = await seen_within(assigned, RECOVERED_S_MAX, "the next assignment")
        finally:
            if how is signal.SIGSTOP:
                await asyncio.sleep(scene.rng.uniform(0.0, 1.0))
                os.kill(pid, signal.SIGCONT)
    await _standby_is_back(scene, pid, ended=how is not signal.SIGSTOP)
    return Injection(how.name, at, recovered_at, f"process {pid}")


async def partition(scene: Scene, number: int) -> Injection:
    """Cut the leader off; its standby takes over, and it finds itself deposed afterwards.

    Only one scheduler can be cut off: in every second turn the other one is deposed first,
    so that this one leads.
    """
    (name,) = scene.ground.wiring.wires
    pid = await scene.ground.leader_pid()
    if scene.ground.child(name).process.pid != pid:
        await _depose(scene, signal.SIGTERM)
    epoch = scene.watcher.ledger.findings.epochs[-1]

    def is_next(kind: str, _: object, __: object) -> bool:
        return kind == "attempt.assigned" and scene.watcher.ledger.findings.epochs[-1] > epoch

    wire = scene.ground.wiring.wires[name]
    async with scene.watcher.expecting(is_next) as assigned:
        at = scene.watcher.since()
        await wire.cut()
        try:
            recovered_at = await seen_within(assigned, RECOVERED_S_MAX, "the next assignment")
            await asyncio.sleep(scene.rng.uniform(0.0, 8.0))
        finally:
            await wire.mend()
    await scene.ground.standby_is_ready()
    return Injection("leader cut off", at, recovered_at, f"turn {number + 1}")


async def _standby_is_back(scene: Scene, pid: int, *, ended: bool) -> None:
    """Wait until there is somebody to take over the next time."""
    if ended:
        for name, child in scene.ground.stack.children.items():
            if name.startswith("scheduler") and child.process.pid == pid:
                await scene.ground.started_again(name, pid)
    await scene.ground.standby_is_ready()
