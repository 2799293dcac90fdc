"""``dtest server``: single parts of a cell, for service managers and operators."""

import asyncio
from dataclasses import replace
from pathlib import Path

from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import Conflict, UsageError
from dtest.runtime.stack_file import read_stack_file
from dtest.settings import stack_path

_FIELDS = {
    "journal": "journal_bytes",
    "output": "output_bytes",
    "telemetry": "telemetry_bytes",
    "artifacts": "artifact_bytes",
}


def scheduler(*, call: CallOptions = DEFAULTS) -> int:
    """Run a scheduler in the foreground; it leads the cell until another one takes over."""
    from dtest.roles.scheduler import serve
    from dtest.runtime.logs import set_up_logs

    set_up_logs(role="scheduler", json_lines=True)
    asyncio.run(serve(call.settings()))
    return 0


def api(*, database: Path | None = None, call: CallOptions = DEFAULTS) -> int:
    """Run the HTTP API with its projector in the foreground, at the address of --api.

    Parameters
    ----------
    database
        The DuckDB file; it is made anew from the journal when it is missing.
    """
    from dtest.roles.api import options_of, serve
    from dtest.runtime.logs import set_up_logs

    set_up_logs(role="api", json_lines=True)
    settings = call.settings()
    asyncio.run(serve(settings, options_of(settings, database=database)))
    return 0


def migrate(
    *,
    journal_bytes: int | None = None,
    output_bytes: int | None = None,
    telemetry_bytes: int | None = None,
    artifact_bytes: int | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Create the cell's streams where they do not exist yet, and give them the sizes stated.

    Example: `dtest server migrate --journal-bytes 34359738368` when the journal is full

    Parameters
    ----------
    journal_bytes
        What the journal may hold; it forgets nothing and refuses more.
    output_bytes
        What the stream of output may hold; it loses the oldest.
    telemetry_bytes
        What the stream of telemetry may hold; it loses the oldest.
    artifact_bytes
        What the bucket of artefacts may hold; it refuses more.
    """
    from dtest.journal.jetstream import create_streams
    from dtest.journal.sizes import Sized, resize_streams
    from dtest.journal.streams import Limits, stream_configs
    from dtest.roles.session import session

    settings = call.settings()

    stated: dict[Sized, int | None] = {
        "journal": journal_bytes,
        "output": output_bytes,
        "telemetry": telemetry_bytes,
        "artifacts": artifact_bytes,
    }
    sizes = {sized: size for sized, size in stated.items() if size is not None}
    for sized, size in sizes.items():
        if size <= 0:
            message = f"{size} bytes are no size for {sized}"
            raise UsageError(message, hint="give a number above 0")

    async def create() -> dict[str, int]:
        async with session(settings, name="dtest migrate") as opened:
            wanted = Limits()
            wanted = replace(wanted, **{_FIELDS[sized]: size for sized, size in sizes.items()})
            await create_streams(opened.connection, opened.cell, wanted)
            return await resize_streams(opened.connection, opened.cell, sizes)

    resized = asyncio.run(create())
    names = [str(config["name"]) for config in stream_configs(settings.cell, Limits())]
    if call.json:
        output.as_json({"streams": names, "resized": resized})
    else:
        output.say(f"streams exist: {', '.join(names)}")
        for name, size in resized.items():
            output.say(f"  {name} holds up to {size} bytes now")
    return 0


def rebuild(*, database: Path | None = None, call: CallOptions = DEFAULTS) -> int:
    """Make the read model anew from the journal. Stop the API that owns the file first.

    Parameters
    ----------
    database
        The DuckDB file; by default that of the cell's local API.
    """
    settings = call.settings()
    running = read_stack_file(stack_path(settings))
    if running is not None and database is None:
        message = "the API of the running stack owns the read model"
        raise Conflict(message, hint="give --database FILE for a second one, or `dtest down` first")
    from dtest.journal.streams import journal_name
    from dtest.projections.projector import Projector, Source
    from dtest.projections.store import opened as opened_store
    from dtest.roles.session import session

    path = database or settings.state_dir / settings.cell / "read-model.duckdb"

    async def build() -> tuple[int, int]:
        with opened_store(path) as store:
            store.reset()
            async with session(settings, name="dtest rebuild") as opened:
                source = Source(opened.journal, journal_name(opened.cell))
                projector = Projector(store, source, cell=opened.cell)
                await projector.start()
                await projector.run(until=(await opened.journal.bounds()).last)
                return projector.seq, projector.projected

    seq, events = asyncio.run(build())
    if call.json:
        output.as_json({"database": str(path), "seq": seq, "events": events})
    else:
        output.say(f"{path}: {events} events up to {seq}")
    return 0
