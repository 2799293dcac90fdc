"""What kind of machine this is: server, desktop, laptop or mobile.

A machine that says nothing of its chassis and has no battery counts as a server: that is what
virtual machines and containers look like. Android and macOS: Not verified on hardware.
"""

from collections.abc import Mapping

from dtest.agents.probe.machine import Ended, Machine
from dtest.agents.probe.quantity import whole

LIMIT_S = 5.0
_DMI = "/sys/class/dmi/id"
# SMBIOS specification, 7.4.1: system enclosure or chassis types.
_DESKTOP = frozenset({3, 4, 5, 6, 7, 13, 15, 16, 24, 35, 36})
_LAPTOP = frozenset({8, 9, 10, 12, 14, 31, 32})
_MOBILE = frozenset({11, 30})
_SERVER = frozenset({17, 23, 25, 28, 29})
_VIRTUAL = "Virtual Machine"
"""Hyper-V's product name: its guests, those in Azure too, claim the chassis of a desktop."""


def device_type(machine: Machine, sysctl: Mapping[str, str]) -> str:
    """Return ``server``, ``desktop``, ``laptop`` or ``mobile``."""
    if machine.system == "Android" or machine.read("/system/build.prop") is not None:
        return "mobile"
    if sysctl:
        return _of_mac(machine, sysctl)
    kind = whole(machine.read(f"{_DMI}/chassis_type"))
    if kind in _SERVER or (machine.read(f"{_DMI}/product_name") or "").strip() == _VIRTUAL:
        return "server"
    if kind in _MOBILE:
        return "mobile"
    if kind in _LAPTOP:
        return "laptop"
    if kind in _DESKTOP:
        return "desktop"
    return "laptop" if _has_battery(machine) else "server"


def _of_mac(machine: Machine, sysctl: Mapping[str, str]) -> str:
    model = sysctl.get("hw.model", "")
    if model.startswith(("Xserve", "VirtualMac", "VMware", "Parallels")):
        return "server"
    if model.startswith("MacBook"):
        return "laptop"
    # Models since 2022 are all "Mac15,3": only the battery tells.
    answer = machine.run("/usr/bin/pmset", "-g", "batt", limit_s=LIMIT_S)
    battery = isinstance(answer, Ended) and "InternalBattery" in answer.output
    return "laptop" if battery else "desktop"


def _has_battery(machine: Machine) -> bool:
    for path in machine.paths("/sys/class/power_supply/*/type"):
        if (machine.read(path) or "").strip() != "Battery":
            continue
        scope = (machine.read(path.removesuffix("type") + "scope") or "").strip()
        if scope != "Device":  # the battery of a mouse or a headset
            return True
    return False
