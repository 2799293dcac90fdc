"""What a supervisor that was killed leaves running: noted while it lives, ended by the next one.

On Linux the kernel tells such children to end, but they take their time; elsewhere nobody does.
"""

import asyncio
import json
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dtest.runtime.machine import process_started_at

KILLED_S_MAX = 5.0
LOOK_EVERY_S = 0.05
SAME_START_S = 1.0
"""A start is worked out from the time since boot, which the clock's corrections move."""


def note_processes(path: Path, pids: Iterable[int]) -> None:
    """Write down the processes that are there now, each by its number and start."""
    noted = [(pid, at) for pid in pids if (at := process_started_at(pid)) is not None]
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(noted), encoding="utf-8")
    unfinished.replace(path)


async def end_remains(path: Path, *, wait_s: float) -> None:
    """End the noted processes that still run: TERM, and KILL for those that are left then."""
    for number, patience_s in ((signal.SIGTERM, wait_s), (signal.SIGKILL, KILLED_S_MAX)):
        for pid in _alive(path):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while _alive(path):  # noqa: ASYNC110 - the end of a process is told to its parent only
                    await asyncio.sleep(LOOK_EVERY_S)


def _alive(path: Path) -> list[int]:
    try:
        noted = [(int(pid), float(at)) for pid, at in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):
        return []
    return [pid for pid, started_at in noted if _is_the_one(pid, started_at)]


def _is_the_one(pid: int, noted_at: float) -> bool:
    started_at = process_started_at(pid)
    return started_at is not None and abs(started_at - noted_at) <= SAME_START_S
