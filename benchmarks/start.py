"""How long scheduler and API take to start on a long history, with and without a snapshot.

Run: ``python benchmarks/start.py [--events 1000000] [--rounds 3] [--keep DIR]``. Plays the history
through a whole cell with simulated workers, stops it, and starts a scheduler alone on its journal:
the clock runs from the start of the process to where a client sees its election in the journal.
Then an API alone, over a read model that is complete: to where it shows the journal's end. With
``--keep`` the cell stays in the directory, and is taken from there the next time. Prints one JSON
object: seconds as medians over the rounds, with the lowest and highest.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from core import CELL

from dtest.client import Client
from dtest.events import subject
from dtest.events.fields import ClientId, RunId, TaskId
from dtest.events.task import Requirements, TaskQueued
from dtest.journal.port import read_to
from dtest.leadership.snapshots import IDLE_EVENTS_MIN
from dtest.roles.session import Session, session
from dtest.roles.stack import Stack
from dtest.roles.stack_options import StackOptions
from dtest.runtime.clock import SystemClock
from dtest.runtime.ports import free_port
from dtest.settings import settings_of

STEP_TASKS = 20_000
"""So many are submitted at once, and awaited."""
SAY_TASKS = 500
EVENTS_PER_TASK_MIN = 3
"""Queued, assigned, finished."""
SIMULATED = {"command": ["/bin/true"], "simulate": {"seconds": 0.0}}
ON_SIMULATED = Requirements(labels={"simulated": "true"})


@asynccontextmanager
async def cell(place: Path, *, whole: bool) -> AsyncIterator[tuple[Stack, Session]]:
    """Run a cell without an API, or its broker alone."""
    options = StackOptions(
        CELL,
        place,
        workers=0,
        simulate="cpu:2" if whole else "",
        simulate_slots=256,
        simulate_seconds=0.0,
        api=False,
        brokers_only=not whole,
    )
    stack = Stack(options)
    settings = settings_of(await stack.start(), place)
    try:
        async with session(settings, name="benchmark", retry_s_max=120.0) as opened:
            yield stack, opened
    finally:
        await stack.stop()


async def play(place: Path, events: int) -> None:
    """Have a cell run tasks until its journal holds so many events, and write its snapshot."""
    async with cell(place, whole=True) as (_, opened):
        client = Client(
            opened.journal,
            cell=CELL,
            client_id=ClientId("bench"),
            now=SystemClock().now,
            new_id=opened.new_id,
        )
        done = 0
        while done * EVENTS_PER_TASK_MIN < events:
            after = (await opened.journal.bounds()).last
            names = [TaskId(f"task-{number}") for number in range(done, done + STEP_TASKS)]
            for first in range(0, STEP_TASKS, SAY_TASKS):
                await client.say(
                    [
                        TaskQueued(
                            name, "command", SIMULATED, RunId("run"), requirements=ON_SIMULATED
                        )
                        for name in names[first : first + SAY_TASKS]
                    ]
                )
            await ended(opened, after, STEP_TASKS)
            done += STEP_TASKS
            print(f"{done} tasks", file=sys.stderr, flush=True)
        await settled(opened, snapshots(place))


async def ended(opened: Session, after: int, tasks: int) -> None:
    """Wait for the ends of so many attempts."""
    where = f"dtest.{opened.cell}.agent.*.attempt.finished"
    async with opened.journal.follow(after, subject=where) as feed:
        async for batch in feed:
            tasks -= sum(len(stored.record().events) for stored in batch)
            if tasks <= 0:
                return


async def events_after(opened: Session, seq: int) -> int:
    """Count the events after a message."""
    last = (await opened.journal.bounds()).last
    batches = read_to(opened.journal, seq, last)
    return sum([sum(len(stored.record().events) for stored in batch) async for batch in batches])


def taken_after(directory: Path) -> list[int]:
    """Return after which messages snapshots were taken, the oldest first."""
    return sorted(int(path.stem) for path in directory.glob("*.snapshot"))


async def settled(opened: Session, directory: Path) -> None:
    """Wait until there is a snapshot after which no other one comes."""
    while await events_after(opened, max(taken_after(directory), default=0)) >= IDLE_EVENTS_MIN:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(1.0)


def snapshots(place: Path) -> Path:
    """Where the scheduler keeps them."""
    return place / CELL / "snapshots"


@dataclass(frozen=True)
class Start:
    """One start of a process."""

    wall_s: float
    cpu_s: float
    """Of the process itself: what other work on the machine disturbs less."""


def cpu_s(pid: int) -> float:
    """Return the processor time of a process."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def lead(stack: Stack, opened: Session) -> Start:
    """Start a scheduler, wait until its election stands in the journal, and end it."""
    after = (await opened.journal.bounds()).last
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dtest.roles.scheduler"),
        env=stack.child_environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with opened.journal.follow(after, subject=subject.epoch(CELL)) as feed:
            await anext(aiter(feed))
        return Start(time.monotonic() - begun, cpu_s(process.pid))
    finally:
        os.kill(process.pid, signal.SIGTERM)
        await process.wait()


