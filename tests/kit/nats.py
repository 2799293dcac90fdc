"""Real NATS servers for tests: started, killed, frozen and started again; and a proxy before one
that loses, holds back and cuts what passes.
"""

import asyncio
import inspect
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtest.events.fields import CellId
from dtest.journal.connection import Connection, NatsAddress, connect
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.migration import create_streams
from dtest.journal.streams import Limits, journal_name
from dtest.runtime.ids import IdSource
from dtest.runtime.nats_server import EmbeddedServer
from dtest.runtime.ports import free_port

USER = "dtest"
PASSWORD = "for tests only"
LIMITS = Limits(1, 64 << 20, 64 << 20, 8 << 20, 64 << 20, 64 << 20, 8 << 20, 64 << 20)
"""The server sets aside what a stream may grow to: many cells share one disk here."""
WITHIN_S = 30.0
POLL_S = 0.01
_CHUNK_BYTES = 1 << 16


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], *, within_s: float = WITHIN_S, what: str = ""
) -> None:
    """Wait until a condition holds. Raises AssertionError when the time is over."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                held = condition()
                if await held if inspect.isawaitable(held) else held:
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        message = f"not within {within_s:g} s: {what or condition}"
        raise AssertionError(message) from None


# --- the server -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ConfiguredServer(EmbeddedServer):
    """The embedded server with more lines in its file; a repeated setting replaces the first.

    What streams set aside is not bounded by the disk: hundreds of cells share a server here.
    """

    lines: str = ""

    def write_config(self) -> None:
        """Write the configuration file."""
        super().write_config()
        text = self.config_path.read_text(encoding="utf-8")
        block = "jetstream {\n"
        assert block in text
        text = text.replace(block, f"{block}  max_file_store: 100TB\n", 1)
        self.config_path.write_text(text + self.lines, encoding="utf-8")


class Server:
    """A server process on one port and one store, which may die and come back."""

    def __init__(self, directory: Path, *, lines: str = "") -> None:
        self.embedded = ConfiguredServer(directory, free_port(), USER, PASSWORD, lines=lines)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.embedded.port

    @property
    def address(self) -> NatsAddress:
        """The address for its one user."""
        return self.address_of(USER)

    def address_of(
        self, user: str, password: str = PASSWORD, *, port: int | None = None
    ) -> NatsAddress:
        """Return the address for a user, through another port if there is one."""
        return NatsAddress((f"nats://127.0.0.1:{port or self.port}",), user, password)

    async def start(self) -> None:
        """Start the process."""
        self._process = await self.embedded.start()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal and wait for the end."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
            await process.wait()

    async def kill(self) -> None:
        """Let it die without a word."""
        await self.stop(signal.SIGKILL)

    async def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it and start it again on the same store and port."""
        await self.stop(number)
        await self.start()

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Stop the process for a while: connections stay, answers do not come."""
        process = self._process
        if process is None:
            message = "the server does not run"
            raise RuntimeError(message)
        async with stopped(process.pid):
            yield


@asynccontextmanager
async def running(directory: Path, *, lines: str = "") -> AsyncIterator[Server]:
    """Run a server; ``lines`` are added to its configuration file."""
    server = Server(directory, lines=lines)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def connected(address: NatsAddress, *, name: str = "test") -> AsyncIterator[Connection]:
    """Hold a connection."""
    connection = await connect(address, name=name)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def stopped(pid: int) -> AsyncIterator[None]:
    """Stop a process for a while; begins when each of its threads stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(lambda: set(_states(pid)) == {"T"}, what=f"process {pid} stands still")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _states(pid: int) -> Iterator[str]:
    """The state of each thread, as the kernel tells it."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            yield (thread / "stat").read_text().rpartition(")")[2].split()[0]


# --- a cell on it -----------------------------------------------------------------------------


@dataclass(slots=True)
class NatsCell:
    """A cell whose streams exist, and one connection to it."""

    cell: CellId
    connection: Connection
    journal: JetStreamJournal
    new_id: IdSource

    @property
    def stream(self) -> str:
        """The name of the journal's stream."""
        return journal_name(self.cell)

    async def ask(self, verb: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream's API about the journal's stream."""
        body = json.dumps(request).encode() if request else b""
        answer = await self.connection.ask(
            f"$JS.API.{verb}.{self.stream}", body, timeout_s=WITHIN_S
        )
        return answer.json()

    async def consumers(self) -> list[str]:
        """Return the names of those who read the journal."""
        reply = await self.ask("CONSUMER.NAMES")
        return list(reply["consumers"] or [])

    async def delete_consumer(self, name: str) -> None:
        """Delete a consumer behind its reader's back."""
        subject = f"$JS.API.CONSUMER.DELETE.{self.stream}.{name}"
        await self.connection.ask(subject, b"", timeout_s=WITHIN_S)


@asynccontextmanager
async def joined(
    address: NatsAddress,
    cell: CellId,
    *,
    limits: Limits = LIMITS,
    retry_s_max: float = 30.0,
) -> AsyncIterator[NatsCell]:
    """Connect to a cell; its streams are created where they do not exist."""
    async with connected(address) as connection:
        await create_streams(connection, cell, limits)
        new_id = IdSource()
        journal = JetStreamJournal(
            connection, journal_name(cell), new_id=new_id, retry_s_max=retry_s_max
        )
        yield NatsCell(cell, connection, journal, new_id)


# --- the proxy --------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Pipe:
    """One client's connection: to the proxy and on to the server."""

    ends: list[asyncio.StreamWriter]
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def abort(self) -> None:
        for writer in self.ends:
            writer.transport.abort()


class Proxy:
    """Passes bytes on to a port until told to mistreat them."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.swallowed = asyncio.Event()
        """Set once something was lost since ``swallow``."""
        self.connections = 0
        """How many were made so far."""
        self._target_port = target_port
        self._swallows = False
        self._delay_s = 0.0
        self._pipes: set[_Pipe] = set()
        self._listener: asyncio.Server | None = None

    def swallow(self) -> None:
        """Lose what the server says from now on."""
        self.swallowed.clear()
        self._swallows = True

    def pass_on(self) -> None:
        """Stop mistreating."""
        self._swallows = False
        self._delay_s = 0.0
        for pipe in self._pipes:
            pipe.flowing.set()

    def delay(self, seconds: float) -> None:
        """Hold back each chunk from the server for so long."""
        self._delay_s = seconds

    def hold(self) -> None:
        """Read nothing more from those who are connected, as when their cable is pulled."""
        for pipe in self._pipes:
            pipe.flowing.clear()

    def cut(self) -> None:
        """End all connections; new ones are taken and treated well."""
        self.pass_on()
        for pipe in list(self._pipes):
            pipe.abort()

    async def shut(self) -> None:
        """End all connections and take no new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self.cut()
        await eventually(lambda: not self._pipes, what="the proxy's connections are gone")
        if listener is not None:
            await listener.wait_closed()

    async def open(self) -> None:
        """Take connections; always on the same port."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = int(self._listener.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = _Pipe([writer])
        pipe.flowing.set()
        self._pipes.add(pipe)
        self.connections += 1
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
            pipe.ends.append(to_server)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, to_server, pipe, spoken_by_server=False))
                group.create_task(self._pump(from_server, writer, pipe, spoken_by_server=True))
        except OSError:
            pass  # nobody listens behind the proxy
        finally:
            pipe.abort()
            self._pipes.discard(pipe)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pipe: _Pipe,
        *,
        spoken_by_server: bool,
    ) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                await pipe.flowing.wait()
                if spoken_by_server and self._swallows:
                    self.swallowed.set()
                    continue
                if spoken_by_server and self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass  # one side is gone: so is the other
        finally:
            pipe.abort()


@asynccontextmanager
async def proxied(target_port: int) -> AsyncIterator[Proxy]:
    """Run a proxy before a port."""
    proxy = Proxy(target_port)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.shut()
