"""``dtest stress``: what this machine does with simulated tasks, from submission to read model."""

import asyncio
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson

from dtest.caller.local_stack import throw_away_stack
from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import TimedOut, UsageError
from dtest.settings import Settings

SUBMIT_BATCH = 500
LATENCY_TASKS = 500
LATENCY_PER_S = 50.0
END_S_MAX = 600.0
POLL_S = 0.02


@dataclass(slots=True)
class Figures:
    """What was measured."""

    tasks: int
    workers: int
    slots: int
    submitted_per_s: float = 0.0
    completed_per_s: float = 0.0
    dispatch_ms_p50: float = 0.0
    """From submission to the start on a worker, at 50 tasks/s."""
    dispatch_ms_p99: float = 0.0
    finished_ms_p50: float = 0.0
    """From submission to the end as the submitter sees it, at 50 tasks/s."""
    finished_ms_p99: float = 0.0
    projected_per_s: float = 0.0
    """Events in the read model, over the time from the first submission to the last row."""
    events: int = 0
    lost: int = 0
    duplicated: int = 0


def stress(
    *,
    tasks: int = 20_000,
    workers: int = 2,
    slots: int = 256,
    call: CallOptions = DEFAULTS,
) -> int:
    """Measure a throw-away cell on this machine: simulated workers, tasks that take no time.

    Example: `dtest stress --tasks 20000 --workers 2 --json`

    Parameters
    ----------
    tasks
        How many tasks are submitted at once.
    workers
        Simulated workers.
    slots
        Attempts that each of them runs at once.
    """
    if not 1 <= tasks <= 2_000_000 or workers < 1 or slots < 1:  # noqa: PLR2004 - limits
        message = "tasks must be from 1 to 2,000,000, workers and slots at least 1"
        raise UsageError(message)
    with throw_away_stack(
        workers=0, simulate=f"cpu:{workers}", simulate_slots=slots, simulate_seconds=0.0
    ) as own:
        figures = asyncio.run(_measure(own.settings, Figures(tasks, workers, slots)))
    if call.json:
        output.as_json(asdict(figures))
    else:
        for name, value in asdict(figures).items():
            print(f"{name}: {value:g}")
    return 3 if figures.lost or figures.duplicated else 0


async def _measure(settings: Settings, figures: Figures) -> Figures:
    from dtest.roles.session import session

    async with session(settings, name="dtest stress") as opened:
        load = _Load(opened, settings)
        await load.throughput(figures)
        await load.latency(figures)
        await load.audit(figures)
    return figures


class _Load:
    """One submitter that watches what becomes of its tasks."""

    def __init__(self, opened: Any, settings: Settings) -> None:  # noqa: ANN401 - loaded lazily
        from dtest.client import Client
        from dtest.events.fields import ClientId
        from dtest.runtime.clock import SystemClock

        self.journal = opened.journal
        self.cell = opened.cell
        self.clock = SystemClock()
        self.api = open_api(settings)
        self.client = Client(
            opened.journal,
            cell=opened.cell,
            client_id=ClientId("stress"),
            now=self.clock.now,
            new_id=opened.new_id,
        )
        self.ended: dict[str, tuple[float, float]] = {}
        """Task: when it started on its worker, when its end was seen."""

    async def _watch(self, after: int, wanted: int) -> None:
        """Note the ends as they come, until so many are known."""
        where = f"dtest.{self.cell}.agent.*.attempt.finished"
        async with self.journal.follow(after, subject=where) as feed:
            async for batch in feed:
                now = self.clock.now()
                for stored in batch:
                    content = orjson.loads(stored.payload)
                    for event in content if isinstance(content, list) else [content]:
                        data = event["data"]
                        self.ended[data["task_id"]] = (data["started_at"], now)
                if len(self.ended) >= wanted:
                    return

    async def throughput(self, figures: Figures) -> None:
        """Submit all at once; measure until the last end is seen, and until it is projected."""
        from dtest.events.task import TaskQueued

        start_seq = (await self.journal.bounds()).last
        names = [f"stress-{number}" for number in range(figures.tasks)]
        config = {"command": ["/bin/true"], "simulate": {"seconds": 0.0}}
        watching = asyncio.ensure_future(self._watch(start_seq, figures.tasks))
        started = time.perf_counter()
        facts = [TaskQueued(name, "command", config, run_id="stress") for name in names]  # type: ignore[arg-type]
        parts = [facts[n : n + SUBMIT_BATCH] for n in range(0, len(facts), SUBMIT_BATCH)]
        await asyncio.gather(*(self.client.say(part) for part in parts))
        figures.submitted_per_s = round(figures.tasks / (time.perf_counter() - started), 1)
        try:
            async with asyncio.timeout(END_S_MAX):
                await watching
        except TimeoutError:
            message = f"only {len(self.ended)} of {figures.tasks} tasks ended in {END_S_MAX:g} s"
            raise TimedOut(message) from None
        figures.completed_per_s = round(figures.tasks / (time.perf_counter() - started), 1)
        last = (await self.journal.bounds()).last
        while True:
            status = await asyncio.to_thread(self.api.get, "/api/status")
            if status["projected_seq"] >= last:
                break
            await asyncio.sleep(POLL_S)
        elapsed = time.perf_counter() - started
        counted = await asyncio.to_thread(
            self.api.post,
            "/api/query",
            {"sql": "SELECT count(*) FROM events WHERE type IS NOT NULL"},
        )
        figures.events = int(counted["rows"][0][0])
        figures.projected_per_s = round(figures.events / elapsed, 1)

    async def latency(self, figures: Figures) -> None:
        """Submit at a steady pace; measure each task's way."""
        from dtest.events.task import TaskQueued

        self.ended.clear()
        start_seq = (await self.journal.bounds()).last
        watching = asyncio.ensure_future(self._watch(start_seq, LATENCY_TASKS))
        submitted: dict[str, float] = {}
        config = {"command": ["/bin/true"], "simulate": {"seconds": 0.0}}
        loop = asyncio.get_running_loop()
        first = loop.time()
        for number in range(LATENCY_TASKS):
            await asyncio.sleep(first + number / LATENCY_PER_S - loop.time())
            name = f"paced-{number}"
            submitted[name] = self.clock.now()
            await self.client.say([TaskQueued(name, "command", config, run_id="paced")])  # type: ignore[arg-type]
        async with asyncio.timeout(END_S_MAX):
            await watching
        begun = sorted(
            datetime.fromisoformat(str(self.ended[name][0])).timestamp() - at
            for name, at in submitted.items()
        )
        seen = sorted(self.ended[name][1] - at for name, at in submitted.items())
        figures.dispatch_ms_p50, figures.dispatch_ms_p99 = _quantiles_ms(begun)
        figures.finished_ms_p50, figures.finished_ms_p99 = _quantiles_ms(seen)

    async def audit(self, figures: Figures) -> None:
        """Count losses and duplicates from the journal itself."""
        from dtest.leadership.audit import verify

        report = await verify(self.journal, self.cell)
        submitted = figures.tasks + LATENCY_TASKS
        figures.lost = submitted - report.tasks_terminal
        figures.duplicated = report.attempts - submitted
        for text in report.objections:
            output.say(f"VIOLATION {text}")


def _quantiles_ms(seconds: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return round(cuts[49] * 1e3, 2), round(cuts[98] * 1e3, 2)
