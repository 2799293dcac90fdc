"""The drill of an upgrade: every part of a cell is restarted in order, one after the other."""

import signal

from dtest.drills.drill import Scene
from dtest.drills.load import seen_within
from dtest.drills.readers import shows
from dtest.drills.report import Injection
from dtest.roles.child import Child

RECOVERED_S_MAX = 60.0


async def restart_everything(scene: Scene, _: int) -> Injection:
    """Restart brokers, schedulers, APIs and agents; recovered is when each one serves again."""
    injections = [await _restart(scene, child) for child in _in_order(scene)]
    scene.report.injections += injections[:-1]
    return injections[-1]


def _in_order(scene: Scene) -> list[Child]:
    children = scene.ground.stack.children.values()
    kinds = ("nats", "scheduler", "conductor", "api", "agent", "simulation")
    return [child for kind in kinds for child in children if child.name.startswith(kind)]


async def _restart(scene: Scene, child: Child) -> Injection:
    kind, _, number = child.name.replace("nats-n", "nats ").partition(" ")
    pid = child.process.pid
    at = scene.watcher.since()
    if kind in ("agent", "simulation"):
        await _again(scene, child, number)
    else:
        child.process.send_signal(signal.SIGTERM)
        await scene.ground.started_again(child.name, pid)
    match kind:
        case "nats":
            await scene.ground.brokers_are_whole()
        case "scheduler":
            await scene.ground.leader_pid()
            await scene.ground.standby_is_ready()
        case "api":
            await shows(scene, child.name, scene.watcher.messages[-1].seq)
        case _:
            pass
    return Injection(f"{kind} restarted", at, scene.watcher.since(), child.name)


async def _again(scene: Scene, child: Child, number: str) -> None:
    """Have agents drain, and wait until they are registered again."""
    worker = number or "sim-"

    def is_back(kind: str, data: dict[str, object], _: object) -> bool:
        return kind == "worker.registered" and str(data["worker_id"]).startswith(worker)

    async with scene.watcher.expecting(is_back) as back:
        child.process.send_signal(signal.SIGTERM)
        await seen_within(back, RECOVERED_S_MAX, f"the registration of {child.name}")


async def no_request_failed(scene: Scene) -> list[str]:
    """Say which requests of clients failed."""
    return [f"a request failed: {text}" for text in scene.watcher.seen.errors]
