"""Drills on workers: the agent dies and comes back, its machine dies, it hangs."""

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dtest.drills.checks import Life
from dtest.drills.drill import Scene
from dtest.drills.load import of_worker, seen_within
from dtest.drills.report import Injection
from dtest.events.fields import TaskId
from dtest.journal.stores import OutputStore, output_stream

RECOVERED_S_MAX = 60.0
ACKNOWLEDGEMENTS_DROPPED_S = 60.0
FAILING_EACH = 7
LINES = 120
COMMAND = (
    "for ten in 0 1 2 3 4 5 6 7 8 9 10 11; do for one in 0 1 2 3 4 5 6 7 8 9;"
    ' do echo "line $ten$one"; done; sleep 0.05; done;'
    f" test $(( ${{DTEST_TASK_ID#r}} % {FAILING_EACH} )) -ne 0"
)
"""Prints 120 numbered lines in about 0.6 s; each seventh task fails."""
_REAL = re.compile(r"r([0-9]+)")


async def restart(scene: Scene, _: int) -> Injection:
    """Kill an agent and not its keeper; recovered is when it has registered again."""
    name = scene.rng.choice(scene.ground.agents())
    worker = name.removeprefix("agent ")
    pid = scene.ground.child(name).process.pid

    async with scene.watcher.expecting(of_worker("worker.registered", worker)) as back:
        at = scene.watcher.since()
        os.kill(pid, signal.SIGKILL)
        recovered_at = await seen_within(back, RECOVERED_S_MAX, f"the registration of {worker}")
    return Injection("agent killed", at, recovered_at, worker)


async def lose(scene: Scene, number: int) -> Injection:
    """Kill a machine with all that runs on it, or have its agent hang, in turns.

    Recovered is when a client sees that the worker is given up, and its work with it.
    """
    name = scene.rng.choice(scene.ground.agents())
    worker, hangs = name.removeprefix("agent "), bool(number % 2)
    child = scene.ground.child(name)

    expecting = scene.watcher.expecting
    async with (
        expecting(of_worker("worker.suspected", worker)) as noticed,
        expecting(of_worker("worker.lost", worker)) as lost,
    ):
        at = scene.watcher.since()
        child.may_start.clear()
        if hangs:
            os.kill(child.process.pid, signal.SIGSTOP)
        else:
            scene.ground.kill_tree(name)
        try:
            noticed_at = await seen_within(noticed, RECOVERED_S_MAX, f"suspicion of {worker}")
            lost_at = await seen_within(lost, RECOVERED_S_MAX, f"the loss of {worker}")
        finally:
            async with scene.watcher.expecting(of_worker("worker.registered", worker)) as back:
                if hangs:
                    os.kill(child.process.pid, signal.SIGCONT)
                child.may_start.set()
                await seen_within(back, RECOVERED_S_MAX, f"the registration of {worker}")
    kind = "agent stopped" if hangs else "machine killed"
    return Injection(kind, at, lost_at, worker, noticed_at)


async def partition(scene: Scene, _: int) -> Injection:
    """Cut a worker off in both directions; recovered is when its work is given up."""
    ((name, wire),) = scene.ground.wiring.wires.items()
    return await _cut(scene, name, Cut("worker cut off", wire.cut, wire.mend))


async def drop_acknowledgements(scene: Scene, _: int) -> Injection:
    """Let a worker's reports through and keep every acknowledgement from it, for a minute.

    It repeats what it reported; each result counts once.
    """
    ((name, proxy),) = scene.ground.wiring.proxies.items()

    async def hold() -> None:
        proxy.hold(forth=False, back=True)

    cut = Cut("acknowledgements dropped", hold, proxy.mend, for_s=ACKNOWLEDGEMENTS_DROPPED_S)
    return await _cut(scene, name, cut)


@dataclass(frozen=True, slots=True)
class Cut:
    """How a wire is cut, and for how long at least."""

    kind: str
    cut: Callable[[], Awaitable[None]]
    mend: Callable[[], Awaitable[None]]
    for_s: float = 0.0


async def _cut(scene: Scene, name: str, cut: Cut) -> Injection:
    worker = name.removeprefix("agent ")

    expecting = scene.watcher.expecting
    async with (
        expecting(of_worker("worker.suspected", worker)) as noticed,
        expecting(of_worker("worker.lost", worker)) as lost,
    ):
        at = scene.watcher.since()
        await cut.cut()
        try:
            lost_at = await seen_within(lost, RECOVERED_S_MAX, f"the loss of {worker}")
            await asyncio.sleep(max(0.0, at + cut.for_s - scene.watcher.since()))
        finally:
            async with expecting(of_worker("worker.registered", worker)) as back:
                await cut.mend()
                await seen_within(back, RECOVERED_S_MAX, f"the registration of {worker}")
    return Injection(cut.kind, at, lost_at, worker, noticed.result())


async def verdicts_and_output(scene: Scene) -> list[str]:
    """Say which real tasks ended otherwise than undisturbed, or lost or repeated output."""
    opened = scene.ground.opened
    outputs = OutputStore(output_stream(opened.connection, opened.cell, opened.new_id), opened.cell)
    wrong: list[str] = []
    count = 0
    for name, life in scene.watcher.ledger.findings.tasks.items():
        match = _REAL.fullmatch(name)
        if match is None:
            continue
        count += 1
        wanted = "passed" if int(match[1]) % FAILING_EACH else "failed"
        if life.ends != [wanted]:
            story = scene.watcher.story(name)
            wrong.append(f"{name} ended as {life.ends}; undisturbed it is {wanted}: {story}")
            continue
        chunks = [chunk async for _, chunk in outputs.chunks(TaskId(name), len(life.attempts))]
        lines = b"".join(chunks).decode(errors="replace").split("\n")
        if lines != [*(f"line {line // 10}{line % 10}" for line in range(LINES)), ""]:
            wrong.append(f"{name}: {len(lines) - 1} lines, {len(set(lines)) - 1} distinct")
    scene.report.figures["real tasks with output"] = count
    return wrong if count else ["no real task ran"]


async def adopted(scene: Scene) -> list[str]:
    """Say which real tasks needed a second attempt though their process lived on."""
    lives = scene.watcher.ledger.findings.tasks
    again = [name for name, life in lives.items() if _is_real(name) and _repeated(life)]
    told = [f"{name} was run again: {scene.watcher.story(name)}" for name in again]
    return told + await verdicts_and_output(scene)


def _is_real(name: str) -> bool:
    return _REAL.fullmatch(name) is not None


def _repeated(life: Life) -> bool:
    return len(life.attempts) > 1
