"""What this machine is doing: its load, and which processes live."""

import psutil


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


class MachineUsage:
    """Figures that a beat carries."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        psutil.cpu_percent()  # the first reading only starts the measurement

    def figures(self) -> dict[str, float]:
        """Return utilisation as ratios from 0 to 1, sizes in bytes, counts since boot."""
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(self._directory)
        network = psutil.net_io_counters()
        return {
            "cpu_ratio": round(psutil.cpu_percent() / 100.0, 4),
            "memory_used_bytes": float(memory.total - memory.available),
            "memory_bytes": float(memory.total),
            "disk_free_bytes": float(disk.free),
            "disk_bytes": float(disk.total),
            "network_sent_bytes": float(network.bytes_sent),
            "network_received_bytes": float(network.bytes_recv),
        }
