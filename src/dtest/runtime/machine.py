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
