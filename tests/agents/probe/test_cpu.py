"""What a processor is, and how much of it and of memory is left to this process."""

import pytest

from dtest.agents.probe import cgroup, cpu, memory, sysctl
from dtest.agents.probe.cgroup import Quota
from tests.agents.probe.recorded import Recorded, fixture

HOST_MEMORY = {"/proc/meminfo": fixture("meminfo.txt")}
HOST_MEMORY_BYTES = 65_843_212 * 1024


def linux(name: str) -> Recorded:
    return Recorded(files={"/proc/cpuinfo": fixture(name)})


def test_x86_names_its_model_cores_and_flags_that_matter() -> None:
    processor = cpu.detect(linux("cpuinfo_x86_64.txt"), {})

    assert processor.model == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert processor.cores_physical == 2
    assert processor.logical == 4
    assert {"sse4_2", "avx2", "avx512_bf16", "amx_tile", "amx_bf16"} <= set(processor.flags)
    assert not {"fpu", "smep", "smap", "hypervisor"} & set(processor.flags)
    assert len(processor.flags) <= cpu.FLAGS_MAX


@pytest.mark.parametrize(
    ("name", "model", "flags"),
    [
        ("cpuinfo_aarch64_server.txt", "ARM Neoverse-V1", {"asimd", "sve", "bf16", "i8mm"}),
        (
            "cpuinfo_aarch64_phone.txt",
            "ARM Cortex-A55 + ARM Cortex-A78 + ARM Cortex-X1",
            {"asimd", "asimddp", "atomics"},
        ),
    ],
)
def test_arm_is_named_by_its_core_numbers(name: str, model: str, flags: set[str]) -> None:
    processor = cpu.detect(linux(name), {})

    assert processor.model == model
    assert flags <= set(processor.flags)
    assert processor.cores_physical is None


def test_arm_cores_are_counted_by_their_threads() -> None:
    topology = {
        f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": f"{number // 2}\n"
        for number in range(4)
    }
    machine = Recorded(files=topology)

    assert cpu.detect(machine, {}).cores_physical == 2


def test_an_unknown_arm_core_keeps_its_numbers() -> None:
    machine = Recorded(
        files={"/proc/cpuinfo": "processor: 0\nCPU implementer: 0x41\nCPU part: 0xfff\n"}
    )

    assert cpu.detect(machine, {}).model == "ARM part 0xfff"


def test_apple_silicon_speaks_of_flags_as_linux_does() -> None:
    processor = cpu.of_mac(sysctl.parse(fixture("sysctl_apple_silicon.txt")))

    assert processor.model == "Apple M3 Max"
    assert processor.cores_physical == processor.logical == 16
    assert {"asimd", "asimddp", "bf16", "i8mm", "atomics"} <= set(processor.flags)
    assert "sme" not in processor.flags  # codespell:ignore sme


def test_an_intel_mac_speaks_of_flags_as_linux_does() -> None:
    processor = cpu.of_mac(sysctl.parse(fixture("sysctl_intel_mac.txt")))

    assert processor.model == "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz"
    assert (processor.cores_physical, processor.logical) == (6, 12)
    assert {"sse4_2", "avx", "avx2", "f16c", "fma"} <= set(processor.flags)


V2 = "0::/system.slice/agent.service\n"
V1 = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Quota()),
        ({"/proc/self/cgroup": V2}, Quota()),
        (
            {
                "/proc/self/cgroup": V2,
                "/sys/fs/cgroup/system.slice/agent.service/cpu.max": "150000 100000\n",
                "/sys/fs/cgroup/system.slice/agent.service/memory.max": "max\n",
            },
            Quota(cpus=1.5),
        ),
        (
            {
                "/proc/self/cgroup": V2,
                "/sys/fs/cgroup/system.slice/agent.service/cpu.max": "max 100000\n",
                "/sys/fs/cgroup/system.slice/agent.service/memory.max": "8000000000\n",
                "/sys/fs/cgroup/system.slice/cpu.max": "200000 100000\n",
                "/sys/fs/cgroup/system.slice/memory.max": "4000000000\n",
            },
            Quota(cpus=2.0, memory_bytes=4_000_000_000),
        ),
        (  # within a container: its own group is the root of what it sees
            {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n"},
            Quota(cpus=0.5),
        ),
        (
            {
                "/proc/self/cgroup": V1,
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "2147483648\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            Quota(cpus=3.0, memory_bytes=2_147_483_648),
        ),
        (
            {
                "/proc/self/cgroup": V1,
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            Quota(),
        ),
    ],
)
def test_the_tightest_quota_on_the_way_up_counts(files: dict[str, str], expected: Quota) -> None:
    assert cgroup.quota(Recorded(files=files)) == expected


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        (Quota(), HOST_MEMORY_BYTES),
        (Quota(memory_bytes=1_000), 1_000),
        (Quota(memory_bytes=HOST_MEMORY_BYTES * 2), HOST_MEMORY_BYTES),
    ],
)
def test_memory_is_the_machines_or_less(quota: Quota, expected: int) -> None:
    assert memory.detect(Recorded(files=HOST_MEMORY), {}, quota) == expected


def test_unknown_memory_is_unknown() -> None:
    assert memory.detect(Recorded(), {}, Quota()) is None
