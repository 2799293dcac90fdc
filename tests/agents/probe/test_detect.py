"""A whole machine becomes one capability, whatever its tools print."""

import json
import time
import zlib
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dtest.agents.probe import amd, detect, nvidia, sysctl
from dtest.agents.probe.machine import Answer, Ended, TimedOut
from dtest.events.worker import Browser, Capability, Device
from tests.agents.probe.recorded import FIXTURES, Recorded, fixture

WORK = Path("/work")
FORM = TypeAdapter(Capability)
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FIXTURES.iterdir())}


def sound(capability: Capability) -> bool:
    """No probe gave up, and the event can be recorded."""
    failed = [text for text in capability.problems if "probe failed" in text]
    assert not failed, failed
    return FORM.validate_json(FORM.dump_json(capability)) == capability


def test_a_linux_server_with_amd_gpus_and_a_browser() -> None:
    machine = Recorded(
        files={
            "/proc/cpuinfo": fixture("cpuinfo_x86_64.txt"),
            "/proc/meminfo": fixture("meminfo.txt"),
            "/proc/self/cgroup": "0::/\n",
            "/sys/fs/cgroup/cpu.max": "250000 100000\n",
            "/sys/class/dmi/id/chassis_type": "23\n",
            "/etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        },
        commands={
            "amd-smi static": Ended(0, fixture("amd_smi_static_rocm63.json")),
            "chromium --version": Ended(0, "Chromium 129.0.6668.89\n"),
            "firefox --version": TimedOut(5.0),
        },
    )

    capability = detect(machine=machine, work_dir=WORK)

    assert sound(capability)
    assert (capability.slots, capability.cpus) == (2, 2.5)
    assert (capability.memory_gb, capability.disk_gb) == (67.423, 500.0)
    assert capability.os == "Debian GNU/Linux 12 (bookworm), Linux 6.1.0"
    assert (capability.arch, capability.device_type) == ("x86_64", "server")
    assert capability.cpu_cores_physical == 2
    assert [device.device_id for device in capability.devices] == ["rocm:0", "rocm:1"]
    assert capability.browsers == (Browser("chromium", "129.0.6668.89", "/usr/bin/chromium"),)
    assert capability.problems == ("firefox (/usr/bin/firefox) gave no answer in 5 s",)
    assert capability.declared == ()


def test_a_mac_of_apple_silicon() -> None:
    machine = Recorded(
        system="Darwin",
        release="23.6.0",
        arch="arm64",
        usable=16,
        commands={"sysctl hw": Ended(1, fixture("sysctl_apple_silicon.txt"), "unknown oid\n")},
    )

    capability = detect(machine=machine, work_dir=WORK)

    assert sound(capability)
    assert capability.os == "macOS 14.6.1"
    assert capability.memory_gb == 137.439
    assert capability.slots == 16
    assert capability.cpu_model == "Apple M3 Max"
    assert capability.devices == (Device("mps", 0, "Apple M3 Max", 137.439),)
    assert capability.device_type == "desktop"
    assert capability.problems == ()


def test_a_machine_that_tells_nothing() -> None:
    capability = detect(machine=Recorded(usable=None, free=None), work_dir=WORK)

    assert sound(capability)
    assert (capability.slots, capability.cpus, capability.disk_gb) == (1, 1.0, None)
    assert (capability.devices, capability.browsers) == ((), ())
    assert capability.problems == (
        "nothing tells how much main memory there is: declare memory_gb",
    )


@pytest.mark.parametrize(("cpus", "slots"), [("50000", 1), ("100000", 1), ("399999", 3)])
def test_slots_are_whole_processors_and_at_least_one(cpus: str, slots: int) -> None:
    files = {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": f"{cpus} 100000\n"}

    assert detect(machine=Recorded(files=files), work_dir=WORK).slots == slots


def test_a_faulty_probe_is_a_problem_and_the_others_stay() -> None:
    class Faulty(Recorded):
        def load_nvml(self) -> ModuleType | None:
            message = "unexpected"
            raise RuntimeError(message)

    machine = Faulty(files={"/proc/meminfo": fixture("meminfo.txt")})

    capability = detect(machine=machine, work_dir=WORK)

    assert capability.problems == ("the NVIDIA probe failed: RuntimeError('unexpected')",)
    assert capability.memory_gb == 67.423


def test_this_machine_is_told_in_time(tmp_path: Path) -> None:
    durations_s = []
    for _ in range(3):  # the best one: other tests may run beside this one
        started = time.monotonic()
        capability = detect(work_dir=tmp_path)
        durations_s.append(time.monotonic() - started)

    assert sound(capability)
    assert capability.memory_gb > 0
    assert capability.cpus > 0
    assert (capability.disk_gb or 0) > 0
    if not capability.devices and not capability.problems:
        assert min(durations_s) < 1.5


# --- whatever the tools print ---------------------------------------------------------------

cut = st.sampled_from(sorted(TEXTS)).flatmap(
    lambda name: st.integers(0, len(TEXTS[name])).map(lambda end: TEXTS[name][:end])
)
letters = st.one_of(
    st.text(st.characters(), max_size=20), st.sampled_from(["odd\ud800\x07", "nan"])
)
huge = st.sampled_from([10**400, -(10**30), 2**62])
leaf = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), letters, huge)
KEYS = (
    *("gpu_data", "gpu", "asic", "market_name", "vram", "size", "value", "unit", "driver"),
    *("version", "mem_usage", "total_vram", "hip_id", "vram_size_mb"),
)
odd_json = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    ),
    max_leaves=12,
).map(json.dumps)
number = st.integers().map(str)
anything = st.one_of(
    st.text(st.characters(), max_size=200),
    cut,
    odd_json,
    number,
    st.builds("{} {}".format, number, number),
    st.builds("0::/{}\n".format, st.text(max_size=10)),
    st.builds("index, name, memory.total [MiB]\n{}, {}, {}\n".format, number, st.text(), number),
    st.sampled_from(["0x8086\n", "0x1002\n", "0x1ae0\n", "0x005e\n", "Battery\n", "9" * 5000]),
)
answers = st.one_of(
    st.none(),
    st.just(TimedOut(5.0)),
    st.builds(Ended, st.integers(-9, 255), anything, anything),
)


