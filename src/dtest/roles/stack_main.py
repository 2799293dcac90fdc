"""Entry of the supervisor's process: a stack that stays until it is told to end."""

import asyncio
from pathlib import Path

from cyclopts import App

from dtest.events.fields import CellId
from dtest.journal.connection import NatsAddress
from dtest.roles.stack import Stack, StackOptions
from dtest.runtime.lifecycle import on_stop_signals, run_until_stopped
from dtest.runtime.logs import set_up_logs
from dtest.settings import load_settings

app = App(name="dtest-stack")


@app.default
def run(  # noqa: PLR0913 - one option each
    *,
    cell: str,
    state_dir: Path,
    workers: int = 2,
    slots: int | None = None,
    simulate: str = "",
    simulate_slots: int = 4,
    simulate_seconds: float = 0.1,
    port: int = 0,
    nats: str | None = None,
) -> None:
    """Run a stack until SIGTERM."""
    set_up_logs(role="stack", json_lines=True)
    address = None
    if nats is not None:
        settings = load_settings()
        user, password = settings.get("nats_user"), settings.get("nats_password")
        address = NatsAddress(tuple(nats.split(",")), user, password, settings.get("nats_token"))
    options = StackOptions(
        CellId(cell),
        state_dir,
        workers,
        slots,
        simulate,
        simulate_slots=simulate_slots,
        simulate_seconds=simulate_seconds,
        api_port=port,
        nats=address,
    )
    asyncio.run(serve(Stack(options)))


async def serve(stack: Stack) -> None:
    """Keep a stack up until a signal."""
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    await stack.start()
    try:
        async with asyncio.TaskGroup() as group:
            main = group.create_task(stack.supervise())
            await run_until_stopped(main, stop)
    finally:
        await stack.stop()


if __name__ == "__main__":
    app()
