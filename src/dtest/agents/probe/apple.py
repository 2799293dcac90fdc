"""The GPU of Apple silicon for MPS.

Its memory is the Mac's main memory, shared with the processor; Metal lets a process take a part
of it only. Discrete AMD GPUs of Intel Macs are not reported. Not verified on hardware.
"""

from collections.abc import Mapping

from dtest.agents.probe.found import NAME_CHARS_MAX, Found, words
from dtest.agents.probe.machine import Machine
from dtest.agents.probe.quantity import size_gb
from dtest.events.worker import Device


def detect(machine: Machine, sysctl: Mapping[str, str]) -> Found:
    """Return the MPS device of a Mac."""
    if machine.system != "Darwin":
        return Found()
    if machine.arch != "arm64":
        if sysctl.get("sysctl.proc_translated") == "1":
            return Found(problems=("Python runs under Rosetta: install an arm64 one to use mps",))
        return Found()
    if sysctl.get("hw.model", "").startswith("VirtualMac"):
        return Found(problems=("the GPU of a virtual Mac is no Apple GPU: not offered for mps",))
    name = words(sysctl.get("machdep.cpu.brand_string", ""), NAME_CHARS_MAX)
    return Found((Device("mps", 0, name, size_gb(sysctl.get("hw.memsize"), "B")),))
