"""How much of the machine the control groups of this process leave to it.

Reads quotas of version 1 and 2 at their usual mount points; weights and reservations do not
count, nor does ``memory.high``, which slows down but does not end a process.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dtest.agents.probe.machine import Machine
from dtest.agents.probe.quantity import whole

_ROOT = "/sys/fs/cgroup"
LINES_MAX = 64
DEPTH_MAX = 32


@dataclass(frozen=True, slots=True)
class Quota:
    """Upper limits; none where there is none."""

    cpus: float | None = None
    memory_bytes: int | None = None


def quota(machine: Machine) -> Quota:
    """Return the tightest limits from the process's groups up to the root."""
    cpus: list[float | None] = []
    memory: list[int | None] = []
    for line in (machine.read("/proc/self/cgroup") or "").splitlines()[:LINES_MAX]:
        names, colon, path = line.partition(":")[2].partition(":")
        if not colon:
            continue
        controllers = names.split(",")
        if not names:
            for group in _upwards(_ROOT, path):
                cpus.append(_cpu_max(machine.read(f"{group}/cpu.max")))
                memory.append(_above_zero(machine.read(f"{group}/memory.max")))
        if "cpu" in controllers:
            # `cpu` is as a rule a link to `cpu,cpuacct`. Within a container the path is the
            # host's while its own group is the mount point: the way up ends there.
            cpus.extend(_cfs_quota(machine, group) for group in _upwards(f"{_ROOT}/cpu", path))
        if "memory" in controllers:
            memory.extend(
                _above_zero(machine.read(f"{group}/memory.limit_in_bytes"))
                for group in _upwards(f"{_ROOT}/memory", path)
            )
    return Quota(
        min((limit for limit in cpus if limit is not None), default=None),
        min((limit for limit in memory if limit is not None), default=None),
    )


def _upwards(root: str, path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part not in {"", ".", ".."}][:DEPTH_MAX]
    for length in range(len(parts), -1, -1):
        yield "/".join((root, *parts[:length]))


def _cpu_max(text: str | None) -> float | None:
    limit, _, period = (text or "").strip().partition(" ")
    return _ratio(whole(limit), whole(period))


def _cfs_quota(machine: Machine, group: str) -> float | None:
    limit = whole(machine.read(f"{group}/cpu.cfs_quota_us"))
    return _ratio(limit, whole(machine.read(f"{group}/cpu.cfs_period_us")))


def _ratio(limit_us: int | None, period_us: int | None) -> float | None:
    if not limit_us or not period_us or limit_us < 0 or period_us < 0:
        return None
    return limit_us / period_us


def _above_zero(text: str | None) -> int | None:
    limit = whole(text)  # "max" is no number; version 1 says "none" with one beyond INTEGER_MAX
    return limit if limit is not None and limit > 0 else None
