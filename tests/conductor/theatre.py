"""A cell in memory for conductors that die: a real leader, sessions played here, queues shared.

Whatever a conductor does to the world passes a door that can fall shut: before an effect, or just
after it. What is left is what a killed process leaves.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dtest.conductor.conductor import conduct
from dtest.conductor.following import View
from dtest.conductor.means import Stage as Means
from dtest.conductor.office import Pen
from dtest.events import subject
from dtest.events.attempt import AttemptAssigned, AttemptStopRequested, TestcaseFinished
from dtest.events.conductor import ConductorElected
from dtest.events.fields import RunId
from dtest.events.reasons import Reason
from dtest.events.suite import SuiteSubmitted
from dtest.events.suite_decision import SuiteEnded
from dtest.journal.memory import MemoryJournal
from dtest.journal.port import Appended, Guard, GuardRefused, Outgoing, Stored
from dtest.leadership.leader import Identity
from dtest.reports.observation import Outcome
from dtest.state.cell import Cell
from dtest.suites.session import SPEAKS
from dtest.suites.suite import Suite
from dtest.suites.unit import decode
from tests.kit import facts
from tests.kit.queue import MemoryQueue
from tests.kit.stage import Stage

RUN = RunId("run")
PATIENCE_S = 30.0
T = TypeVar("T")


class Killed(BaseException):
    """The process is gone."""


class Door:
    """Counts effects; falls shut at one of them, before or after it."""

    def __init__(self, at: int | None, *, after: bool) -> None:
        self.at = at
        self.after = after
        self.effects = 0

    async def __call__(self, effect: Awaitable[T]) -> T:
        """Have an effect, or die."""
        self.effects += 1
        if self.at is not None and self.effects > self.at:
            if isinstance(effect, asyncio.Future):
                effect.cancel()
            else:
                effect.close()  # type: ignore[attr-defined] # a coroutine
            raise Killed
        if self.effects == self.at and not self.after:
            effect.close()  # type: ignore[attr-defined] # a coroutine
            raise Killed
        found = await effect
        if self.effects == self.at:
            raise Killed
        return found


class Queue(MemoryQueue):
    """Also what conductors need of one."""

    async def close(self) -> None:
        """All is in."""
        self.closed = True

    async def purge(self) -> None:
        """Forget what nobody has taken."""
        self.waiting.clear()

    async def told_part(self, part: int) -> bytes | None:
        """Return a part of what a session told."""
        return self.told[part] if part < len(self.told) else None


@dataclass
class DoorQueue:
    """A queue as one conductor has it."""

    inner: Queue
    door: Door

    async def open(self) -> None:
        """Pass the door."""
        await self.door(self.inner.open())

    async def put(self, units: Iterable[tuple[str, bytes]]) -> None:
        """Pass the door for each unit: the last ones may be missing."""
        for unit in units:
            await self.door(self.inner.put([unit]))

    async def close(self) -> None:
        """Pass the door."""
        await self.door(self.inner.close())

    async def purge(self) -> None:
        """Pass the door."""
        await self.door(self.inner.purge())

    async def told(self, part: int) -> bytes | None:
        """Look."""
        return await self.inner.told_part(part)

    async def recalled(self, part: int) -> bytes | None:
        """Nobody told anything."""
        return None

    async def state(self) -> Any:
        """Look."""
        return await self.inner.state()


class DoorJournal:
    """The journal as one conductor writes it."""

    def __init__(self, journal: MemoryJournal, door: Door) -> None:
        self._journal = journal
        self._door = door

    async def append(
        self, message: Outgoing, *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """Pass the door."""
        return await self._door(self._journal.append(message, guard=guard))

    async def append_batch(
        self, messages: Sequence[Outgoing], *, guard: Guard | None = None
    ) -> Appended | GuardRefused:
        """Pass the door."""
        return await self._door(self._journal.append_batch(messages, guard=guard))

    async def last(self, where: str) -> Stored | None:
        """Look."""
        return await self._journal.last(where)


class Ears:
    """A connection that hears of what sessions tell, and of nothing else."""

    def __init__(self) -> None:
        self.heard: list[Callable[[str, bytes], None]] = []

    async def listen(self, _: str, heard: Callable[[str, bytes], None]) -> Any:
        """Hear."""
        self.heard.append(heard)

        async def stop() -> None:
            self.heard.remove(heard)

        return stop

    async def ask(self, *_: object, **__: object) -> Any:
        """Nobody remembers anything."""
        raise TimeoutError


@dataclass
class Theatre:
    """The cell, and how its tests behave."""

    suite: Suite
    outcomes: Mapping[int, tuple[Outcome, ...]] = field(default_factory=dict)
    """By number, one for each time that it runs; the last one again and again."""
    stage: Stage = field(default_factory=Stage)
    queues: dict[str, Queue] = field(default_factory=lambda: defaultdict(Queue))
    ears: Ears = field(default_factory=Ears)
    ran: list[int] = field(default_factory=list)
    """Numbers of tests, as they ran."""
    conductors: int = 0
    stopped: set[tuple[str, int]] = field(default_factory=set)
    """Attempts that the leader wants to end."""

    async def play(self, spec: SuiteSubmitted, doors: Sequence[Door]) -> SuiteEnded:
        """Have a suite conducted by one conductor after the other; return its end."""
        async with self.stage.led():
            capability = facts.machine(4, labels=dict(SPEAKS))
            await self.stage.say(facts.registered("w", capability))
            await self.stage.say(spec)
            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
                playing = group.create_task(self._sessions(group))
                for door in doors:
                    if await self._conducted(door):
                        break
                playing.cancel()
        (end, *more) = await self.stage.written(SuiteEnded)
        assert not more
        assert isinstance(end, SuiteEnded)
        return end

    async def _conducted(self, door: Door) -> bool:
        """Conduct until the suite has ended or the conductor is killed; say which."""
        self.conductors += 1
        journal = self.stage.journal
        view = View(journal, Cell(facts.CELL), since=1)
        following = asyncio.ensure_future(view.run())
        try:
            await view.reached((await journal.bounds()).last)
            pen = await self._elected(door)
            await view.reached(pen.epoch)
            means: Any = Means(view, journal, self.ears, None, self.stage.clock.now)  # type: ignore[arg-type]
            object.__setattr__(means, "queue", lambda name: DoorQueue(self.queues[name], door))
            conducting = asyncio.ensure_future(conduct(means, pen))
            ending = asyncio.ensure_future(self._ended(view))
            await asyncio.wait({conducting, ending}, return_when=asyncio.FIRST_COMPLETED)
            for task in (conducting, ending):
                task.cancel()
            found = await asyncio.gather(conducting, ending, return_exceptions=True)
            return found[1] is True
        except Killed:
            return False
        finally:
            following.cancel()

    async def _elected(self, door: Door) -> Pen:
        where = subject.conductor_epoch(facts.CELL)
        last = await self.stage.journal.last(where)
        name = f"c{self.conductors}"
        seq = await self.stage.say(ConductorElected(name, last.seq if last is not None else 0))
        who = Identity(facts.CELL, name, "here", "0")
        journal: Any = DoorJournal(self.stage.journal, door)
        return Pen(journal, who, seq, clock=self.stage.clock, new_id=self.stage.new_id)

    @staticmethod
    async def _ended(view: View) -> bool:
        at = -1
        while view.cell.suites[RUN].exit_code is None:
            at = await view.moved(at)
        return True

    # -- the sessions -----------------------------------------------------------------------------

    async def _sessions(self, group: asyncio.TaskGroup) -> None:
        known: set[tuple[str, int]] = set()
        async with self.stage.journal.follow(0) as feed:
            async for batch in feed:
                for stored in batch:
                    for event in stored.record().events:
                        data = getattr(event, "data", None)
                        if isinstance(data, AttemptStopRequested):
                            self.stopped.add((data.task_id, data.attempt))
                        if not isinstance(data, AttemptAssigned):
                            continue
                        if (data.task_id, data.attempt) not in known:
                            known.add((data.task_id, data.attempt))
                            group.create_task(self._session(data))

    async def _session(self, assigned: AttemptAssigned) -> None:
        queue = self.queues[assigned.config["queue"]]
        await self.stage.say(facts.started(assigned))
        if assigned.config.get("collect"):
            await queue.tell(self.suite.documents())
            for heard in list(self.ears.heard):
                heard("collected", b"")
        ordinal, bad = 0, False
        while not (queue.closed and not queue.waiting and not queue.held):
            if (assigned.task_id, assigned.attempt) in self.stopped:
                await self.stage.say(facts.finished(assigned, "cancelled"))
                return
            pulled = await queue.pull(0.01)
            if pulled is None:
                continue
            for part in decode(pulled.body).parts:
                for test in part.tests or ():
                    ordinal += 1
                    bad |= await self._test(assigned, ordinal, test.number or 0)
            await queue.done(pulled.handle)
        reason = Reason.ASSERTION_FAILED if bad else None
        await self.stage.say(facts.finished(assigned, "failed" if bad else "passed", reason))

    async def _test(self, assigned: AttemptAssigned, ordinal: int, number: int) -> bool:
        outcomes = self.outcomes.get(number, ("passed",))
        outcome = outcomes[min(self.ran.count(number), len(outcomes) - 1)]
        self.ran.append(number)
        nodeid = self.suite.tests[number][0]
        where = (assigned.task_id, assigned.attempt, assigned.worker_id, ordinal)
        await self.stage.say(TestcaseFinished(*where, nodeid, outcome, number=number))
        return outcome in ("failed", "error")
