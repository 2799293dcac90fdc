"""How a drill goes: a cell under load, failures one after the other, then everything is checked.

The checks are made from the messages that a client read and from the database file, by code that
shares nothing with what ran (``checks``), and again by the audit and a projection from zero.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random  # noqa: TID251 - seeded: a drill can be repeated

import httpx

from dtest.drills.checks import keep_books
from dtest.drills.evidence import keep
from dtest.drills.ground import Ground, ground
from dtest.drills.layout import Layout, Way
from dtest.drills.load import Load, Pace, Watcher
from dtest.drills.replica import projection_differences, replica
from dtest.drills.report import Injection, Report
from dtest.errors import DtestError
from dtest.journal.memory import MemoryJournal
from dtest.leadership.audit import verify

SETTLED_S_MAX = 90.0
WARM_S = 1.0
VIOLATIONS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Scene:
    """What an injection works with."""

    ground: Ground
    watcher: Watcher
    rng: Random
    report: Report


Inject = Callable[[Scene, int], Awaitable[Injection]]
Check = Callable[[Scene], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Drill:
    """One entry of the catalogue."""

    name: str
    summary: str
    inject: Inject
    runs: int
    """Injections unless the caller says how many."""
    layout: Layout = field(default_factory=Layout)
    pace: Pace = field(default_factory=Pace)
    pause_s: tuple[float, float] = (0.3, 1.3)
    """Between two injections, drawn from the seed."""
    check: Check | None = None
    """What this drill promises beyond what every drill does; returns what does not hold."""
    promise: str = ""
    """The same in words."""
    faults_allowed: bool = True
    """Whether attempts may fault; where not, each one is a violation."""
    nodes: tuple[int, ...] = (1,)
    """Numbers of brokers that it makes sense with."""


async def run_drill(
    drill: Drill,
    *,
    nodes: int,
    runs: int,
    seed: int,
    evidence: Path,
    partition: Way | None = None,
) -> Report:
    """Run one drill in one layout. Raises DtestError when the cell cannot even be started.

    When a check does not hold, the journal and the logs are kept in directory ``evidence``.
    """
    report = Report(drill.name, nodes, seed)
    async with ground(drill.layout, nodes=nodes, partition=partition) as place:
        report.partition = place.wiring.way or ""
        report.partition_why = place.wiring.why
        watcher = Watcher(place)
        scene = Scene(place, watcher, Random(seed), report)  # noqa: S311 - no secret
        async with _read(watcher):
            async with _loaded(scene, drill):
                await _inject_all(drill, scene, runs)
            unfinished = await watcher.all_ended(SETTLED_S_MAX)
            report.violations += [
                f"task {name} was acknowledged and has not ended" for name in unfinished
            ]
            report.duration_s = round(watcher.since(), 2)
            if drill.check is not None:
                _note(report, await drill.check(scene), drill.promise)
            await _projected(place, watcher.messages[-1].seq, report)
            await place.stack.stop()
        _note(report, await place.processes_left(), "no process is left")
        copy = await replica(watcher.messages)
        await _check(drill, scene, copy)
        if not report.holds:
            logs = sorted(place.directory.glob("*.log"))
            report.evidence = str(await keep(copy, place.opened.cell, logs=logs, to=evidence))
    return report


@asynccontextmanager
async def _loaded(scene: Scene, drill: Drill) -> AsyncIterator[None]:
    """Submit for as long as the context is open."""
    load = Load(scene.ground, scene.watcher, drill.pace)
    await load.choose(drill.layout.strategy)
    submitting = asyncio.get_running_loop().create_task(load.run())
    try:
        yield
    finally:
        load.stop()
        await submitting


@asynccontextmanager
async def _read(watcher: Watcher) -> AsyncIterator[None]:
    """Read the journal for as long as the context is open."""
    reading = asyncio.get_running_loop().create_task(watcher.run())
    reading.add_done_callback(_say_why)
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.wait({reading})


def _say_why(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


async def _inject_all(drill: Drill, scene: Scene, runs: int) -> None:
    await asyncio.sleep(WARM_S)
    for number in range(runs):
        try:
            scene.report.injections.append(await drill.inject(scene, number))
        except DtestError as error:
            scene.report.violations.append(f"injection {number + 1}: {error.message}")
            return
        await asyncio.sleep(scene.rng.uniform(*drill.pause_s))


def _note(report: Report, wrong: list[str], promise: str) -> None:
    report.violations += wrong[:VIOLATIONS_SHOWN]
    if not wrong:
        report.checks.append(promise)


async def _projected(place: Ground, last: int, report: Report) -> None:
    """Have the read model catch up, so that it can be compared."""
    async with place.api() as api:
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S_MAX):
                while True:
                    with suppress(httpx.HTTPError):
                        shown = (await api.get("/api/status")).json()
                        if shown.get("projected_seq", 0) >= last:
                            return
                    await asyncio.sleep(0.1)
    report.violations.append(f"the read model did not reach message {last}")


async def _check(drill: Drill, scene: Scene, copy: MemoryJournal) -> None:
    """Check the messages that were read, and the database, with everything stopped."""
    report, watcher = scene.report, scene.watcher
    findings = keep_books(watcher.messages)
    seen = watcher.seen
    report.tasks = len(findings.tasks)
    report.attempts = sum(len(life.attempts) for life in findings.tasks.values())
    report.faulted_attempts = findings.faulted
    report.late_reports = findings.late_reports
    report.epochs = len(findings.epochs)
    report.requests, report.client_errors = seen.requests, seen.errors
    report.repeated_requests = seen.repeated
    report.ends = seen.ends
    lost = findings.lost(seen.acknowledged)
    report.lost, report.duplicated = len(lost), findings.duplicated
    if not lost:
        report.checks.append("every acknowledged task is in the journal and has ended")
    _note(report, findings.violations, "each task has one effective result, in one terminal state")
    if not drill.faults_allowed and findings.faulted:
        report.violations.append(f"{findings.faulted} attempts faulted")
    cell = scene.ground.opened.cell
    audit = await verify(copy, cell)
    again = f"{audit.decisions_again} decisions were decided again, and equal"
    _note(report, audit.objections, again)
    with tempfile.TemporaryDirectory() as place:
        differences = await projection_differences(
            copy, cell, scene.ground.directory / "read-model.duckdb", Path(place) / "fresh.duckdb"
        )
    _note(report, differences, "the read model equals a replay from zero")
