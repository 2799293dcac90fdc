"""Agents under test, at three depths: a keeper alone, an executor on a workbench without network,
and real agent processes in a real cell.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from dtest.agents.keeper import keeper_command
from dtest.agents.keeper.client import KeeperClient, Message
from dtest.agents.keeper.descendants import MARK
from tests.kit.nats import eventually

PYTHON = sys.executable
WITHIN_S = 20.0


# --- processes ----------------------------------------------------------------------------------


def marked(directory: Path) -> list[int]:
    """The processes that come of attempts in a directory."""
    found: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            mark = process.environ().get(MARK, "")
            if str(directory) in mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def keepers(directory: Path) -> list[int]:
    """The keepers of a directory and of those below it."""
    found: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if any("keeper.process" in part for part in command) and any(
                part.startswith(str(directory)) for part in command
            ):
                found.append(process.pid)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_all(directory: Path) -> None:
    """Kill whatever works in a directory."""
    for pid in [*keepers(directory), *marked(directory)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- a keeper -------------------------------------------------------------------------------


class Keeping:
    """A keeper's directory, and an agent's line to the keeper."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[Message] = []
        self.client = KeeperClient(directory, told=self.said.append)

    @property
    def pid(self) -> int:
        """The keeper's process."""
        assert self.client.pid is not None
        return self.client.pid

    async def connect(self, env: dict[str, str] | None = None) -> list[Message]:
        """Reach the keeper, or start one; as after the loss of a connection if there was one."""
        self.client.close()
        return await self.client.connect({"PATH": os.environ["PATH"], **(env or {})})

    def slot(self, key: str) -> Path:
        """Where an attempt works."""
        return self.directory / key

    def spawn(self, key: str, *argv: str, env: dict[str, str] | None = None) -> None:
        """Order an attempt."""
        slot = self.slot(key)
        slot.mkdir(exist_ok=True)
        order = {"op": "spawn", "key": key, "argv": list(argv), "cwd": str(slot)}
        self.client.order({**order, "env": env or {}, "dir": str(slot)})

    def kill(self, key: str, grace_s: float = 0.0) -> None:
        """Order its end."""
        order = {"op": "kill", "key": key, "grace_s": grace_s, "reason": "cancelled_user"}
        self.client.order(order)

    def heard(self, op: str, key: str | None = None) -> Message | None:
        """What the keeper said of that kind, none if it did not."""
        return next((m for m in self.said if m["op"] == op and key in (None, m.get("key"))), None)

    async def hears(self, op: str, key: str | None = None) -> Message:
        """Wait until the keeper says it."""
        await eventually(lambda: self.heard(op, key) is not None, within_s=WITHIN_S, what=op)
        found = self.heard(op, key)
        assert found is not None
        return found

    async def run(self, key: str, *argv: str, env: dict[str, str] | None = None) -> Message:
        """Order an attempt and wait for its end."""
        self.spawn(key, *argv, env=env)
        return await self.hears("exited", key)

    async def prints(self, key: str, text: bytes) -> None:
        """Wait until the attempt's output holds a text."""
        path = self.slot(key) / "output.log"
        await eventually(
            lambda: path.exists() and text in path.read_bytes(),
            within_s=WITHIN_S,
            what=f"{key} prints {text!r}",
        )

    def output(self, key: str) -> bytes:
        """All that the attempt wrote."""
        return (self.slot(key) / "output.log").read_bytes()


@asynccontextmanager
async def listening(keeping: Keeping) -> AsyncIterator[None]:
    """Hear the keeper for a while."""
    async with asyncio.TaskGroup() as group:
        listener = group.create_task(keeping.client.listen())
        try:
            yield
        finally:
            listener.cancel()


@asynccontextmanager
async def keeping(directory: Path, env: dict[str, str] | None = None) -> AsyncIterator[Keeping]:
    """Run a keeper and hear it; nothing of it is left."""
    opened = Keeping(directory)
    try:
        await opened.connect(env)
        async with listening(opened):
            yield opened
    finally:
        opened.client.order({"op": "quit"})
        opened.client.close()
        end_all(directory)


@contextmanager
def keeper_alone(directory: Path, *, lonely_s_max: float) -> Iterator[subprocess.Popen[bytes]]:
    """Run a keeper without an agent."""
    command = [*keeper_command(directory), str(lonely_s_max)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()
            end_all(directory)
