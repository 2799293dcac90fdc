"""Standbys: who leads next, when, and that nobody leads for whom nobody is missing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from dtest.events import subject
from dtest.events.leader import LeaderElected
from dtest.leadership.audit import verify
from dtest.leadership.candidate import (
    ABSENT_AFTER_RECONNECTION_MAX,
    UNANSWERED_MAX,
    Candidate,
    Watch,
)
from dtest.leadership.leader import CYCLE_S_MAX
from dtest.leadership.line import NO_RESPONDERS
from tests.kit import facts
from tests.kit.facts import machine, registered, task
from tests.kit.stage import Stage
from tests.leadership.test_leader import Slow


@dataclass
class Wire:
    """Core NATS among the schedulers of one test."""

    serving: dict[str, list[Callable[[bytes], bytes | None]]] = field(default_factory=dict)
    pings: int = 0

    def line(self) -> "Line":
        """The connection of one scheduler."""
        return Line(self)


class Line:
    """One connection; it may be cut, and its process may be stopped or killed."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.is_connected = True
        self.frozen = False
        """Messages come, and nobody reads them."""
        self.reconnected: list[Callable[[], None]] = []
        self.own: list[tuple[str, Callable[[bytes], bytes | None]]] = []

    async def ping(self, where: str, payload: bytes, *, timeout_s: float) -> int:
        self.wire.pings += 1
        await asyncio.sleep(0)
        serving = self.wire.serving.get(where, [])
        if not serving:
            return NO_RESPONDERS
        if all(answer(payload) is None for answer in serving):
            raise TimeoutError
        return 0

    async def listen(
        self, where: str, heard: Callable[[str, bytes], None]
    ) -> Callable[[], Awaitable[None]]:
        return self._nothing

    async def serve(
        self, where: str, answer: Callable[[bytes], bytes | None]
    ) -> Callable[[], Awaitable[None]]:
        def unless_frozen(payload: bytes) -> bytes | None:
            return None if self.frozen else answer(payload)

        self.wire.serving.setdefault(where, []).append(unless_frozen)
        self.own.append((where, unless_frozen))

        async def stop() -> None:
            if (where, unless_frozen) in self.own:
                self.own.remove((where, unless_frozen))
                self.wire.serving[where].remove(unless_frozen)

        return stop

    def vanish(self) -> None:
        """The server sees the connection closed."""
        for where, answer in self.own:
            self.wire.serving[where].remove(answer)
        self.own.clear()

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        self.reconnected.append(call)
        return lambda: self.reconnected.remove(call)

    async def _nothing(self) -> None:
        return


async def turn(_: float) -> None:
    """Instead of sleeping."""
    await asyncio.sleep(0)


def watch(line: Line) -> Watch:
    return Watch(line, where=subject.leader(facts.CELL), jitter=lambda: 0.5, sleep=turn)


@asynccontextmanager
async def scheduler(stage: Stage, line: Line, name: str) -> AsyncIterator[Candidate]:
    """One scheduler's process, killed at the end."""
    first = stage.leader(name)
    candidate = Candidate(
        stage.journal,
        line,
        first.follower,
        watch=watch(line),
        new_leader=lambda: type(first)(
            stage.journal,
            first.follower,
            identity=first.identity,
            clock=stage.clock,
            new_id=stage.new_id,
        ),
        monotonic=stage.clock.monotonic,
        pid=1,
    )
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(first.follower.run()), group.create_task(candidate.run())]
        await stage.quiet()
        yield candidate
        line.vanish()
        for part in parts:
            part.cancel()


async def leaders(stage: Stage) -> list[str]:
    found = await stage.written(LeaderElected)
    return [data.leader_id for data in found if isinstance(data, LeaderElected)]


# -- watching -------------------------------------------------------------------------------


async def test_nobody_listens_is_believed_at_once() -> None:
    wire = Wire()

    assert await watch(wire.line()).leaderless() == "no_responders"
    assert wire.pings == 1


async def test_silence_is_believed_the_third_time() -> None:
    wire = Wire()
    await wire.line().serve(subject.leader(facts.CELL), lambda _: None)

    assert await watch(wire.line()).leaderless() == "silence"
    assert wire.pings == UNANSWERED_MAX


async def test_one_answer_in_between_and_the_count_begins_anew() -> None:
    wire = Wire()
    answers = [None, None, b"here", None, None, b"here", None, None, None]
    await wire.line().serve(subject.leader(facts.CELL), lambda _: answers.pop(0))

    assert await watch(wire.line()).leaderless() == "silence"
    assert not answers


