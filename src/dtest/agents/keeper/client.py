"""The agent's side of the keeper: start it, talk to it, notice its death."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dtest.agents.keeper import keeper_command
from dtest.errors import Unavailable

START_S_MAX = 10.0
LOOK_AGAIN_S = 0.02
LINE_BYTES_MAX = 16 << 20
ADDRESS_BYTES_MAX = 100
"""A socket's address has room for 107 bytes on Linux, 103 on macOS."""

Message = dict[str, Any]


class KeeperClient:
    """One connection to the keeper of a directory."""

    def __init__(self, directory: Path, *, told: Callable[[Message], None]) -> None:
        self._directory = directory
        self._told = told
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._child: int | None = None
        """The keeper's process if this client started it."""
        self.pid: int | None = None

    async def connect(self, env: dict[str, str]) -> list[Message]:
        """Reach the keeper, starting one if none lives; return the attempts that it runs.

        ``env`` is what attempts inherit. Raises Unavailable.
        """
        deadline = asyncio.get_running_loop().time() + START_S_MAX
        while True:
            if not await self._reach():
                self._start()
            while not await self._reach():
                if asyncio.get_running_loop().time() > deadline:
                    text = f"the keeper of processes did not start in {START_S_MAX:g} s"
                    raise Unavailable(text, hint=f"see {self._directory / 'keeper.log'}")
                await asyncio.sleep(LOOK_AGAIN_S)
            attempts = await self._greet(env)
            if attempts is not None:
                return attempts  # none: it was about to end
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _reach(self) -> bool:
        if self._writer is not None:
            return True
        try:
            self._reader, self._writer = await self._open()
        except (FileNotFoundError, ConnectionError):
            return False
        return True

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        path = str(self._directory / "keeper.sock")
        if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX or not sys.platform.startswith("linux"):
            return await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            short = f"/proc/self/fd/{directory}/keeper.sock"
            return await asyncio.open_unix_connection(short, limit=LINE_BYTES_MAX)
        finally:
            os.close(directory)

    def _start(self) -> None:
        """Start a keeper. Not by asyncio: that would kill it when the agent's loop ends."""
        self._bury()
        command = keeper_command(self._directory)
        log = str(self._directory / "keeper.log")
        self._child = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )

    def _bury(self) -> None:
        if self._child is None:
            return
        try:
            ended, _ = os.waitpid(self._child, os.WNOHANG)
        except ChildProcessError:
            ended = self._child
        if ended:
            self._child = None

    async def _greet(self, env: dict[str, str]) -> list[Message] | None:
        self.order({"op": "env", "env": env})
        self.order({"op": "list"})
        while (message := await self._next()) is not None:
            if message["op"] == "list":
                self.pid = int(message["pid"])
                return list(message["attempts"])
            self._told(message)
        return None

    def order(self, message: Message) -> None:
        """Send an order; one that cannot be sent is lost, and ``listen`` ends."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def listen(self) -> None:
        """Pass on what the keeper says until it ends, or takes another agent's word."""
        while (message := await self._next()) is not None:
            self._told(message)

    async def _next(self) -> Message | None:
        if self._reader is None:
            return None
        try:
            line = await self._reader.readline()
        except (ConnectionError, ValueError):
            line = b""
        if line.endswith(b"\n"):
            return dict(json.loads(line))
        self.close()
        self._bury()
        return None

    def close(self) -> None:
        """Let go of the keeper without ending it."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
