"""Asks every probe and makes one capability of the answers; it never raises.

What a probe cannot read becomes a problem in words. The probes run side by side: the slowest one
decides how long it takes, a tool that hangs costs its own time limit.
"""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from dtest.agents.probe import (
    amd,
    apple,
    browsers,
    cgroup,
    chassis,
    cpu,
    memory,
    nvidia,
    openvino,
    qualcomm,
    sysctl,
    tpu,
)
from dtest.agents.probe.found import NAME_CHARS_MAX, Found, words
from dtest.agents.probe.machine import LocalMachine, Machine
from dtest.agents.probe.quantity import gigabytes
from dtest.events.worker import Browser, Capability

ARCH_CHARS_MAX = 50

T = TypeVar("T")


def detect(*, machine: Machine | None = None, work_dir: Path) -> Capability:
    """Return what this machine has; ``work_dir`` is where attempts will work."""
    seen: Machine = machine if machine is not None else LocalMachine()
    problems: list[str] = []

    def asked(what: str, otherwise: T, probe: Callable[[], T]) -> T:
        try:
            return probe()
        except Exception as error:  # noqa: BLE001 - a faulty probe must not keep the agent down
            problems.append(words(f"the {what} probe failed: {error!r}"))
            return otherwise

    facts: Mapping[str, str] = asked("sysctl", {}, lambda: sysctl.read(seen))
    nothing: tuple[tuple[Browser, ...], tuple[str, ...]] = ((), ())
    accelerators: dict[str, Callable[[], Found]] = {
        "NVIDIA": lambda: nvidia.detect(seen),
        "AMD": lambda: amd.detect(seen),
        "Apple": lambda: apple.detect(seen, facts),
        "Qualcomm": lambda: qualcomm.detect(seen),
        "OpenVINO": lambda: openvino.detect(seen),
        "TPU": lambda: tpu.detect(seen),
    }
    with ThreadPoolExecutor(len(accelerators) + 1, "probe") as threads:
        browsing = threads.submit(asked, "browser", nothing, lambda: browsers.detect(seen))
        asking = [
            threads.submit(asked, what, Found(), probe) for what, probe in accelerators.items()
        ]
        processor = asked("CPU", cpu.Processor(), lambda: cpu.detect(seen, facts))
        quota = asked("cgroup", cgroup.Quota(), lambda: cgroup.quota(seen))
        memory_bytes = asked("memory", None, lambda: memory.detect(seen, facts, quota))
        free_bytes = asked("disk", None, lambda: seen.free_bytes(str(work_dir)))
        kind = asked("chassis", "server", lambda: chassis.device_type(seen, facts))
        system = asked("system", "", lambda: _system(seen, facts))
        arch = asked("arch", "", lambda: seen.arch)
        usable = asked("affinity", None, seen.processors)
        found = [future.result() for future in asking]
        listed, unreadable = browsing.result()
    if memory_bytes is None:
        problems.append("nothing tells how much main memory there is: declare memory_gb")
    cpus = _cpus(usable or processor.logical or 1, quota.cpus)
    return Capability(
        slots=max(1, int(cpus)),
        cpus=cpus,
        memory_gb=gigabytes(memory_bytes or 0),
        disk_gb=gigabytes(free_bytes) if free_bytes is not None else None,
        cpu_model=processor.model,
        cpu_cores_physical=processor.cores_physical,
        cpu_flags=processor.flags,
        os=words(system, NAME_CHARS_MAX),
        arch=words(arch, ARCH_CHARS_MAX),
        device_type=kind,
        devices=tuple(device for each in found for device in each.devices),
        browsers=listed,
        problems=(*problems, *(text for each in found for text in each.problems), *unreadable),
    )


def _cpus(usable: int, quota: float | None) -> float:
    share = min(float(usable), quota) if quota is not None else float(usable)
    return max(math.floor(share * 1000) / 1000, 0.001)


def _system(machine: Machine, facts: Mapping[str, str]) -> str:
    if machine.system == "Darwin":
        return f"macOS {facts.get('kern.osproductversion', '')}"
    kernel = f"{machine.system} {machine.release}"
    for line in (machine.read("/etc/os-release") or "").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return f"{value.strip().strip(chr(34))}, {kernel}"
    return kernel
