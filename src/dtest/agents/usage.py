"""How much memory a process tree uses."""

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
