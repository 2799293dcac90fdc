"""Server, desktop, laptop or mobile."""

import pytest

from dtest.agents.probe import chassis
from dtest.agents.probe.machine import Ended
from tests.agents.probe.recorded import Recorded

DMI = "/sys/class/dmi/id"
SUPPLY = "/sys/class/power_supply"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({f"{DMI}/chassis_type": "23\n"}, "server"),
        ({f"{DMI}/chassis_type": "3\n"}, "desktop"),
        ({f"{DMI}/chassis_type": "10\n"}, "laptop"),
        ({f"{DMI}/chassis_type": "30\n"}, "mobile"),
        ({f"{DMI}/chassis_type": "1\n"}, "server"),
        ({f"{DMI}/chassis_type": "3\n", f"{DMI}/product_name": "Virtual Machine\n"}, "server"),
        ({}, "server"),
        ({f"{DMI}/chassis_type": "what\n"}, "server"),
        ({f"{SUPPLY}/BAT0/type": "Battery\n", f"{SUPPLY}/AC/type": "Mains\n"}, "laptop"),
        ({f"{SUPPLY}/hid-1/type": "Battery\n", f"{SUPPLY}/hid-1/scope": "Device\n"}, "server"),
        ({"/system/build.prop": ""}, "mobile"),
    ],
)
def test_linux_is_told_by_its_chassis_or_battery(files: dict[str, str], expected: str) -> None:
    assert chassis.device_type(Recorded(files=files), {}) == expected


def test_android_is_mobile() -> None:
    assert chassis.device_type(Recorded(system="Android", arch="aarch64"), {}) == "mobile"


BATTERY = "Now drawing from 'AC Power'\n -InternalBattery-0 (id=1)\t100%; charged; present: true\n"


@pytest.mark.parametrize(
    ("model", "said", "expected"),
    [
        ("MacBookPro16,1", "", "laptop"),
        ("Mac15,9", BATTERY, "laptop"),
        ("Mac14,13", "Now drawing from 'AC Power'\n", "desktop"),
        ("VirtualMac2,1", "", "server"),
    ],
)
def test_a_mac_is_told_by_its_model_or_battery(model: str, said: str, expected: str) -> None:
    machine = Recorded(system="Darwin", commands={"pmset -g batt": Ended(0, said)})

    assert chassis.device_type(machine, {"hw.model": model}) == expected
