"""Watches the workers' beats and writes down whom it cannot hear; what follows is decided apart.

Silence that the detector shares with everybody (its own connection was down) counts against
nobody. A worker that beats though it counts as gone is asked to register again.
"""

import asyncio
from collections.abc import Awaitable, Callable

from dtest.events import subject
from dtest.events.fields import CellId, WorkerId
from dtest.events.worker import WorkerSuspected
from dtest.leadership.leader import Leader
from dtest.leadership.line import NO_RESPONDERS, Line
from dtest.state.worker import WorkerStatus

LOOK_EVERY_S = 0.2
BEAT_LATE_S = 1.1
"""A beat comes each second; this late, the worker is asked."""
SILENCE_S_MAX = 4.0
PING_S_MAX = 0.5


class Detector:
    """Suspects workers of one cell."""

    def __init__(
        self, leader: Leader, line: Line, *, cell: CellId, monotonic: Callable[[], float]
    ) -> None:
        self._leader = leader
        self._line = line
        self._cell = cell
        self._monotonic = monotonic
        self._heard: dict[WorkerId, float] = {}
        self._asked_to_register: dict[WorkerId, float] = {}

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Watch until cancelled."""
        await self._leader.leading.wait()
        forget = self._line.on_reconnect(self._heard.clear)
        deaf = await self._line.listen(subject.beat(self._cell, WorkerId("*")), self._beat)
        try:
            while True:
                await sleep(LOOK_EVERY_S)
                if self._line.is_connected:
                    await self._look()
                else:
                    self._heard.clear()
        finally:
            forget()
            await deaf()

    def _beat(self, where: str, _: bytes) -> None:
        self._heard[WorkerId(where.rpartition(".")[2])] = self._monotonic()

    async def _look(self) -> None:
        now = self._monotonic()
        late: list[WorkerId] = []
        for worker in self._leader.cell.workers.values():
            heard = self._heard.setdefault(worker.id, now)
            if worker.status in (WorkerStatus.LOST, WorkerStatus.SUSPECTED):
                if now - heard < BEAT_LATE_S:
                    await self._ask_to_register(worker.id, now)
            elif worker.status is not WorkerStatus.LEFT and now - heard > BEAT_LATE_S:
                late.append(worker.id)
        await asyncio.gather(*(self._ask(worker_id) for worker_id in late))

    async def _ask(self, worker_id: WorkerId) -> None:
        try:
            status = await self._line.ping(
                subject.ping(self._cell, worker_id), b"", timeout_s=PING_S_MAX
            )
        except TimeoutError:
            status = -1
        now = self._monotonic()
        if status == 0:
            self._heard[worker_id] = now
            return
        silence_s = now - self._heard.get(worker_id, now)
        worker = self._leader.cell.workers[worker_id]
        if status == NO_RESPONDERS or silence_s > SILENCE_S_MAX:
            evidence = "no_responders" if status == NO_RESPONDERS else "silence"
            await self._leader.observe(
                WorkerSuspected(worker_id, worker.incarnation, evidence, round(silence_s, 3))  # type: ignore[arg-type]
            )

    async def _ask_to_register(self, worker_id: WorkerId, now: float) -> None:
        if now - self._asked_to_register.get(worker_id, 0.0) < SILENCE_S_MAX:
            return
        self._asked_to_register[worker_id] = now
        try:
            await self._line.ping(
                subject.ping(self._cell, worker_id), b"register", timeout_s=PING_S_MAX
            )
        except TimeoutError:
            return  # it will be heard, or asked, again
