"""What this machine is doing: its load, and which processes live."""

import os
import resource
import socket
from contextlib import suppress
from pathlib import Path

import psutil

CPU_S_MIN = 0.1
"""Of all processors together, between two measurements of their load."""


def process_started_at(pid: int) -> float | None:
    """Return when a process started, none if there is none.

    One that has ended and that nobody has waited for counts as none: process 1 of a container
    often waits for nobody.
    """
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def descendants_of(pid: int) -> list[int]:
    """Return the children of a process, and theirs."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def processes_with(text: str) -> list[int]:
    """Return the processes that were started with a text in their arguments or environment.

    Other users' processes are seen by their arguments only; the calling one is left out.
    """
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "environ", "status"])
        if process.pid != psutil.Process().pid
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and any(
            text in word
            for word in (
                *(process.info["cmdline"] or ()),
                *(process.info["environ"] or {}).values(),
            )
        )
    ]


def command_of(pid: int) -> str:
    """Return the command line of a process; empty if it has ended."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def conditions() -> list[object]:
    """Return what processes inherit besides their environment: limits, processors, and so on."""
    mask = os.umask(0o077)
    os.umask(mask)
    kinds = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return [
        mask,
        psutil.Process().nice(),
        sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        [(name, resource.getrlimit(getattr(resource, name))) for name in kinds],
        os.getgroups(),
        _cgroup(),
    ]


def _cgroup() -> str:
    try:
        return Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:
        return ""


def namespace() -> list[str]:
    """Return what process numbers belong to: the machine, its start, the namespace of processes."""
    found = [socket.gethostname()]
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        found.append(str(Path("/proc/self/ns/pid").readlink()))
    return found


class MachineUsage:
    """Figures that a beat carries."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._cpu_ratio = 0.0
        self._cpu_s = _cpu_seconds()

    def _busy(self) -> float:
        """Return how busy the processors were since the last time that was long enough ago."""
        busy_s, all_s = _cpu_seconds()
        before_s, all_before_s = self._cpu_s
        if all_s - all_before_s >= CPU_S_MIN:
            part = (busy_s - before_s) / (all_s - all_before_s)
            self._cpu_ratio, self._cpu_s = round(min(1.0, max(0.0, part)), 4), (busy_s, all_s)
        return self._cpu_ratio

    def figures(self) -> dict[str, float]:
        """Return utilisation as ratios from 0 to 1, sizes in bytes, counts since boot."""
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(self._directory)
        network = psutil.net_io_counters()
        return {
            "cpu_ratio": self._busy(),
            "memory_used_bytes": float(memory.total - memory.available),
            "memory_bytes": float(memory.total),
            "disk_free_bytes": float(disk.free),
            "disk_bytes": float(disk.total),
            "network_sent_bytes": float(network.bytes_sent),
            "network_received_bytes": float(network.bytes_recv),
        }


def _cpu_seconds() -> tuple[float, float]:
    """Return for how long the processors were busy since the machine started, and for how long."""
    times = psutil.cpu_times()
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    # Guests' time is counted among their users'.
    all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return all_s - idle_s, all_s
