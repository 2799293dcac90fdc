"""One process of a stack: how it starts, is started again, and ends."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dtest.runtime.lifecycle import end_with_parent

END_S_MAX = 15.0

Process = asyncio.subprocess.Process


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
    """How the process of a role is started; see ``held``."""

    module: str
    arguments: Sequence[str]
    log: Path
    starter: Sequence[str] = ()
    """Words before its own command: what starts it elsewhere, as in a namespace."""

    async def load(self, environment: Mapping[str, str]) -> Process:
        """Start a process that loads its code and waits for ``let_go``."""
        with self.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self.starter,
                sys.executable,
                *("-m", "dtest.roles.held", f"dtest.roles.{self.module}", *self.arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    async def run(self, environment: Mapping[str, str]) -> Process:
        """Start a process that begins as soon as it can."""
        process = await self.load(environment)
        let_go(process)
        return process


def let_go(process: Process) -> None:
    """Let a loaded process begin."""
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(b"\n")
        process.stdin.close()