async def test_who_is_cut_off_takes_nobody_for_missing() -> None:
    wire, stage = Wire(), Stage()
    line = wire.line()
    line.is_connected = False
    waiting = asyncio.ensure_future(watch(line).leaderless())
    await stage.quiet()
    assert (wire.pings, waiting.done()) == (0, False)

    for call in line.reconnected:
        call()
    line.is_connected = True
    assert await waiting == "no_responders"
    assert wire.pings == ABSENT_AFTER_RECONNECTION_MAX + 1


async def test_a_leader_that_reconnects_a_little_later_is_not_missed() -> None:
    wire = Wire()
    line = wire.line()
    again = asyncio.Event()

    async def sleep(_: float) -> None:
        await asyncio.sleep(0)
        if wire.pings == ABSENT_AFTER_RECONNECTION_MAX // 2:
            await wire.line().serve(subject.leader(facts.CELL), lambda _: b"here")
            again.set()

    line.is_connected = False
    patient = Watch(line, where=subject.leader(facts.CELL), jitter=lambda: 0.5, sleep=sleep)
    waiting = asyncio.ensure_future(patient.leaderless())
    await asyncio.sleep(0)
    for call in line.reconnected:
        call()
    line.is_connected = True
    await again.wait()
    await Stage().quiet()

    assert not waiting.done()
    waiting.cancel()


# -- leading in turns -----------------------------------------------------------------------


async def test_one_of_many_leads_and_the_others_fold_along() -> None:
    stage, wire = Stage(), Wire()
    await stage.say(registered("w", machine(2)))
    async with (
        scheduler(stage, wire.line(), "a") as a,
        scheduler(stage, wire.line(), "b") as b,
        scheduler(stage, wire.line(), "c") as c,
    ):
        await stage.say(task("t"))
        await stage.quiet()

        assert [one.leader is not None for one in (a, b, c)] == [True, False, False]
        assert len({one.follower.cell.seq for one in (a, b, c)}) == 1
        assert len(await stage.assigned()) == 1

    assert (await leaders(stage))[0] == "a"


async def test_the_next_one_takes_over_from_a_killed_leader() -> None:
    stage, wire = Stage(), Wire()
    await stage.say(registered("w", machine(3)))
    async with scheduler(stage, wire.line(), "b") as b:
        pass
    async with scheduler(stage, wire.line(), "a"), scheduler(stage, wire.line(), "b") as b:
        await stage.say(task("before"))
        await stage.quiet()
        assert b.leader is None
    async with scheduler(stage, wire.line(), "b") as b:
        await stage.say(task("after"))
        await stage.quiet()
        assert b.leader is not None

    assert {one.task_id for one in await stage.assigned()} == {"before", "after"}
    assert (await verify(stage.journal, facts.CELL)).violations == []


async def test_a_leader_that_was_stopped_and_goes_on_finds_itself_deposed_and_stands_by() -> None:
    stage, wire = Stage(), Wire()
    await stage.say(registered("w", machine(3)))
    frozen = wire.line()
    async with scheduler(stage, frozen, "a") as a, scheduler(stage, wire.line(), "b") as b:
        frozen.frozen = True
        await stage.quiet()
        assert b.leader is not None
        frozen.frozen = False
        await stage.say(task("t"))
        await stage.quiet()
        assert a.leader is None
        assert len(await stage.assigned()) == 1
        assert await leaders(stage) == ["a", "b"]

    assert (await verify(stage.journal, facts.CELL)).violations == []


async def test_a_leader_whose_decisions_hang_is_replaced() -> None:
    journal = Slow()
    stage, wire = Stage(journal), Wire()
    await stage.say(registered("w"))
    async with scheduler(stage, wire.line(), "a") as a:
        journal.open.clear()
        await stage.say(task("t"))
        await stage.quiet()
        stage.clock.at += CYCLE_S_MAX + 1
        hanging, journal.open = journal.open, asyncio.Event()
        journal.open.set()
        async with scheduler(stage, wire.line(), "b") as b:
            assert b.leader is not None
            hanging.set()
            await stage.quiet()
            assert a.leader is None
            assert len(await stage.assigned()) == 1

    assert (await verify(stage.journal, facts.CELL)).violations == []


@pytest.mark.parametrize("count", [2, 5])
async def test_who_loses_an_election_stands_by(count: int) -> None:
    """All start at the same instant; the answer of the first keeps the others from trying."""
    stage, wire = Stage(), Wire()
    async with asyncio.TaskGroup() as group:
        done = asyncio.Event()

        async def live(name: str) -> None:
            async with scheduler(stage, wire.line(), name) as one:
                await done.wait()
                leading.append(one.leader is not None)

        leading: list[bool] = []
        for number in range(count):
            group.create_task(live(f"s{number}"))
        await stage.quiet()
        done.set()

    assert sum(leading) == 1
    assert len(await leaders(stage)) >= 1
