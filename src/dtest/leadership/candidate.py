"""A scheduler's life: stand by, folding along; lead when nobody does; stand by again when deposed.

Taking over by mistake is harmless, because the journal refuses what a deposed leader writes. So
standbys need no certainty: "nobody listens" is enough, or three pings in a row without an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import Any

import orjson
import structlog

from dtest.events import subject
from dtest.journal.port import Journal
from dtest.leadership.detector import Detector
from dtest.leadership.follower import Follower
from dtest.leadership.leader import Deposed, Leader
from dtest.leadership.line import NO_RESPONDERS, Line

log = structlog.get_logger()

PING_EVERY_S = 0.2
PING_S_MAX = 0.25
UNANSWERED_MAX = 3
ABSENT_AFTER_RECONNECTION_MAX = 10
"""Just reconnected, a standby may be quicker than the leader: so often "nobody" is not believed."""
Sleep = Callable[[float], Awaitable[None]]


Duties = Callable[[Leader], Sequence[Coroutine[Any, Any, None]]]
"""What a leader has to see to beside its decisions, for as long as it leads."""


class Watch:
    """Asks for the holder of an office, who answers at ``where``, several times a second."""

    def __init__(
        self, line: Line, *, where: str, jitter: Callable[[], float], sleep: Sleep = asyncio.sleep
    ) -> None:
        self._line = line
        self._where = where
        self._jitter = jitter
        self._sleep = sleep
        self._doubts = 0

    async def leaderless(self) -> str:
        """Wait until nobody leads; return what was noticed."""
        forget = self._line.on_reconnect(self._reconnected)
        unanswered = 0
        try:
            while True:
                if not self._line.is_connected:
                    unanswered = 0
                else:
                    try:
                        status = await self._line.ping(self._where, b"", timeout_s=PING_S_MAX)
                    except TimeoutError:
                        unanswered += self._line.is_connected
                        if unanswered >= UNANSWERED_MAX:
                            return "silence"
                        continue
                    unanswered = 0
                    if status == NO_RESPONDERS and self._doubts <= 0:
                        return "no_responders"
                    self._doubts = self._doubts - 1 if status == NO_RESPONDERS else 0
                await self._sleep(PING_EVERY_S * (0.5 + self._jitter()))
        finally:
            forget()

    def _reconnected(self) -> None:
        self._doubts = ABSENT_AFTER_RECONNECTION_MAX


class Candidate:
    """One scheduler among any number."""

    def __init__(
        self,
        journal: Journal,
        line: Line,
        follower: Follower,
        *,
        watch: Watch,
        new_leader: Callable[[], Leader],
        monotonic: Callable[[], float],
        pid: int,
        duties: Duties = lambda _: (),
    ) -> None:
        self.leader: Leader | None = None
        """The own term, while there is one."""
        self._journal = journal
        self._line = line
        self.follower = follower
        self._watch = watch
        self._new_leader = new_leader
        self._monotonic = monotonic
        self._pid = pid
        self._duties = duties

    async def run(self) -> None:
        """Stand by and lead in turns, until cancelled."""
        await self.follower.reached((await self._journal.bounds()).last)
        log.info("standing_by", seq=self.follower.cell.seq)
        while True:
            evidence = await self._stand_by()
            log.info("taking_over", evidence=evidence)
            try:
                await self._lead()
            except* Deposed as group:
                log.warning("stepped_down", detail=str(group.exceptions[0]))

    async def _stand_by(self) -> str:
        """Wait until nobody leads; meanwhile answer who asks whether anybody is ready to."""
        silence = await self._line.serve(subject.standby(self.follower.cell.id), lambda _: b"ready")
        try:
            return await self._watch.leaderless()
        finally:
            await silence()

    async def _lead(self) -> None:
        self.leader = leader = self._new_leader()
        cell = self.follower.cell.id
        detector = Detector(leader, self._line, cell=cell, monotonic=self._monotonic)
        # Answers from before its election on: other standbys then wait for how that ends.
        card = orjson.dumps({**asdict(leader.identity), "pid": self._pid})
        silence = await self._line.serve(
            subject.leader(cell), lambda _: card if leader.is_cycling else None
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(leader.run())
                group.create_task(detector.run())
                for duty in self._duties(leader):
                    group.create_task(duty)
        finally:
            self.leader = None
            await silence()
