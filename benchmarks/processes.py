"""A real process for each task against a bare spawn loop, in turns, as a ratio.

Run: ``python benchmarks/processes.py [--tasks 1000] [--rounds 5]``. Prints one JSON object.
"""

import argparse
import asyncio
import json
import statistics
import time

from dtest.caller.local_stack import throw_away_stack
from dtest.client import Client
from dtest.events.fields import ClientId
from dtest.events.task import TaskQueued
from dtest.roles.session import session
from dtest.runtime.clock import SystemClock
from dtest.settings import Settings

AT_ONCE = 8
SLOTS = 32


async def bare_loop(count: int) -> float:
    """Return processes per second of a plain asyncio loop, eight at once, output piped."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            process = await asyncio.create_subprocess_exec(
                "/bin/true",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            await process.communicate()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return count / (time.perf_counter() - started)


async def through_dtest(settings: Settings, count: int, round_number: int) -> float:
    """Return tasks per second from the first submission to the last result in the journal."""
    async with session(settings, name="benchmark") as opened:
        client = Client(
            opened.journal,
            cell=opened.cell,
            client_id=ClientId("benchmark"),
            now=SystemClock().now,
            new_id=opened.new_id,
        )
        after = (await opened.journal.bounds()).last
        run = f"round-{round_number}"
        facts = [
            TaskQueued(f"{run}-{n}", "command", {"command": ["/bin/true"]}, run_id=run)  # type: ignore[arg-type]
            for n in range(count)
        ]
        started = time.perf_counter()
        await client.say(facts)
        ended: dict[str, str] = {}
        where = f"dtest.{opened.cell}.agent.*.attempt.finished"
        async with opened.journal.follow(after, subject=where) as feed:
            async for batch in feed:
                for stored in batch:
                    content = json.loads(stored.payload)
                    for event in content if isinstance(content, list) else [content]:
                        ended[event["data"]["task_id"]] = event["data"]["outcome"]
                if len(ended) >= count:
                    break
        elapsed = time.perf_counter() - started
    wrong = [name for name, outcome in ended.items() if outcome != "passed"]
    if wrong:
        message = f"{len(wrong)} tasks did not pass, as {wrong[0]}"
        raise RuntimeError(message)
    return count / elapsed


def main() -> None:
    """Measure in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    bare: list[float] = []
    ours: list[float] = []
    with throw_away_stack(workers=2, slots=SLOTS) as settings:
        asyncio.run(through_dtest(settings, 50, 0))
        for number in range(1, options.rounds + 1):
            bare.append(asyncio.run(bare_loop(options.tasks)))
            ours.append(asyncio.run(through_dtest(settings, options.tasks, number)))
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    print(
        json.dumps(
            {
                "tasks": options.tasks,
                "bare_per_s": round(statistics.median(bare), 1),
                "dtest_per_s": round(statistics.median(ours), 1),
                "ratio_median": round(statistics.median(ratios), 3),
                "ratios": [round(ratio, 3) for ratio in ratios],
            }
        )
    )


if __name__ == "__main__":
    main()
