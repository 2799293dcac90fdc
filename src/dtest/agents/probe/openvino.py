"""Intel GPUs and NPUs for OpenVINO: offered where a device node and OpenVINO itself are present.

OpenVINO is not imported: its presence is that of this Python, or of /opt/intel, and tasks may run
in another one. An Intel GPU without OpenVINO is nothing worth a note. Not verified on hardware.
"""

from dtest.agents.probe.found import DEVICES_MAX, DRIVER_CHARS_MAX, Found, words
from dtest.agents.probe.machine import Machine
from dtest.events.worker import Device

_VENDOR = "0x8086"
_NODES = (
    ("GPU", "/dev/dri/renderD*", "/sys/class/drm"),  # codespell:ignore renderd
    ("NPU", "/dev/accel/accel*", "/sys/class/accel"),
)


def detect(machine: Machine) -> Found:
    """Return the OpenVINO devices, GPUs first."""
    if not (machine.has_module("openvino") or machine.paths("/opt/intel/openvino*")):
        return Found()
    devices: list[Device] = []
    problems: list[str] = []
    for what, pattern, folder in _NODES:
        for node in machine.paths(pattern)[:DEVICES_MAX]:
            about = f"{folder}/{node.rpartition('/')[2]}/device"
            if (machine.read(f"{about}/vendor") or "").strip() != _VENDOR:
                continue
            if not machine.permits(node):
                problems.append(words(f"no access to {node}: is this user in the group render?"))
                continue
            told = _uevent(machine.read(f"{about}/uevent") or "")
            name = words(f"Intel {what} {told.get('PCI_ID', '')}", DRIVER_CHARS_MAX)
            driver = words(told.get("DRIVER", ""), DRIVER_CHARS_MAX)
            devices.append(Device("openvino", len(devices), name, driver=driver))
    return Found(tuple(devices), tuple(problems))


def _uevent(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, sign, value in pairs if sign}
