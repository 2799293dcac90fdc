"""Qualcomm's Hexagon NPU for QNN: offered where its device node and QNN's library are present.

Presence is all it checks: neither the library's version nor that the NPU accepts a model, and not
the permissions of one node, as FastRPC uses whichever of several it may open.
Not verified on hardware.
"""

from dtest.agents.probe.found import DEVICES_MAX, NAME_CHARS_MAX, Found, words
from dtest.agents.probe.machine import Machine
from dtest.events.worker import Device

_LIBRARY = "libQnnHtp.so"
_FOLDERS = (
    "/usr/lib",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib",
    "/opt/qcom/*/lib/aarch64-*",
    "/opt/qairt/*/lib/aarch64-*",
    "/vendor/lib64",
    "/system/vendor/lib64",
)


def detect(machine: Machine) -> Found:
    """Return the QNN devices."""
    if machine.arch not in {"aarch64", "arm64"} or machine.system == "Darwin":
        return Found()
    nodes = [path for path in machine.paths("/dev/*cdsp*") if not path.endswith("-secure")]
    library = _library(machine)
    if not nodes:
        # The library alone is no sign of an NPU: the SDK is installed where models are prepared.
        return Found()
    if not library:
        return Found(
            problems=(f"{nodes[0]} is there, but no {_LIBRARY}: set QNN_SDK_ROOT to offer qnn",)
        )
    soc = words(machine.read("/sys/devices/soc0/machine") or "", NAME_CHARS_MAX // 2)
    name = f"Qualcomm Hexagon NPU ({soc})" if soc else "Qualcomm Hexagon NPU"
    return Found(tuple(Device("qnn", index, name) for index in range(len(nodes[:DEVICES_MAX]))))


def _library(machine: Machine) -> bool:
    root = machine.variable("QNN_SDK_ROOT")
    folders = (f"{root}/lib/aarch64-*", *_FOLDERS) if root else _FOLDERS
    return any(machine.paths(f"{folder}/{_LIBRARY}") for folder in folders)
