"""The agent's side of the keeper: start it, talk to it, notice its death."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dtest.agents.keeper import KEEPER_SCRIPT
from dtest.agents.keeper.process import signal_group, start_ticks
from dtest.errors import Unavailable

START_S_MAX = 10.0
LINE_BYTES_MAX = 16 << 20

Message = dict[str, Any]


class KeeperClient:
    """One connection to the keeper of a directory."""

    def __init__(self, directory: Path, *, told: Callable[[Message], None]) -> None:
        self._directory = directory
        self._told = told
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self.pid: int | None = None

    async def connect(self, env: dict[str, str]) -> list[Message]:
        """Reach the keeper, starting one if none lives; return the attempts that it runs."""
        if not await self._reach():
            await self._start()
        self.order({"op": "env", "env": env})
        self.order({"op": "list"})
        identity = json.loads((self._directory / "keeper.json").read_text())
        self.pid = int(identity["pid"])
        while True:
            message = await self._next()
            if message is None:
                text = "the keeper of processes ended while it was being reached"
                raise Unavailable(text)
            if message["op"] == "list":
                return list(message["attempts"])
            self._told(message)

    async def _reach(self) -> bool:
        path = self._directory / "keeper.sock"
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(
                str(path), limit=LINE_BYTES_MAX
            )
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    async def _start(self) -> None:
        log = (self._directory / "keeper.log").open("ab")
        with log:
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                KEEPER_SCRIPT,
                str(self._directory),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        deadline = asyncio.get_running_loop().time() + START_S_MAX
        while not await self._reach():
            if asyncio.get_running_loop().time() > deadline:
                text = f"the keeper of processes did not start in {START_S_MAX:g} s"
                raise Unavailable(text, hint=f"see {self._directory / 'keeper.log'}")
            await asyncio.sleep(0.02)

    def order(self, message: Message) -> None:
        """Send an order; a dead keeper is noticed by ``listen``."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def listen(self) -> None:
        """Pass on what the keeper says until it ends."""
        while (message := await self._next()) is not None:
            self._told(message)

    async def _next(self) -> Message | None:
        if self._reader is None:
            return None
        try:
            line = await self._reader.readline()
        except (ConnectionResetError, ValueError):
            return None
        return dict(json.loads(line)) if line.endswith(b"\n") else None

    async def close(self) -> None:
        """Let go of the keeper without ending it."""
        if self._writer is not None:
            self._writer.close()


def end_tree(pid: int, ticks: int | None) -> None:
    """Kill the process group of an attempt whose keeper is gone, if it is still that process."""
    if ticks is not None and start_ticks(pid) not in (ticks, None):
        return  # the number belongs to another process now
    signal_group(pid, signal.SIGKILL)
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
