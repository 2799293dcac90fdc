"""What is known of earlier runs of a suite: by the client that asked for it, and by the cell."""

import asyncio
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import orjson

from dtest.errors import DtestError
from dtest.events import subject
from dtest.journal.connection import Connection
from dtest.journal.queue import UnitQueue
from dtest.state.cell import Cell
from dtest.suites.history import History

ASK_S_MAX = 1.0
"""How long an answer of the cell may take; a run does without it then."""


@dataclass
class Memory:
    """What is known, by class of hardware."""

    stated: dict[str, History] = field(default_factory=dict)
    """By the client, which counts for more."""
    cell: dict[str, History] = field(default_factory=dict)
    only_stated_fail: bool = False
    """What failed is as the client says, and nothing else."""

    def load(self, *hardware: str) -> History:
        """Return what is known of classes of hardware, of the first one that knows a test."""
        found = History()
        for name in hardware:
            found = found.completed_by(self.stated.get(name, History()))
        for name in hardware:
            found = found.completed_by(self.cell.get(name, History()))
        if not self.only_stated_fail:
            return found
        failed = {key for each in self.stated.values() for key in each.failed}
        return History(found.durations, frozenset(failed))


async def remembered(
    connection: Connection,
    cell: Cell,
    suite: str,
    hardware: Iterable[str],
    stated: UnitQueue | None,
) -> Memory:
    """Ask the client's own words and the cell; whoever does not answer costs knowledge only."""
    memory = Memory()
    if stated is not None:
        with suppress(DtestError, ValueError, zlib.error, KeyError, TypeError):
            await _read(stated, memory)

    async def ask(name: str) -> None:
        question = orjson.dumps({"suite": suite, "hardware": name})
        with suppress(TimeoutError, DtestError, ValueError, zlib.error, KeyError):
            where = subject.memory(cell.id)
            answer = await connection.ask(where, question, timeout_s=ASK_S_MAX)
            if answer.status == 0 and answer.payload:
                memory.cell[name] = _history(orjson.loads(zlib.decompress(answer.payload)))

    await asyncio.gather(*(ask(name) for name in dict.fromkeys(hardware)))
    return memory


def _history(found: dict[str, Any]) -> History:
    nodeids = found["nodeids"]
    durations = dict(zip(nodeids, found["durations_s"], strict=True))
    return History(durations, frozenset(compress(nodeids, found["failed"])))


async def _read(stated: UnitQueue, memory: Memory) -> None:
    body, part = b"", 0
    while (piece := await stated.recalled(part)) is not None:
        body += piece
        part += 1
    if not body:
        return
    found = orjson.loads(zlib.decompress(body))
    memory.only_stated_fail = bool(found.get("only_stated_fail", False))
    for name, told in found["hardware"].items():
        memory.stated[name] = History(told["durations"], frozenset(told["failed"]))
