"""What may wait is written together; what somebody acts on, or waits for, is not held up."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dtest.errors import SequenceGap
from dtest.journal.port import Stored
from dtest.projections.pacing import GATHERED_MAX, Intake

EVER = 3_600.0
CALM = "dtest.main.agent.w.testcase.finished"
URGENT = "dtest.main.agent.w.attempt.finished"


def stored(seq: int, subject: str = CALM) -> Stored:
    return Stored(seq, subject, 0.0, str(seq), b"{}")


class Tap:
    """A feed that is told what comes."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[list[Stored] | Exception | None] = asyncio.Queue()

    def gives(self, *batches: list[Stored] | Exception | None) -> "Tap":
        for batch in batches:
            self._queue.put_nowait(batch)
        return self

    async def feed(self) -> AsyncIterator[list[Stored]]:
        while (batch := await self._queue.get()) is not None:
            if isinstance(batch, Exception):
                raise batch
            yield batch


def seqs(messages: list[Stored]) -> list[int]:
    return [message.seq for message in messages]


async def test_finished_tests_wait_for_what_is_urgent() -> None:
    tap = Tap().gives([stored(1)], [stored(2)], [stored(3), stored(4)], [stored(5, URGENT)])
    async with asyncio.timeout(20.0), Intake(tap.feed()) as intake:
        assert seqs(await intake.first()) == [1]
        assert seqs(await intake.more(pause_s=0.0, calm_s=EVER)) == [2, 3, 4, 5]


async def test_finished_tests_do_not_wait_for_ever() -> None:
    tap = Tap().gives([stored(1)], [stored(2)])
    async with asyncio.timeout(20.0), Intake(tap.feed()) as intake:
        await intake.first()
        assert seqs(await intake.more(pause_s=0.0, calm_s=0.05)) == [2]
        assert await intake.more(pause_s=0.0, calm_s=0.0) == []
        tap.gives([stored(3)])
        assert seqs(await intake.first()) == [3]


async def test_who_waits_is_not_kept_waiting() -> None:
    tap = Tap().gives([stored(1)], [stored(2)])
    async with asyncio.timeout(20.0), Intake(tap.feed()) as intake, asyncio.TaskGroup() as group:
        await intake.first()
        gathering = group.create_task(intake.more(pause_s=0.0, calm_s=EVER))
        await asyncio.sleep(0)
        intake.hurry()
        assert seqs(await gathering) in ([], [2])
        intake.hurry()
        assert await intake.more(pause_s=0.0, calm_s=EVER) == []


async def test_an_urgent_message_is_paced_too() -> None:
    tap = Tap().gives([stored(1)], [stored(2, URGENT)], [stored(3, URGENT)])
    async with asyncio.timeout(20.0), Intake(tap.feed()) as intake:
        await intake.first()
        assert seqs(await intake.more(pause_s=0.05, calm_s=EVER)) == [2, 3]


async def test_no_more_is_gathered_than_is_soon_written() -> None:
    tap = Tap()
    for seq in range(GATHERED_MAX + 10):
        tap.gives([stored(seq)])
    async with asyncio.timeout(20.0), Intake(tap.feed()) as intake:
        await intake.first()
        assert len(await intake.more(pause_s=0.0, calm_s=EVER)) == GATHERED_MAX


async def test_the_end_of_a_feed_is_told_as_often_as_one_asks() -> None:
    tap = Tap().gives([stored(1)], None)
    async with asyncio.timeout(20.0), Intake(tap.feed()) as intake:
        assert seqs(await intake.first()) == [1]
        assert await intake.more(pause_s=EVER, calm_s=EVER) == []
        assert await intake.first() == []
        assert await intake.first() == []


async def test_an_error_of_the_feed_comes_through() -> None:
    tap = Tap().gives([stored(1)], SequenceGap("7 is missing"))
    async with asyncio.timeout(20.0), Intake(tap.feed()) as intake:
        await intake.first()
        with pytest.raises(SequenceGap, match="7 is missing"):
            await intake.more(pause_s=EVER, calm_s=EVER)
