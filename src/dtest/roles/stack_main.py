"""Entry of the supervisor's process: a stack that stays until it is told to end.

``python -m dtest.roles.stack_main OPTIONS``, the options of ``run`` as one JSON object: the command
line has read and checked them.
"""

import asyncio
import json
import sys
from pathlib import Path

from dtest.errors import DtestError
from dtest.events.fields import CellId
from dtest.roles.forking import ForkServer
from dtest.roles.keeping import Keeping
from dtest.roles.stack import Stack
from dtest.roles.stack_options import StackOptions
from dtest.runtime.garbage import leave_quickly
from dtest.runtime.kept import CallerLock, Watched, remove_at_once
from dtest.runtime.lifecycle import on_stop_signals, outlive_parent, run_until_stopped
from dtest.runtime.logs import set_up_logs
from dtest.runtime.stack_file import last_words
from dtest.settings import load_settings


def run(  # noqa: PLR0913 - one option each
    *,
    cell: str,
    state_dir: str,
    workers: int,
    slots: int | None,
    simulate: str,
    simulate_slots: int,
    simulate_seconds: float,
    schedulers: int,
    port: int,
    listen: str,
    first: bool,
    nats: str | None,
    nodes: int | None,
    replicas: int | None,
    brokers_only: bool,
    throw_away: bool,
    kept: Watched | None,
    forks: ForkServer | None = None,
) -> None:
    """Run a stack until SIGTERM; one to throw away takes its state directory with it.

    One that is ``kept`` ends by itself when nobody wants it any more; see ``roles.keeping``.
    """
    leave_quickly()
    set_up_logs(role="stack", json_lines=True)
    address = None
    if nats is not None:
        from dtest.journal.connection import NatsAddress

        settings = load_settings()
        user, password = settings.get("nats_user"), settings.get("nats_password")
        address = NatsAddress(tuple(nats.split(",")), user, password, settings.get("nats_token"))
    options = StackOptions(
        CellId(cell),
        Path(state_dir),
        workers,
        slots,
        simulate,
        simulate_slots=simulate_slots,
        simulate_seconds=simulate_seconds,
        schedulers=schedulers,
        api_port=port,
        host=listen,
        first=first,
        nats=address,
        nodes=nodes,
        replicas=replicas,
        brokers_only=brokers_only,
    )
    stack = Stack(options, forks)
    if kept is not None:
        outlive_parent()
    keeping = None if kept is None else Keeping(CallerLock(options.state_dir), kept)
    try:
        asyncio.run(serve(stack, leave_nothing=throw_away, keeping=keeping))
    except DtestError as error:
        sys.stderr.write(f"{last_words(error)}\n")
        sys.exit(error.exit_code)
    if keeping is not None:
        remove_at_once(options.state_dir)
    elif throw_away:
        stack.remove()


async def serve(
    stack: Stack, *, leave_nothing: bool = False, keeping: Keeping | None = None
) -> None:
    """Keep a stack up until a signal; it may come while the stack still starts."""
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    main = asyncio.get_running_loop().create_task(_run(stack, keeping))
    try:
        await run_until_stopped(main, stop)
    finally:
        if keeping is not None:
            keeping.lock.take()  # whoever calls from now on makes a cell of its own
        await stack.stop(leave_nothing=leave_nothing)


async def _run(stack: Stack, keeping: Keeping | None) -> None:
    await stack.start()
    if keeping is None:
        await stack.supervise()
        return
    async with asyncio.TaskGroup() as group:
        supervising = group.create_task(stack.supervise())
        await keeping.until_unwanted()
        supervising.cancel()


if __name__ == "__main__":
    run(**json.loads(sys.argv[1]))
