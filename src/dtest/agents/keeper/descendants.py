"""The processes that come of an attempt, however far they ran, and their end.

Everything an attempt starts carries its mark in the environment; what clears its environment and
leaves the session is only found as an orphan (Linux).
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path

MARK = "DTEST_ATTEMPT_KEY"
_ENTRY = f"{MARK}=".encode()
SWEEP_S_MAX = 2.0
"""A process that the kernel does not let die, as in a driver, must not hold up the others."""


def mark_of(key: str, directory: Path) -> str:
    """Return what an attempt's processes carry: no other cell's attempt has the same."""
    return f"{key}@{directory}"


def sweep(mark: str | None, roots: Container[int]) -> None:
    """Kill what left an attempt's session: orphans come to the keeper and carry its mark.

    Without a mark all orphans. ``roots`` are the attempts' own processes, which are reaped apart.
    """
    due = time.monotonic() + SWEEP_S_MAX
    while time.monotonic() < due:
        orphans = [pid for pid in children(os.getpid()) if pid not in roots]
        escaped = [pid for pid in orphans if mark is None or carries(pid, {mark})]
        if not escaped:
            return
        for pid in escaped:
            _kill_tree(pid)
        while not all([_reaped(pid) for pid in escaped]) and time.monotonic() < due:  # noqa: C419
            time.sleep(0.001)


def kill_marked(marks: Iterable[str]) -> None:
    """Kill all of this machine's processes that carry one of the marks (Linux only)."""
    wanted = set(marks)
    due = time.monotonic() + SWEEP_S_MAX
    while wanted and time.monotonic() < due:
        found = [pid for pid in _processes() if carries(pid, wanted)]
        if not found:
            return
        for pid in found:
            _kill_tree(pid)
        time.sleep(0.001)


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _kill_tree(pid: int) -> None:
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        waiting += children(each)
        try:
            os.kill(each, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def children(pid: int) -> list[int]:
    """Return the children of a process; none where they cannot be found (Linux only)."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as listing:
                found += [int(word) for word in listing.read().split()]
    except OSError:
        return found
    return found


def carries(pid: int, marks: set[str]) -> bool:
    """Say whether a process was started with one of the marks in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            entries = environment.read().split(b"\0")
    except OSError:
        return False
    return not marks.isdisjoint(
        os.fsdecode(entry[len(MARK) + 1 :]) for entry in entries if entry.startswith(_ENTRY)
    )


def signal_group(pid: int, number: int) -> bool:
    """Signal a whole process group; say whether it has any process that is still running."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot: pid and this name a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
