"""Sends an agent's facts to the journal, all that came up during one send with the next.

Repeats until acknowledged, however long the broker is away; what must outlive the agent process
is kept on disk by whoever told the fact, until ``stored`` is called.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dtest.errors import DtestError, Unavailable
from dtest.events import codec, subject
from dtest.events.attempt import AttemptFinished, AttemptStarted
from dtest.events.catalogue import AgentPayload
from dtest.events.envelope import Event
from dtest.events.fields import CellId, EventId, WorkerId
from dtest.journal.port import GuardRefused, Journal, Outgoing

log = structlog.get_logger()

PENDING_MAX = 100_000
PRESSED_S = 2.0
"""A send that takes longer says that the broker is away, slow or full."""
AGAIN_S = 0.5
"""The journal repeats for a while by itself, but a full one refuses at once."""
_ORDER = {
    name: place
    for place, name in enumerate(
        (
            "worker.registered",
            "attempt.started",
            "attempt.checkpointed",
            "attempt.checkpoint_failed",
            "testcase.finished",
            "attempt.refused",
            "attempt.released",
            "attempt.finished",
            "worker.draining",
            "worker.left",
        )
    )
}
"""Facts of one send go out by type in this order, each type once the one before is stored: a
message that has to be repeated comes late, and none may precede what it builds on."""


@dataclass(frozen=True, slots=True)
class _Telling:
    data: AgentPayload
    stored: Callable[[], None] | None


class Reporter:
    """The voice of one worker."""

    def __init__(
        self,
        journal: Journal,
        *,
        cell: CellId,
        worker_id: WorkerId,
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._journal = journal
        self._cell = cell
        self._worker_id = worker_id
        self._now = now
        self._new_id = new_id
        self._pending: deque[_Telling] = deque()
        self._stir = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sending = 0
        self._sending_since: float | None = None

    @property
    def is_full(self) -> bool:
        """Say whether no more facts should be told for now (the broker is away for long)."""
        return len(self._pending) >= PENDING_MAX

    @property
    def waiting(self) -> int:
        """Count the facts that the journal does not have."""
        return len(self._pending) + self._sending

    @property
    def is_pressed(self) -> bool:
        """Say whether facts do not get through as they should: what matters less has to wait."""
        since = self._sending_since
        return since is not None and asyncio.get_running_loop().time() - since > PRESSED_S

    def tell(self, data: AgentPayload, *, stored: Callable[[], None] | None = None) -> None:
        """Queue a fact; ``stored`` is called once the journal has it."""
        self._pending.append(_Telling(data, stored))
        self._idle.clear()
        self._stir.set()

    async def flush(self) -> None:
        """Wait until the journal has everything told so far."""
        await self._idle.wait()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._stir.wait()
            self._stir.clear()
            tellings = _coalesce(self._pending)
            self._pending.clear()
            self._sending = len(tellings)
            self._sending_since = asyncio.get_running_loop().time()
            await self._send(tellings)
            self._sending, self._sending_since = 0, None
            if not self._pending:
                self._idle.set()

    async def _send(self, tellings: list[_Telling]) -> None:
        by_type: dict[str, list[_Telling]] = {}
        for telling in tellings:
            by_type.setdefault(telling.data.TYPE, []).append(telling)
        for name in sorted(by_type, key=_ORDER.__getitem__):
            await self._send_type(name, by_type[name])

    async def _send_type(self, name: str, tellings: list[_Telling]) -> None:
        source = codec.source(self._cell, "agent", self._worker_id)
        now = self._now()
        events = [Event(EventId(self._new_id()), source, now, telling.data) for telling in tellings]
        where = subject.agent(self._cell, self._worker_id, name)
        messages = [Outgoing(where, body, first) for first, body in codec.split(events)]
        await asyncio.gather(*(self._append(message) for message in messages))
        for telling in tellings:
            if telling.stored is not None:
                telling.stored()

    async def _append(self, message: Outgoing) -> None:
        while True:
            try:
                result = await self._journal.append(message)
            except Unavailable as error:
                log.warning("journal_unavailable", subject=message.subject, problem=str(error))
                await asyncio.sleep(AGAIN_S)
                continue
            if isinstance(result, GuardRefused):
                text = f"{message.subject}: {result.detail}"
                raise DtestError(text)
            return


def _coalesce(pending: deque[_Telling]) -> list[_Telling]:
    """Leave out starts whose end is told in the same send: the end carries them."""
    ended = {
        (telling.data.task_id, telling.data.attempt)
        for telling in pending
        if isinstance(telling.data, AttemptFinished)
    }
    return [
        telling
        for telling in pending
        if not (
            isinstance(telling.data, AttemptStarted)
            and telling.stored is None
            and (telling.data.task_id, telling.data.attempt) in ended
        )
    ]