class Chaos(Recorded):
    """Every file and every command has one of the texts drawn; every tool is installed."""

    __slots__ = ("drawn", "texts")

    def __init__(self, system: str, arch: str, drawn: list[Answer], texts: list[str]) -> None:
        super().__init__(system, "1.0", arch, modules=frozenset({"openvino"}))
        object.__setattr__(self, "drawn", drawn)
        object.__setattr__(self, "texts", texts)
        self.drawn: list[Answer]
        self.texts: list[str]

    def run(self, *argv: str, limit_s: float) -> Answer:
        return self.drawn[zlib.crc32(" ".join(argv).encode()) % len(self.drawn)]

    def read(self, path: str) -> str | None:
        key = zlib.crc32(path.encode("utf-8", "surrogatepass"))
        return self.texts[key % len(self.texts)] if key % 7 else None

    def paths(self, pattern: str) -> tuple[str, ...]:
        return (pattern.replace("[0-9]*", "0").replace("*", "128"),)

    def which(self, name: str) -> str | None:
        return f"/usr/bin/{name}"


@given(
    st.sampled_from(["Linux", "Darwin", "Android", ""]),
    st.sampled_from(["x86_64", "aarch64", "arm64"]),
    st.lists(answers, min_size=1, max_size=6),
    st.lists(anything, min_size=1, max_size=6),
)
def test_detection_never_raises(
    system: str, arch: str, drawn: list[Answer], texts: list[str]
) -> None:
    assert sound(detect(machine=Chaos(system, arch, drawn, texts), work_dir=WORK))


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_fixture_cut_anywhere_is_no_exception(name: str) -> None:
    text = TEXTS[name]
    for end in range(0, len(text), max(1, len(text) // 200)):
        answer = Ended(0, text[:end])
        amd.detect(Recorded(commands={"amd-smi": answer}))
        nvidia.detect(Recorded(commands={"nvidia-smi": answer}))
        sysctl.read(Recorded(system="Darwin", commands={"sysctl": answer}))


size = st.one_of(leaf, st.fixed_dictionaries({"value": leaf, "unit": leaf}))
gpu = st.fixed_dictionaries(
    {
        "gpu": leaf,
        "hip_id": leaf,
        "asic": st.one_of(leaf, st.fixed_dictionaries({"market_name": leaf})),
        "driver": st.one_of(leaf, st.fixed_dictionaries({"version": leaf})),
        "vram": st.one_of(leaf, st.fixed_dictionaries({"size": size, "vram_size_mb": size})),
        "mem_usage": st.one_of(leaf, st.fixed_dictionaries({"total_vram": size})),
    }
)
gpus = st.lists(st.one_of(gpu, gpu, leaf), max_size=4)


@given(st.one_of(gpus, gpus.map(lambda rows: {"gpu_data": rows})))
def test_amd_json_of_any_content_never_raises(document: object) -> None:
    answer = Ended(0, json.dumps(document))

    assert sound(detect(machine=Recorded(commands={"amd-smi": answer}), work_dir=WORK))


cell = st.one_of(letters, number, huge.map(str), st.sampled_from(["24576 MiB", "[N/A]", "8.9"]))


@given(st.lists(st.lists(cell, min_size=4, max_size=6), max_size=4))
def test_nvidia_rows_of_any_content_never_raise(rows: list[list[str]]) -> None:
    header = "index, name, memory.total [MiB], driver_version, compute_cap"
    lines = (", ".join((str(at), *row)) for at, row in enumerate(rows))
    answer = Ended(0, "\n".join((header, *lines)))

    assert sound(detect(machine=Recorded(commands={"nvidia-smi": answer}), work_dir=WORK))
