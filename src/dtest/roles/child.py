"""One process of a stack: how it starts, is started again, and ends."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from dtest.roles.fork_server import Request
from dtest.roles.forking import CAN_FORK, Forked, ForkServer
from dtest.runtime.lifecycle import end_with_parent
from dtest.settings import environment_of_roles

log = structlog.get_logger()

END_S_MAX = 15.0


class Process(Protocol):
    """A process that was started, in whatever way."""

    @property
    def pid(self) -> int:
        """Its number."""
        ...

    @property
    def returncode(self) -> int | None:
        """Its exit status once it has ended."""
        ...

    async def wait(self) -> int:
        """Wait for its end; return its exit status."""
        ...

    def send_signal(self, signal: int, /) -> None:
        """Send a signal. Raises ProcessLookupError if it has ended."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it."""
        ...


@dataclass(slots=True)
class Child:
    """One process of the stack."""

    name: str
    start: Callable[[], Awaitable[Process]]
    process: Process
    may_start: asyncio.Event
    """Cleared by who wants it to stay away once it ended."""
    restart: bool = True
    restarts: int = 0

    async def end(self) -> None:
        """Have it end by itself; kill it after ``END_S_MAX`` seconds."""
        process = self.process
        if process.returncode is not None:
            return
        try:
            process.terminate()
            async with asyncio.timeout(END_S_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        except ProcessLookupError:
            return

    async def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@dataclass(frozen=True, slots=True)
class RoleCommand:
    """How the process of a role is started: forked, or by a command of its own; see ``held``."""

    module: str
    arguments: Sequence[str]
    log: Path
    starter: Sequence[str] = ()
    """Words before its own command: what starts it elsewhere, as in a namespace."""
    forks: ForkServer | None = None

    async def load(self, stated: Mapping[str, str]) -> "Forked | asyncio.subprocess.Process":
        """Start a process that loads its code and waits for ``let_go``.

        ``stated`` is what its environment has besides that of all roles.
        """
        if self.forks is not None and CAN_FORK and not self.starter:
            request = Request(f"dtest.roles.{self.module}", list(self.arguments), dict(stated))
            try:
                return await self.forks.fork(request, self.log)
            except ChildProcessError as error:
                log.warning("fork_failed", role=self.module, detail=str(error))
        with self.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self.starter,
                sys.executable,
                *("-P", "-m", "dtest.roles.held", f"dtest.roles.{self.module}", *self.arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**environment_of_roles(), **stated},
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    async def run(self, stated: Mapping[str, str]) -> Process:
        """Start a process that begins as soon as it can."""
        process = await self.load(stated)
        let_go(process)
        return process


def let_go(process: Process) -> None:
    """Let a loaded process begin."""
    if isinstance(process, Forked):
        process.let_go()
    elif isinstance(process, asyncio.subprocess.Process) and process.stdin is not None:
        process.stdin.write(b"\n")
        process.stdin.close()
