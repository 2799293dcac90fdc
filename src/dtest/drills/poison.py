"""The drill of a poisoned revision: what faults everywhere is blamed, and not the workers."""

import asyncio

from dtest.drills.drill import Scene
from dtest.drills.load import ON_SIMULATED, seen_within
from dtest.drills.report import Injection
from dtest.events.fields import RunId, TaskId
from dtest.events.run import RunCancelRequested
from dtest.events.task import TaskQueued

TASKS = 30
RECOVERED_S_MAX = 60.0
FAULTS = {"command": ["/bin/true"], "simulate": {"seconds": 0.0, "outcome": "faulted"}}


async def poison(scene: Scene, number: int) -> Injection:
    """Submit a revision that faults on every worker; recovered is when a breaker opens for it.

    All its tasks have one name, so it is their signature, or their revision, that is blamed.
    """
    revision = f"poison-{number}"
    client = scene.ground.client("poisoner")
    tasks = [
        TaskQueued(
            TaskId(f"{revision}-{task}"),
            "command",
            FAULTS,
            RunId(revision),
            revision,
            requirements=ON_SIMULATED,
            labels={"revision": revision},
        )
        for task in range(TASKS)
    ]

    def is_blamed(kind: str, data: dict[str, object], _: object) -> bool:
        return kind == "breaker.opened" and str(data["breaker_id"]).partition(":")[0] != "worker"

    async with scene.watcher.expecting(is_blamed) as blamed:
        at = scene.watcher.since()
        await client.say(tasks)
        recovered_at = await seen_within(blamed, RECOVERED_S_MAX, f"the breaker of {revision}")
    await client.say([RunCancelRequested(RunId(revision))])
    scene.watcher.seen.acknowledged += [task.task_id for task in tasks]
    await asyncio.sleep(1.0)
    return Injection("poisoned revision", at, recovered_at, revision)


async def no_worker_is_blamed(scene: Scene) -> list[str]:
    """Say which workers still stand under a guard for what a revision did."""
    barred: dict[str, str] = {}
    most = 0
    for kind, data in scene.watcher.events():
        name = str(data.get("worker_id") or data.get("breaker_id")).removeprefix("worker:")
        if ":" in name:
            continue  # the breaker of a revision or signature
        match kind:
            case "worker.quarantined" | "breaker.opened":
                barred[name] = kind
            case "worker.reinstated" | "breaker.closed":
                barred.pop(name, None)
            case _:
                pass
        most = max(most, len(barred))
    scene.report.figures["workers barred at once, at most"] = most
    return [f"{name} stays barred by {kind}" for name, kind in barred.items()]
