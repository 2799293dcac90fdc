"""Rates of the pure core and of the read side, and the memory of a long queue.

Run: ``python benchmarks/core.py [--tasks 50000] [--rounds 5] [--queued 500000]``. Prints one JSON
object: medians over the rounds, with the lowest and highest.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import spread

from dtest.events import codec, subject
from dtest.events.attempt import AttemptAssigned, AttemptFinished
from dtest.events.envelope import Event, Recorded
from dtest.events.fields import CellId, ClientId, EventId, TaskId, WorkerId
from dtest.events.leader import LeaderElected
from dtest.events.task import TaskQueued
from dtest.events.worker import Capability, WorkerRegistered
from dtest.journal.migration import create_streams
from dtest.journal.port import Outgoing, Stored, read_to
from dtest.journal.streams import Limits, journal_name
from dtest.leadership.decision import decide
from dtest.projections.projector import Projector, Source
from dtest.projections.store import Store
from dtest.roles.session import session
from dtest.runtime.clock import instant
from dtest.runtime.lifecycle import hold_many_objects
from dtest.runtime.nats_server import EmbeddedServer, server_binary
from dtest.runtime.ports import free_port
from dtest.settings import Setting, Settings
from dtest.state.cell import Cell
from dtest.state.fold import apply

CELL = CellId("main")
WORKER = WorkerId("w1")
BATCH = 500
START = 1_800_000_000.0


def history(tasks: int) -> Iterator[tuple[str, list[Event]]]:
    """Yield the messages of a history: tasks queued, assigned and passed, in batches."""
    count = 0

    def event(source: str, data: object) -> Event:
        nonlocal count
        count += 1
        return Event(EventId(f"e{count}"), source, START + count / 1e4, data)  # type: ignore[arg-type]

    scheduler = codec.source(CELL, "scheduler", "s1")
    agent = codec.source(CELL, "agent", WORKER)
    yield subject.epoch(CELL), [event(scheduler, LeaderElected("s1"))]
    has = Capability(slots=100_000, cpus=64, memory_gb=256)
    yield (
        subject.agent(CELL, WORKER, WorkerRegistered.TYPE),
        [event(agent, WorkerRegistered(WORKER, "i1", "host", has))],
    )
    for first in range(0, tasks, BATCH):
        names = [TaskId(f"task-{n}") for n in range(first, min(first + BATCH, tasks))]
        config = {"command": ["/bin/true"]}
        source = codec.source(CELL, "client", "bench")
        where = subject.client(CELL, ClientId("bench"), TaskQueued.TYPE)
        yield where, [event(source, TaskQueued(n, "command", config)) for n in names]
        assigned = [AttemptAssigned(n, 1, WORKER, "i1", "cpu", "command") for n in names]
        yield subject.work(CELL, "cpu", WORKER), [event(scheduler, data) for data in assigned]
        now = instant(START)
        ended = [AttemptFinished(n, 1, WORKER, "passed", now, now, exit_code=0) for n in names]
        where = subject.agent(CELL, WORKER, AttemptFinished.TYPE)
        yield where, [event(agent, data) for data in ended]


def recorded(tasks: int) -> list[Recorded]:
    """Return the same history as it is read."""
    return [
        Recorded(seq, where, START + seq / 100, tuple(events))
        for seq, (where, events) in enumerate(history(tasks), 1)
    ]


def timed(call: Callable[[], int]) -> float:
    """Return units per second of one call that returns how many units it did."""
    started = time.perf_counter()
    units = call()
    return units / (time.perf_counter() - started)


def fold(records: list[Recorded]) -> int:
    """Fold decoded events."""
    cell = Cell(CELL)
    for record in records:
        apply(cell, record)
    if cell.ignored or cell.refusals:
        message = f"the history does not fold: {cell.ignored}, {len(cell.refusals)} refusals"
        raise RuntimeError(message)
    return sum(len(record.events) for record in records)


@contextmanager
def broker(directory: Path) -> Iterator[Settings]:
    """Run a NATS server with the cell's streams, and nothing else."""
    server = EmbeddedServer(directory / "nats", free_port(), "bench", "bench")
    server.write_config()
    command = [server_binary(), "-c", str(server.config_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    stated = {"nats_url": server.url, "nats_user": "bench", "nats_password": "bench"}
    stated |= {"cell": CELL, "state_dir": str(directory)}
    settings = Settings({key: Setting(value, "benchmark") for key, value in stated.items()})

    async def prepare() -> None:
        async with session(settings, name="benchmark", wait_s=10.0) as opened:
            await create_streams(opened.connection, CELL, Limits())

    try:
        asyncio.run(prepare())
        yield settings
    finally:
        process.terminate()
        process.wait()


async def fill(settings: Settings, tasks: int) -> int:
    """Write the history into a journal; return its last sequence number."""
    async with session(settings, name="benchmark") as opened:
        last = 0
        for where, events in history(tasks):
            result = await opened.journal.append(
                Outgoing(where, codec.encode(events), events[0].id)
            )
            last = result.seq  # type: ignore[union-attr]
        return last


async def replay(settings: Settings, last: int) -> int:
    """Read, decode and fold from the journal."""
    async with session(settings, name="benchmark") as opened:
        cell, events = Cell(CELL), 0
        async for batch in read_to(opened.journal, 0, last):
            for stored in batch:
                record = stored.record()
                events += len(record.events)
                apply(cell, record)
        return events


async def project(settings: Settings, last: int, directory: Path) -> int:
    """Read, decode, fold and write rows, from the journal into a new file."""
    store = Store(directory / f"{time.perf_counter_ns()}.duckdb")
    async with session(settings, name="benchmark") as opened:
        source = Source(opened.journal, journal_name(opened.cell))
        projector = Projector(store, source, cell=CELL)
        await projector.start()
        await projector.run(until=last)
    store.close()
    return projector.projected


def decisions(queued: int) -> int:
    """Assign from a queue that is longer than what is free."""
    cell = Cell(CELL)
    seq = 0
    for where, events in history(0):
        seq += 1
        apply(cell, Recorded(seq, where, START, tuple(events)))
    names = [TaskId(f"task-{n}") for n in range(queued)]
    source = codec.source(CELL, "client", "bench")
    where = subject.client(CELL, ClientId("bench"), TaskQueued.TYPE)
    events = [
        Event(EventId(name), source, START, TaskQueued(name, "command", {"command": ["x"]}))
        for name in names
    ]
    apply(cell, Recorded(seq + 1, where, START, tuple(events)))
    made = 0
    for _ in range(20):
        made += sum(len(part) for part in decide(cell, START).values())
    return made


def queue_memory(queued: int) -> int:
    """Return the peak resident memory of a process that decodes and folds so many tasks, bytes."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import core
core.hold({queued})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def hold(queued: int) -> None:
    """Decode and fold queued tasks, as a leader does."""
    cell = Cell(CELL)
    source = codec.source(CELL, "client", "bench")
    where = subject.client(CELL, ClientId("bench"), TaskQueued.TYPE)
    for seq, first in enumerate(range(0, queued, BATCH), 1):
        events = [
            Event(
                EventId(f"e{n}"),
                source,
                START,
                TaskQueued(
                    TaskId(f"task-{n:010d}"),
                    "command",
                    {"command": ["/usr/bin/env", "python3", f"job_{n}.py"]},
                    priority=n % 7,
                ),
            )
            for n in range(first, min(first + BATCH, queued))
        ]
        stored = Stored(seq, where, START, "", codec.encode(events))
        apply(cell, stored.record())
    if len(cell.tasks) != queued:
        message = f"{len(cell.tasks)} of {queued} tasks are held"
        raise RuntimeError(message)


def fold_rates(tasks: int, rounds: int) -> dict[str, float]:
    """Fold the same decoded history several times."""
    records = recorded(tasks)
    return spread([timed(lambda: fold(records)) for _ in range(rounds)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queued", type=int, default=500_000)
    options = parser.parse_args()
    hold_many_objects()  # as the processes do that these figures are about
    rounds = range(options.rounds)
    figures: dict[str, object] = {
        "fold_events_per_s": fold_rates(options.tasks, options.rounds),
        "decide_assignments_per_s": spread([timed(lambda: decisions(5_000)) for _ in rounds]),
    }
    with tempfile.TemporaryDirectory() as directory, broker(Path(directory)) as settings:
        last = asyncio.run(fill(settings, options.tasks))
        figures["replay_events_per_s"] = spread(
            [timed(lambda: asyncio.run(replay(settings, last))) for _ in rounds]
        )
        figures["project_events_per_s"] = spread(
            [timed(lambda: asyncio.run(project(settings, last, Path(directory)))) for _ in rounds]
        )
    figures["queued_tasks"] = options.queued
    figures["queue_memory_bytes_peak"] = queue_memory(options.queued)
    figures["own_memory_bytes_peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
