"""How a long-running process starts and stops: signals become a graceful end."""

import asyncio
import ctypes
import faulthandler
import gc
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_COLLECT_AFTER = (100_000, 50, 1_000)

STUCK_S_MAX = 60
"""A process that does nothing for so long says where it hangs, and ends; see ``kept_alive``."""
ALIVE_EVERY_S = 5.0


async def kept_alive() -> None:
    """Have the process end, with a trace of where it hangs, once this loop stops turning.

    Standbys take over from one that does not answer; this is for who hangs for good.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(STUCK_S_MAX, exit=True)
            await asyncio.sleep(ALIVE_EVERY_S)
    finally:
        faulthandler.cancel_dump_traceback_later()


def on_stop_signals(call: Callable[[], None]) -> None:
    """Have ``call`` called at SIGTERM and SIGINT instead of dying."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, call)


def stop_signal() -> asyncio.Future[int]:
    """Return the number of the first SIGTERM or SIGINT that comes, instead of dying of it."""
    loop = asyncio.get_running_loop()
    first: asyncio.Future[int] = loop.create_future()

    def note(number: int) -> None:
        if not first.done():
            first.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note, int(number))
    return first


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


@contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Hold back what ends this process while it starts a child that it has to end as well.

    Yields how to let go: here, as soon as the child is known, and in the child, which inherits
    the hold.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield release
    finally:
        release()


def end_with_parent() -> None:
    """In a new child: be terminated when its parent dies (Linux only)."""
    _at_parents_death(signal.SIGTERM)


def outlive_parent() -> None:
    """Take that back."""
    _at_parents_death(0)


def _at_parents_death(number: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def hold_many_objects() -> None:
    """Collect garbage seldom: for processes that hold a cell's state.

    With the default thresholds the collector walks every live task again and again, for a third
    of a replay's time; what is folded holds no cycles, so there is next to nothing to find.
    """
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
