"""``dtest server``: single parts of a cell, for service managers and operators."""

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import Conflict, UsageError
from dtest.runtime.stack_file import read_stack_file
from dtest.settings import stack_path
from dtest.wording import counted


def scheduler(*, call: CallOptions = DEFAULTS) -> int:
    """Run a scheduler in the foreground; it leads the cell until another one takes over.

    Example: `dtest server scheduler --nats nats://10.0.0.5:4222`
    """
    from dtest.roles.scheduler import serve
    from dtest.runtime.logs import set_up_logs

    set_up_logs(role="scheduler", json_lines=True)
    asyncio.run(serve(call.settings()))
    return 0


def conductor(*, call: CallOptions = DEFAULTS) -> int:
    """Run a conductor in the foreground; it conducts suites until another one takes over.

    Example: `dtest server conductor --nats nats://10.0.0.5:4222`
    """
    from dtest.roles.conductor import serve
    from dtest.runtime.logs import set_up_logs

    set_up_logs(role="conductor", json_lines=True)
    asyncio.run(serve(call.settings()))
    return 0


def api(*, database: Path | None = None, call: CallOptions = DEFAULTS) -> int:
    """Run the HTTP API with its projector in the foreground, at the address of --api.

    Example: `dtest server api --api http://127.0.0.1:8080`

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


def migrate(  # noqa: PLR0913 - one option each
    *,
    check: Annotated[bool, Parameter(negative="")] = False,
    replicas: int | None = None,
    journal_bytes: int | None = None,
    output_bytes: int | None = None,
    telemetry_bytes: int | None = None,
    artifact_bytes: int | None = None,
    checkpoint_bytes: int | None = None,
    queue_bytes: int | None = None,
    workspace_bytes: int | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Create the cell's streams where they are missing, and mend those that differ.

    Example: `dtest server migrate --check`

    Exit code 0: all is as it should be; 1: `--check` found a difference; 2: one stays, because
    the server does not allow the change, or because it would cost messages.

    Parameters
    ----------
    check
        Compare only, change nothing.
    replicas
        How many servers of a cluster keep each stream: 1, 3 or 5. By default as many as keep the
        journal now; for a new cell the setting `replicas`, else 3.
    journal_bytes
        What the journal may grow to; by default as it is, 16 GiB for a new one. So the others.
    output_bytes
        What the output of tasks may grow to.
    telemetry_bytes
        What the telemetry may grow to.
    artifact_bytes
        What the artefacts may grow to.
    checkpoint_bytes
        What the checkpoints may grow to.
    queue_bytes
        What the queues of tests may grow to.
    workspace_bytes
        What the trees that clients shipped may grow to.
    """
    from dtest.cli.streams import migrated
    from dtest.journal.migration import Wanted

    sizes = {
        "--journal-bytes": journal_bytes,
        "--output-bytes": output_bytes,
        "--telemetry-bytes": telemetry_bytes,
        "--artifact-bytes": artifact_bytes,
        "--checkpoint-bytes": checkpoint_bytes,
        "--queue-bytes": queue_bytes,
        "--workspace-bytes": workspace_bytes,
    }
    for option, size in sizes.items():
        if size is not None and size < 1:
            message = f"{option} is {size}; at least 1 is needed"
            raise UsageError(message)
    settings = call.settings()
    wanted = Wanted(replicas or settings.replicas, *sizes.values())
    return migrated(settings, wanted, check=check, as_json=call.json)


def rebuild(*, database: Path | None = None, call: CallOptions = DEFAULTS) -> int:
    """Make the read model anew from the journal. Stop the API that owns the file first.

    Example: `dtest server rebuild`

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
        output.say(f"{path}: {counted(events, 'event')} up to {seq}")
    return 0
