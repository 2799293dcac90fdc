"""Google's TPUs: chips of a Cloud TPU VM, and Edge TPUs on PCI.

Presence is all it checks; libtpu is not loaded. Edge TPUs on USB are not reported: before their
first use they do not name themselves. Not verified on hardware.
"""

from dtest.agents.probe.found import DEVICES_MAX, NAME_CHARS_MAX, Found, words
from dtest.agents.probe.machine import Machine
from dtest.events.worker import Device

_VENDOR = "0x1ae0"
"""Google's network and storage functions carry it too: only the chip's number tells a TPU."""
_CHIPS = {  # jax/_src/hardware_utils.py
    "0x0027": "TPU v2 or v3",
    "0x005e": "TPU v4",
    "0x0062": "TPU v5p",
    "0x0063": "TPU v5e",
    "0x006f": "TPU v6e",
    "0x0076": "TPU v7x",
}


def detect(machine: Machine) -> Found:
    """Return the TPU devices, those of the cloud first."""
    names, problems = _cloud(machine)
    for node in machine.paths("/dev/apex_*"):
        if machine.permits(node):
            names.append("Edge TPU")
        else:
            problems.append(words(f"no access to {node}: is this user in the group apex?"))
    devices = (Device("tpu", index, name) for index, name in enumerate(names[:DEVICES_MAX]))
    return Found(tuple(devices), tuple(problems))


def _cloud(machine: Machine) -> tuple[list[str], list[str]]:
    nodes = [*machine.paths("/dev/accel[0-9]*"), *machine.paths("/dev/vfio/[0-9]*")]
    chips = _chips(machine)
    if chips and not nodes:
        return [], [f"{len(chips)} TPU chip(s) on PCI, but no /dev/accel* or /dev/vfio/*"]
    if chips and not any(machine.permits(node) for node in nodes):
        return [], [words(f"{len(chips)} TPU chip(s), but no access to {nodes[0]}")]
    if chips:
        return chips, []
    accelerators = [node for node in nodes if _is_google(machine, node)]
    if accelerators:
        return ["Google TPU"] * len(accelerators), []
    named = machine.variable("TPU_NAME")
    if not named:
        return [], []
    kind = machine.variable("TPU_ACCELERATOR_TYPE")
    return [words(f"Google TPU {kind} (TPU_NAME={named})", NAME_CHARS_MAX)], []


def _chips(machine: Machine) -> list[str]:
    chips = []
    for path in machine.paths("/sys/bus/pci/devices/*/vendor"):
        if (machine.read(path) or "").strip() == _VENDOR:
            number = machine.read(path.removesuffix("vendor") + "device") or ""
            chips.append(_CHIPS.get(number.strip().lower(), ""))
    return [f"Google {chip}" for chip in chips if chip]


def _is_google(machine: Machine, node: str) -> bool:
    about = f"/sys/class/accel/{node.rpartition('/')[2]}/device/vendor"
    return (machine.read(about) or "").strip() == _VENDOR
