"""How a long-running process starts and stops: signals become a graceful end."""

import asyncio
import signal
from collections.abc import Callable


def on_stop_signals(call: Callable[[], None]) -> None:
    """Have ``call`` called at SIGTERM and SIGINT instead of dying."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, call)


async def run_until_stopped(main: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Run a task until it ends or ``stop`` is set, then cancel it; its own error is raised."""
    stopping = asyncio.ensure_future(stop.wait())  # noqa: TID251 - joined right below
    try:
        await asyncio.wait({main, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not main.done():
            main.cancel()
        await asyncio.wait({main})
    if not main.cancelled():
        main.result()
