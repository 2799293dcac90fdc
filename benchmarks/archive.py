"""Rates of the archive: written from a journal, checked, loaded, and read as one with the journal.

Run: ``python benchmarks/archive.py [--messages 100000] [--rounds 3]``. Prints one JSON object:
messages per second as medians over the rounds, with the lowest and highest.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from core import CELL, broker, spread, timed

from dtest.archive.archiver import Archiver, SegmentSize
from dtest.archive.inspection import inspect
from dtest.archive.joined import join
from dtest.archive.manifest import Stream
from dtest.archive.reader import open_archive, read_archive
from dtest.archive.writer import writing
from dtest.events import codec, subject
from dtest.events.envelope import Event
from dtest.events.fields import ClientId, EventId, TaskId
from dtest.events.task import TaskQueued
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.port import BATCH_MESSAGES_MAX, Outgoing, read_to
from dtest.roles.session import session
from dtest.settings import Settings

START = 1_800_000_000.0


def message(number: int) -> Outgoing:
    """Return one event about one task, as most messages of a journal are."""
    fact = TaskQueued(TaskId(f"task-{number}"), "command", {"command": ["pytest", f"t{number}.py"]})
    source = codec.source(CELL, "client", "bench")
    event = Event(EventId(f"event-{number}"), source, START + number / 1e3, fact)
    where = subject.client(CELL, ClientId("bench"), TaskQueued.TYPE)
    return Outgoing(where, codec.encode([event]), event.id)


async def fill(journal: JetStreamJournal, messages: int) -> None:
    """Append messages of one event each."""
    for first in range(0, messages, BATCH_MESSAGES_MAX):
        last = min(first + BATCH_MESSAGES_MAX, messages)
        await journal.append_batch([message(number) for number in range(first, last)])


async def write(journal: JetStreamJournal, directory: Path) -> int:
    """Archive all into a new directory."""
    with writing(directory, Stream(CELL, (await journal.bounds()).created)) as writer:
        await Archiver(journal, writer, SegmentSize(), written=lambda _: None).catch_up()
        return writer.last_seq


async def read_journal(journal: JetStreamJournal) -> int:
    """Read the journal without an archive, for comparison."""
    return sum([len(batch) async for batch in read_to(journal, 0, (await journal.bounds()).last)])


async def read_both(journal: JetStreamJournal, directory: Path) -> int:
    """Read both as one, compared."""
    both = await join(open_archive(directory), journal, CELL)
    return sum([len(batch) async for batch in read_to(both, 0, (await both.bounds()).last)])


def measure(settings: Settings, root: Path, messages: int, rounds: int) -> dict[str, object]:
    """Take all in turns."""

    def with_journal(call: Callable[[JetStreamJournal], Awaitable[int]]) -> int:
        async def run() -> int:
            async with session(settings, name="benchmark") as opened:
                return await call(opened.journal)

        return asyncio.run(run())

    async def filled(journal: JetStreamJournal) -> int:
        await fill(journal, messages)
        return messages

    with_journal(filled)
    rates: dict[str, list[float]] = {}
    for number in range(rounds):
        directory = root / f"archive-{number}"
        calls: dict[str, Callable[[], int]] = {
            "write": lambda to=directory: with_journal(lambda journal: write(journal, to)),
            "verify": lambda of=directory: inspect(of).messages,
            "load": lambda of=directory: sum(1 for _ in read_archive(of)),
            "journal_alone": lambda: with_journal(read_journal),
            "archive_and_journal": lambda of=directory: with_journal(
                lambda journal: read_both(journal, of)
            ),
        }
        for name, call in calls.items():
            rates.setdefault(f"{name}_messages_per_s", []).append(timed(call))
    size = sum(path.stat().st_size for path in directory.iterdir())
    payload = sum(len(stored.payload) for stored in read_archive(directory))
    return {
        "messages": messages,
        "payload_bytes": payload,
        "archive_bytes": size,
        **{name: spread(values) for name, values in rates.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, broker(Path(name)) as settings:
        print(json.dumps(measure(settings, Path(name), options.messages, options.rounds)))


if __name__ == "__main__":
    main()
