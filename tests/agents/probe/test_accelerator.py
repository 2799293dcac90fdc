"""MPS, QNN, OpenVINO and TPU: what must be present before a device is offered."""

import pytest

from dtest.agents.probe import apple, openvino, qualcomm, sysctl, tpu
from dtest.agents.probe.found import Found
from dtest.events.worker import Device
from tests.agents.probe.recorded import Recorded, fixture

SILICON = sysctl.parse(fixture("sysctl_apple_silicon.txt"))
INTEL = sysctl.parse(fixture("sysctl_intel_mac.txt"))
MAC = Recorded(system="Darwin", arch="arm64")


def test_apple_silicon_offers_mps_with_the_memory_of_the_mac() -> None:
    found = apple.detect(MAC, SILICON)

    assert found == Found((Device("mps", 0, "Apple M3 Max", 137.439),))


def test_an_intel_mac_offers_no_mps() -> None:
    assert apple.detect(Recorded(system="Darwin"), INTEL) == Found()


def test_no_mac_offers_no_mps() -> None:
    assert apple.detect(Recorded(arch="arm64"), {}) == Found()


@pytest.mark.parametrize(
    ("arch", "changes", "expected"),
    [
        ("x86_64", {"sysctl.proc_translated": "1"}, "Rosetta"),
        ("arm64", {"hw.model": "VirtualMac2,1"}, "virtual Mac"),
    ],
)
def test_a_mac_that_only_looks_like_one_is_a_problem(
    arch: str, changes: dict[str, str], expected: str
) -> None:
    found = apple.detect(Recorded(system="Darwin", arch=arch), {**SILICON, **changes})

    assert found.devices == ()
    assert expected in found.problems[0]


LIBRARY = "/usr/lib/libQnnHtp.so"
CDSP = "/dev/fastrpc-cdsp"


@pytest.mark.parametrize(
    ("arch", "nodes", "variables", "devices", "problems"),
    [
        ("aarch64", {CDSP, f"{CDSP}-secure", LIBRARY}, {}, 1, 0),
        ("aarch64", {CDSP, f"{CDSP}1", LIBRARY}, {}, 2, 0),
        (
            "aarch64",
            {CDSP, "/opt/sdk/lib/aarch64-oe-linux-gcc11.2/libQnnHtp.so"},
            {"QNN_SDK_ROOT": "/opt/sdk"},
            1,
            0,
        ),
        ("aarch64", {CDSP}, {}, 0, 1),
        ("aarch64", {LIBRARY}, {}, 0, 0),
        ("aarch64", set(), {}, 0, 0),
        ("x86_64", {CDSP, LIBRARY}, {}, 0, 0),
    ],
)
def test_qnn_needs_its_node_and_its_library(
    arch: str, nodes: set[str], variables: dict[str, str], devices: int, problems: int
) -> None:
    found = qualcomm.detect(Recorded(arch=arch, nodes=frozenset(nodes), variables=variables))

    assert len(found.devices) == devices
    assert len(found.problems) == problems


def test_an_npu_names_its_chip() -> None:
    seen = Recorded(
        arch="aarch64",
        nodes=frozenset({CDSP, LIBRARY}),
        files={"/sys/devices/soc0/machine": "QCS6490\n"},
    )

    assert qualcomm.detect(seen).devices == (Device("qnn", 0, "Qualcomm Hexagon NPU (QCS6490)"),)


INTEL_NODES = frozenset({"/dev/dri/renderD128", "/dev/accel/accel0"})
INTEL_FILES = {
    "/sys/class/drm/renderD128/device/vendor": "0x8086\n",
    "/sys/class/drm/renderD128/device/uevent": "DRIVER=i915\nPCI_CLASS=30000\nPCI_ID=8086:7D55\n",
    "/sys/class/accel/accel0/device/vendor": "0x8086\n",
    "/sys/class/accel/accel0/device/uevent": "DRIVER=intel_vpu\nPCI_ID=8086:7D1D\n",
}


