"""Main memory that this process can use: the machine's, or less where a control group says so.

It does not look at swap or at what is free now.
"""

import re
from collections.abc import Mapping

from dtest.agents.probe.cgroup import Quota
from dtest.agents.probe.machine import Machine
from dtest.agents.probe.quantity import whole

_MEM_TOTAL = re.compile(r"^MemTotal:\s*([0-9]{1,18})\s*kB", re.MULTILINE)


def detect(machine: Machine, sysctl: Mapping[str, str], quota: Quota) -> int | None:
    """Return bytes, none if nothing tells."""
    sizes = (_installed(machine, sysctl), quota.memory_bytes)
    return min((size for size in sizes if size is not None and size > 0), default=None)


def _installed(machine: Machine, sysctl: Mapping[str, str]) -> int | None:
    if sysctl:
        return whole(sysctl.get("hw.memsize"))
    matched = _MEM_TOTAL.search(machine.read("/proc/meminfo") or "")
    size_kib = whole(matched[1]) if matched else None
    return size_kib * 1024 if size_kib is not None else None
