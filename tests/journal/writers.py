"""Those who write and read without pause while servers die, and who know what was acknowledged."""

import asyncio
from dataclasses import dataclass, field

from dtest.events import subject
from dtest.events.fields import ClientId, WorkerId
from dtest.journal.port import Appended, Guard, GuardRefused, Journal, Outgoing, Stored
from tests.kit.nats import NatsCell


def client(cell: NatsCell, name: str = "a") -> str:
    return subject.client(cell.cell, ClientId(name), "task.queued")


def message(cell: NatsCell, where: str = "", payload: bytes = b"{}") -> Outgoing:
    return Outgoing(where or client(cell), payload, cell.new_id())


@dataclass(slots=True)
class Writers:
    """Writes unique messages without pause until told to stop; knows what was acknowledged."""

    cell: NatsCell
    acknowledged: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(self._singly(f"s{number}"))
            group.create_task(self._in_batches())
            group.create_task(self._in_a_chain())
            group.create_task(self._in_a_chain_of_batches())

    def _note(self, result: Appended | GuardRefused, *messages: Outgoing) -> int:
        if isinstance(result, GuardRefused):
            self.refused.append(result.detail)
            return 0
        self.acknowledged.update(each.id for each in messages)
        return result.seq

    async def _singly(self, name: str) -> None:
        while not self.stop.is_set():
            each = message(self.cell, client(self.cell, name))
            self._note(await self.cell.journal.append(each), each)

    async def _in_batches(self) -> None:
        while not self.stop.is_set():
            batch = [message(self.cell, client(self.cell, "batches")) for _ in range(10)]
            self._note(await self.cell.journal.append_batch(batch), *batch)

    async def _in_a_chain(self) -> None:
        """Each append is guarded by the one before: a second copy would break the chain."""
        where = client(self.cell, "chain")
        last = 0
        while not self.stop.is_set():
            each = message(self.cell, where)
            result = await self.cell.journal.append(each, guard=Guard(where, last))
            last = self._note(result, each)

    async def _in_a_chain_of_batches(self) -> None:
        where = subject.work(self.cell.cell, "cpu", WorkerId("chain"))
        last = 0
        while not self.stop.is_set():
            head = message(self.cell, where)
            batch = [head, *(message(self.cell, client(self.cell, "rest")) for _ in range(5))]
            result = await self.cell.journal.append_batch(batch, guard=Guard(where, last))
            seq = self._note(result, *batch)
            last = seq - 5 if seq else 0


async def follow_into(found: list[Stored], journal: Journal, where: str | None = None) -> None:
    async with journal.follow(0, subject=where) as feed:
        async for batch in feed:
            found += batch
