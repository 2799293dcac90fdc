"""Worlds that golden journals are recorded of: no process runs, a seed draws all that happens."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from dtest.events.attempt import AttemptAssigned
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason
from dtest.events.task import Requirements, RetryPolicy
from tests.kit import facts
from tests.kit.archives import archived
from tests.kit.facts import cuda, machine, registered, started, task
from tests.kit.faulting import all_live, end
from tests.kit.parameters import quick
from tests.kit.recording import Recording
from tests.kit.simulation import Simulation
from tests.kit.world import World

Scene = Callable[[Path], None]
"""Leaves a journal as an archive in a directory."""
STRATEGY = ("progressive", "aggressive", "minimal")
FAULTS = (Reason.ENV_SETUP_FAILED, Reason.DISK_FULL, Reason.LAUNCH_FAILED, Reason.OOM_HOST)
HARDWARE = (Reason.DEVICE_LOST, Reason.GPU_HANG, Reason.OOM_DEVICE, Reason.OOM_TASK)


def simulated(seed: int, *, calm: bool = True) -> Scene:
    """Return the scene of one seed of the simulation: all goes wrong, then calms down."""

    def record(to: Path) -> None:
        simulation = Simulation(seed)
        simulation.trouble(400)
        if calm:
            simulation.calm()
        asyncio.run(archived(Recording(simulation.world.journal), to, segment=10_000))

    return record


def guarded(seed: int) -> Scene:
    """Return a scene of faults: breakers, quarantine, suspect devices, larger places."""

    def record(to: Path) -> None:
        rng = Random(seed)
        world = World().led()
        sizes = {"a": 8.0, "b": 16.0, "c": 16.0, "d": 80.0}
        for name, size in sizes.items():
            has = machine(2, cuda(0, size), cuda(1, size), labels={"host": name}, memory_gb=size)
            world.given(registered(name, has))
        for number in range(120):
            _ask(world, rng, number)
            world.settle()
            for one in all_live(world):
                _report(world, rng, one)
            world.tick(rng.choice([0.5, 0.5, 5.0, 30.0, 400.0])).settle()
        asyncio.run(archived(Recording(world.journal), to, segment=10_000))

    return record


def _ask(world: World, rng: Random, number: int) -> None:
    """Submit one task, and now and then choose another policy."""
    labels = {"signature": rng.choice("xyz"), **({"revision": "r1"} if number % 40 < 15 else {})}
    needs = Requirements(("cuda",)) if rng.random() < 0.4 else Requirements()
    if rng.random() < 0.5:
        needs = replace(needs, labels={"host": rng.choice("ab")})
    less = {"env": {"BATCH": "1"}} if rng.random() < 0.5 else None
    again = RetryPolicy(rng.choice([0, 1]))
    more: dict[str, Any] = {
        "labels": labels,
        "requirements": needs,
        "fallback_config": less,
        "retry_policy": again,
    }
    world.given(task(f"t{number}", **more))
    if number % 30 == 29:
        strategy, timeouts = rng.choice(STRATEGY), rng.choice(["observed", "declared"])
        numbers, reset = quick(rng, 4), tuple(quick(rng, rng.choice([0, 10])))
        world.given(PolicyChanged(None, strategy, timeouts, numbers, reset))  # type: ignore[arg-type]


def _report(world: World, rng: Random, one: AttemptAssigned) -> None:
    """End an attempt, mostly badly on the workers a and b."""
    world.given(started(one, world.now))
    if rng.random() < 0.2:
        kept = rng.random() < 0.5
        world.given(facts.checkpointed(one) if kept else facts.not_checkpointed(one))
    if rng.random() > (0.7 if one.worker_id in "ab" else 0.2):
        end(world, one, rng.choice(["passed", "passed", "failed"]))
        return
    reasons = HARDWARE if one.hardware == "cuda" and rng.random() < 0.6 else FAULTS
    ended = facts.finished(one, "faulted", rng.choice(reasons), world.now)
    has_gb = world.worker(one.worker_id).capability.memory_gb
    world.given(replace(ended, memory_bytes_peak=round(has_gb * 0.95e9)))
