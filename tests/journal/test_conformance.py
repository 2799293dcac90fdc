"""Every adapter of the journal keeps every rule; and adapters given the same steps agree."""

import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import pytest

from dtest.errors import Conflict
from dtest.events.fields import CellId
from dtest.journal.memory import MemoryJournal
from dtest.journal.port import Appended, Guard, GuardRefused, Journal, Outgoing
from tests.journal.conformance import RULES, SMALL_RULES, Bench, Rule, read
from tests.kit.nats import LIMITS, NatsCell, Server, joined

SMALL_MESSAGES = 30
SMALL_BYTES = 40_000
STEPS = 200
SUBJECTS = ("client.a.task.queued", "client.b.task.queued", "work.cpu.w1", "scheduler.epoch")


def name(rule: Rule) -> str:
    return rule.__name__


@pytest.fixture(params=["memory", "jetstream"])
async def bench(
    request: pytest.FixtureRequest, server: Server, cell_id: CellId
) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield Bench(MemoryJournal(clock=time.time), cell_id)
    else:
        async with joined(server.address, cell_id) as cell:
            yield Bench(cell.journal, cell_id)


@pytest.fixture(params=["memory", "jetstream"])
async def small_bench(
    request: pytest.FixtureRequest, server: Server, cell_id: CellId
) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield Bench(MemoryJournal(clock=time.time, messages_max=SMALL_MESSAGES), cell_id)
    else:
        limits = replace(LIMITS, journal_bytes=SMALL_BYTES)
        async with joined(server.address, cell_id, limits=limits) as cell:
            yield Bench(cell.journal, cell_id)


@pytest.mark.parametrize("rule", RULES, ids=name)
async def test_the_journal_keeps_the_rule(rule: Rule, bench: Bench) -> None:
    await rule(bench)


@pytest.mark.parametrize("rule", SMALL_RULES, ids=name)
async def test_the_small_journal_keeps_the_rule(rule: Rule, small_bench: Bench) -> None:
    await rule(small_bench)


# --- the same steps ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    messages: list[Outgoing]
    guard: Guard | None


async def outcome(journal: Journal, step: Step) -> Appended | str:
    """What a step led to, without the words that an adapter finds for it."""
    try:
        if len(step.messages) == 1:
            result = await journal.append(step.messages[0], guard=step.guard)
        else:
            result = await journal.append_batch(step.messages, guard=step.guard)
    except Conflict:
        return "conflict"
    return "refused" if isinstance(result, GuardRefused) else result


def steps(cell: CellId, luck: random.Random) -> Iterator[Step]:
    """Steps that repeat ids, guard rightly and wrongly, and batch; drawn without looking.

    A repeated message carries the guard of nobody: with a stale one it is recognised only as long
    as it is the last on its subject.
    """
    known: list[list[Outgoing]] = []
    for number in range(STEPS):
        where = [f"dtest.{cell}.{luck.choice(SUBJECTS)}" for _ in range(luck.choice((1, 1, 2, 5)))]
        fresh = [
            Outgoing(subject, f"{number}".encode(), f"{number}-{place}")
            for place, subject in enumerate(where)
        ]
        match luck.randrange(7):
            case 0 if known:
                yield Step(luck.choice(known), None)
            case 1 if known:
                yield Step(luck.sample([*luck.choice(known), *luck.choice(known), *fresh], 2), None)
            case 2 | 3:
                place = f"dtest.{cell}.{luck.choice(SUBJECTS)}"
                yield Step(fresh, Guard(place, luck.randrange(number + 2)))
            case _:
                known.append(fresh)
                yield Step(fresh, None)


@pytest.mark.parametrize("seed", range(4))
async def test_the_same_steps_lead_to_the_same_journal(seed: int, cell: NatsCell) -> None:
    plain = MemoryJournal(clock=time.time)

    for step in steps(cell.cell, random.Random(seed)):
        expected = await outcome(plain, step)

        assert await outcome(cell.journal, step) == expected, step

    last = (await plain.bounds()).last
    contents = [
        [(found.seq, found.subject, found.id, found.payload) for found in stored]
        for stored in (await read(plain, until=last), await read(cell.journal, until=last))
    ]
    assert contents[0] == contents[1]
    for subject in SUBJECTS:
        lasts = [
            await journal.last(f"dtest.{cell.cell}.{subject}") for journal in (plain, cell.journal)
        ]
        assert lasts[0] is not None
        assert lasts[1] is not None
        assert lasts[0].seq == lasts[1].seq
