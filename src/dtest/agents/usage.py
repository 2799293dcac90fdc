"""How much memory and processor a process tree, and the whole machine, uses."""

import psutil


class TreeUsage:
    """A process with all its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def memory_bytes(self) -> int:
        """Resident memory of the tree; 0 when it is gone."""
        try:
            root = psutil.Process(self._pid)
            members = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0
        total = 0
        for member in members:
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total


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
            "network_sent_bytes": float(network.bytes_sent) if network else 0.0,
            "network_received_bytes": float(network.bytes_recv) if network else 0.0,
        }