@pytest.mark.parametrize(
    ("modules", "more"), [({"openvino"}, set()), (set(), {"/opt/intel/openvino_2025"})]
)
def test_openvino_offers_gpus_and_then_npus(modules: set[str], more: set[str]) -> None:
    seen = Recorded(nodes=INTEL_NODES | more, files=INTEL_FILES, modules=frozenset(modules))

    assert openvino.detect(seen) == Found(
        (
            Device("openvino", 0, "Intel GPU 8086:7D55", driver="i915"),
            Device("openvino", 1, "Intel NPU 8086:7D1D", driver="intel_vpu"),
        )
    )


def test_an_intel_gpu_without_openvino_is_nothing() -> None:
    assert openvino.detect(Recorded(nodes=INTEL_NODES, files=INTEL_FILES)) == Found()


def test_the_gpu_of_another_maker_is_nothing_to_openvino() -> None:
    other = {path: text.replace("0x8086", "0x1002") for path, text in INTEL_FILES.items()}
    seen = Recorded(nodes=INTEL_NODES, files=other, modules=frozenset({"openvino"}))

    assert openvino.detect(seen) == Found()


def test_a_node_without_access_is_a_problem() -> None:
    seen = Recorded(
        nodes=INTEL_NODES,
        files=INTEL_FILES,
        modules=frozenset({"openvino"}),
        refused=frozenset({"/dev/dri/renderD128"}),
    )

    found = openvino.detect(seen)

    assert [device.name for device in found.devices] == ["Intel NPU 8086:7D1D"]
    assert "no access to /dev/dri/renderD128" in found.problems[0]


def pci(*numbers: str, vendor: str = "0x1ae0") -> dict[str, str]:
    files = {}
    for position, number in enumerate(numbers):
        files[f"/sys/bus/pci/devices/0000:00:{position:02x}.0/vendor"] = f"{vendor}\n"
        files[f"/sys/bus/pci/devices/0000:00:{position:02x}.0/device"] = f"{number}\n"
    return files


@pytest.mark.parametrize(
    ("seen", "names", "problem"),
    [
        (Recorded(), [], ""),
        (Recorded(files=pci("0x0042")), [], ""),  # Google's virtual network card
        (
            Recorded(files=pci("0x005e", "0x005e", "0x0042"), nodes=frozenset({"/dev/accel0"})),
            ["Google TPU v4", "Google TPU v4"],
            "",
        ),
        (
            Recorded(files=pci("0x0063"), nodes=frozenset({"/dev/vfio/0"})),
            ["Google TPU v5e"],
            "",
        ),
        (Recorded(files=pci("0x0063")), [], "no /dev/accel*"),
        (
            Recorded(
                files=pci("0x005e"),
                nodes=frozenset({"/dev/accel0"}),
                refused=frozenset({"/dev/accel0"}),
            ),
            [],
            "no access",
        ),
        (
            Recorded(
                files={"/sys/class/accel/accel0/device/vendor": "0x1ae0\n"},
                nodes=frozenset({"/dev/accel0"}),
            ),
            ["Google TPU"],
            "",
        ),
        (
            Recorded(variables={"TPU_NAME": "lab", "TPU_ACCELERATOR_TYPE": "v5litepod-8"}),
            ["Google TPU v5litepod-8 (TPU_NAME=lab)"],
            "",
        ),
        (Recorded(nodes=frozenset({"/dev/apex_0"})), ["Edge TPU"], ""),
        (
            Recorded(nodes=frozenset({"/dev/apex_0"}), refused=frozenset({"/dev/apex_0"})),
            [],
            "group apex",
        ),
    ],
)
def test_a_tpu_is_told_by_its_chip_or_its_name(
    seen: Recorded, names: list[str], problem: str
) -> None:
    found = tpu.detect(seen)

    assert [device.name for device in found.devices] == names
    assert [device.index for device in found.devices] == list(range(len(names)))
    assert problem in " ".join(found.problems)
    assert bool(found.problems) == bool(problem)
