"""The process of the read side: projector and HTTP API over one DuckDB file."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from dtest.api import history
from dtest.api.admission import Admission
from dtest.api.app import create_app, gated
from dtest.api.context import ApiContext
from dtest.api.limits import ApiLimits, limits_of
from dtest.api.shelf import Shelf
from dtest.client import Client
from dtest.errors import DtestError, Unavailable, UsageError
from dtest.events import subject
from dtest.events.fields import ClientId
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.queue import UnitQueue
from dtest.journal.room import JournalRoom
from dtest.journal.stores import OutputStore, artifact_store, output_stream
from dtest.journal.streams import journal_name, telemetry_name
from dtest.journal.workspace_store import WorkspaceStore
from dtest.leadership.census import Census
from dtest.leadership.snapshots import SnapshotFiles, SnapshotWriter, current_basis
from dtest.projections.projector import Projector, Source, TelemetryProjector
from dtest.projections.store import Store
from dtest.roles.session import Session, session
from dtest.runtime.clock import SystemClock
from dtest.runtime.lifecycle import hold_many_objects, on_stop_signals, run_until_stopped
from dtest.runtime.logs import set_up_logs
from dtest.runtime.machine import MachineUsage
from dtest.settings import Settings, load_settings

log = structlog.get_logger()

CONNECT_S_MAX = 15.0
CLOSE_S_MAX = 5.0
"""Requests that are under way when the API is to end have so long."""
LINGER_S_MAX = 5.0
"""So long a finished event stream may take to hand over its last bytes."""
TELEMETRY_AGAIN_S = 5.0
JOURNAL_S_MAX = 4.0
"""A request that needs the journal is told after so long, or a second more, that it is away. A
caller who knows can ask another API, or repeat; the election of a cluster may take longer."""
SNAPSHOT_EVENTS_MIN = 10_000
"""A start takes a second at least; folding so many events again adds little."""


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Where the API listens and keeps its file."""

    host: str
    port: int
    token: str
    database: Path
    limits: ApiLimits