async def measure(place: Path, rounds: int) -> dict[str, object]:
    """Take starts from the newest snapshot, from the one before it, and from none, in turns."""
    kept, taken = snapshots(place), place / "taken-away"
    shutil.rmtree(taken, ignore_errors=True)
    shutil.copytree(kept, taken)
    older, newest = taken_after(kept)[-2:]
    used = {"newest": (older, newest), "one_before": (older,), "none": ()}
    times: dict[str, list[Start]] = {name: [] for name in used}
    async with cell(place, whole=False) as (stack, opened):
        bounds = await opened.journal.bounds()
        folded = {
            name: await events_after(opened, max(seqs, default=0)) for name, seqs in used.items()
        }
        for _ in range(rounds):
            for name, seqs in used.items():
                shutil.rmtree(kept)
                kept.mkdir(mode=0o700)
                for seq in seqs:
                    shutil.copy(taken / f"{seq:020}.snapshot", kept)
                times[name].append(await lead(stack, opened))
                print(f"snapshot {name}: {times[name][-1]}", file=sys.stderr, flush=True)
        shutil.rmtree(kept)
        taken.rename(kept)
        api = await measure_api(stack, opened, rounds)
    return {
        "events": folded["none"],
        "messages": bounds.messages,
        "rounds": rounds,
        "snapshot_bytes": (kept / f"{newest:020}.snapshot").stat().st_size,
        "load_average": round(os.getloadavg()[0], 1),
        "by_snapshot": {
            name: {"events_folded": folded[name], **spread_s(times[name])} for name in used
        },
        "api": api,
    }


async def measure_api(stack: Stack, opened: Session, rounds: int) -> dict[str, object]:
    """Take starts of an API from its snapshot and from none, in turns; each ends by a kill."""
    kept = stack.directory / "read-model.snapshots"
    taken = stack.directory / "taken-away"
    last = (await opened.journal.bounds()).last
    port = free_port()
    environment = {
        **stack.child_environment(),
        "DTEST_API_URL": f"http://127.0.0.1:{port}",
        "DTEST_TOKEN": "benchmark",
    }
    shutil.rmtree(kept, ignore_errors=True)
    first = await api_start(environment, last, then=lambda: settled(opened, kept))
    shutil.rmtree(taken, ignore_errors=True)
    shutil.copytree(kept, taken)
    times: dict[str, list[Start]] = {"newest": [], "none": []}
    for _ in range(rounds):
        for name, found in times.items():
            shutil.rmtree(kept)
            if name == "newest":
                shutil.copytree(taken, kept)
            found.append(await api_start(environment, last))
            print(f"API, snapshot {name}: {found[-1]}", file=sys.stderr, flush=True)
    return {
        "of_an_empty_file": spread_s([first]),
        "by_snapshot": {name: spread_s(found) for name, found in times.items()},
    }


async def api_start(
    environment: dict[str, str], last: int, *, then: Callable[[], Awaitable[None]] | None = None
) -> Start:
    """Start an API, wait until it shows a message, then for something else, and kill it."""
    headers = {"Authorization": f"Bearer {environment['DTEST_TOKEN']}"}
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dtest.roles.api"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = environment["DTEST_API_URL"]
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as api:
            shown = -1
            while shown < last:
                await asyncio.sleep(0.02)
                with suppress(httpx.HTTPError):
                    shown = (await api.get("/api/status")).json().get("projected_seq", -1)
        found = Start(time.monotonic() - begun, cpu_s(process.pid))
        if then is not None:
            await then()
        return found
    finally:
        process.kill()
        await process.wait()


def spread_s(starts: Sequence[Start]) -> dict[str, dict[str, float]]:
    """Return median, lowest and highest of both times."""
    found: dict[str, dict[str, float]] = {}
    for name in ("wall_s", "cpu_s"):
        values = [getattr(one, name) for one in starts]
        parts = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        found[name] = {part: round(value, 2) for part, value in parts.items()}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="keep the cell there for the next time")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        place = chosen.keep or Path(own)
        if not snapshots(place).is_dir():
            asyncio.run(play(place, chosen.events))
        print(json.dumps(asyncio.run(measure(place, chosen.rounds)), indent=2))


if __name__ == "__main__":
    main()