async def serve(settings: Settings, options: ApiOptions) -> None:
    """Project and serve until stopped by a signal."""
    hold_many_objects()
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    store = Store(options.database)
    try:
        async with (
            session(settings, name="dtest api", wait_s=CONNECT_S_MAX) as opened,
            asyncio.TaskGroup() as group,
        ):
            door = _Door()
            main = group.create_task(_serve(opened, store, options, door))
            stopping = group.create_task(stop.wait())
            await asyncio.wait({main, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if door.server is not None:  # what is under way is answered before anything is closed
                door.server.should_exit = True
                await asyncio.wait({main}, timeout=CLOSE_S_MAX)
            stop.set()
            await run_until_stopped(main, stop)
    finally:
        store.close()


@dataclass(slots=True)
class _Door:
    """The HTTP server, once there is one."""

    server: "_Server | None" = None


async def _serve(opened: Session, store: Store, options: ApiOptions, door: _Door) -> None:
    clock = SystemClock()
    source = Source(opened.journal, journal_name(opened.cell))
    files = SnapshotFiles(options.database.with_suffix(".snapshots"), opened.cell, current_basis())
    projector = Projector(store, source, cell=opened.cell, snapshots=files)
    await projector.start()
    journal = JetStreamJournal(
        opened.connection,
        source.name,
        new_id=opened.new_id,
        retry_s_max=JOURNAL_S_MAX,
        ask_s_max=JOURNAL_S_MAX,
    )
    census = Census(opened.connection, cell=opened.cell)
    context = ApiContext(
        opened.cell,
        store,
        projector,
        journal,
        Client(
            journal,
            cell=opened.cell,
            client_id=ClientId("api"),
            now=clock.now,
            new_id=opened.new_id,
        ),
        OutputStore(output_stream(opened.connection, opened.cell, opened.new_id), opened.cell),
        artifact_store(opened.connection, opened.cell),
        Shelf(WorkspaceStore(opened.connection, opened.cell, new_id=opened.new_id), now=clock.now),
        clock.now,
        opened.new_id,
        lambda: opened.connection.is_connected,
        Admission(options.limits, monotonic=clock.monotonic),
        JournalRoom(
            journal,
            reserve_ratio=options.limits.journal_reserve_ratio,
            monotonic=clock.monotonic,
        ),
        partial(UnitQueue, opened.connection, opened.cell),
        lambda: census.standbys,
        MachineUsage("/"),
    )
    application = gated(
        create_app(context), token=options.token, host=options.host, port=options.port
    )
    await opened.connection.answer(
        subject.memory(opened.cell), "memory", partial(history.answered, context)
    )
    async with asyncio.TaskGroup() as group:
        beside = [
            group.create_task(projector.run()),
            group.create_task(_keep_telemetry(_telemetry(opened, store, projector))),
            group.create_task(_snapshots(files, projector).run()),
            group.create_task(census.run()),
        ]
        await _http(application, options, door)
        for task in beside:
            task.cancel()


def _snapshots(files: SnapshotFiles, projector: Projector) -> SnapshotWriter:
    return SnapshotWriter(
        files,
        projector,
        stream=projector.created,
        lock=projector.lock,
        events_min=SNAPSHOT_EVENTS_MIN,
    )


def _telemetry(opened: Session, store: Store, projector: Projector) -> TelemetryProjector:
    name = telemetry_name(opened.cell)
    stream = JetStreamJournal(opened.connection, name, new_id=opened.new_id)
    return TelemetryProjector(store, Source(stream, name), lock=projector.lock)


async def _keep_telemetry(telemetry: TelemetryProjector) -> None:
    """Project telemetry; what is wrong with its stream concerns nothing else."""
    while True:
        try:
            await telemetry.run()
        except DtestError as error:
            log.warning("telemetry_not_projected", problem=error.message, next_step=error.hint)
            await asyncio.sleep(TELEMETRY_AGAIN_S)


def listen(host: str, port: int) -> socket.socket:
    """Return a listener whose connections send what they have at once. Raises Unavailable.

    asyncio sees to that only for sockets that name their protocol, and these name none: the two
    parts of a short answer would come 40 ms apart, after the reader's delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, reuse_port=False)
    except OSError as error:
        message = f"the API cannot listen at {host}:{port}: {error.strerror or error}"
        raise Unavailable(
            message, hint="give another address, or end what listens there"
        ) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def _http(application: object, options: ApiOptions, door: _Door) -> None:
    config = uvicorn.Config(
        application,  # type: ignore[arg-type]
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws=EventSocket,
        timeout_graceful_shutdown=2,
    )
    door.server = _Server(config)
    listener = listen(options.host, options.port)
    with listener:
        log.info("api_listening", host=options.host, port=options.port)
        await door.server.serve(sockets=[listener])


class EventSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is gone soon after its stream ended, though its peer reads nothing."""

    _is_gone = False

    async def run_asgi(self) -> None:
        """Serve it; closing waits for the peer to take what was sent, aborting does not."""
        try:
            await super().run_asgi()
        finally:
            self.loop.call_later(LINGER_S_MAX, self._cut)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that there is nothing left to cut."""
        self._is_gone = True
        super().connection_lost(exc)

    def _cut(self) -> None:
        if not self._is_gone:  # a transport that is closed cannot be aborted
            self.transport.abort()


class _Server(uvicorn.Server):
    """A server that leaves signals to the role."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def main() -> None:
    """Run the API with the settings of the environment."""
    set_up_logs(role="api", json_lines=True)
    settings = load_settings()
    asyncio.run(serve(settings, options_of(settings, database=None)))


def options_of(settings: Settings, *, database: Path | None) -> ApiOptions:
    """Read where to listen from the settings. Raises UsageError."""
    url = settings.require("api_url")
    host, port = _place_of(url)
    file = database or settings.state_dir / settings.cell / "read-model.duckdb"
    return ApiOptions(host, port, settings.require("token"), file, limits_of(settings))


def _place_of(url: str) -> tuple[str, int]:
    """Return host and port of an address to listen at. Raises UsageError."""
    hint = "set DTEST_API_URL, or give --api"
    try:
        found = urlsplit(url)
        host, port = found.hostname, found.port
    except ValueError as error:
        message = f"the API cannot listen at {url!r}: {error}"
        raise UsageError(message, hint=hint) from error
    if found.scheme == "https":
        message = f"the API cannot listen at {url!r}: it speaks HTTP without TLS"
        raise UsageError(message, hint="give an http address, and put a proxy with TLS before it")
    if found.scheme != "http" or not host or port is None or found.path not in {"", "/"}:
        message = f"the API's address {url!r} is not of the form http://HOST:PORT"
        raise UsageError(message, hint=hint)
    return host, port


if __name__ == "__main__":
    main()
