"""The processor: model, physical cores, and the instruction sets that decide what runs well.

It does not say how much of it this process may use (see ``cgroup``), nor its clock or caches.
macOS: Not verified on hardware.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dtest.agents.probe import arm_core
from dtest.agents.probe.found import NAME_CHARS_MAX, words
from dtest.agents.probe.machine import Machine
from dtest.agents.probe.quantity import whole

FLAGS_MAX = 64
CORES_MAX = 65_536

# Those that decide which kernels, precisions and ciphers are fast; not every bit of CPUID.
_MEANINGFUL = re.compile(
    r"(?:avx|amx|asimd|sve)\w{0,30}|sme(?:[2bfi]\w{0,30})?"  # codespell:ignore sme
    r"|ssse3|sse4_[12]|popcnt|aes|vaes|sha_ni|gfni|fma|f16c|bmi[12]"
    r"|neon|fphp|e?bf16|i8mm|atomics|crc32|pmull|sha2|sha512|sha3",
    re.ASCII,
)
_MODEL_KEYS = ("model name", "cpu model", "uarch", "cpu")
"""x86; MIPS; RISC-V; POWER."""
_MAC_X86 = {"sse4.1": "sse4_1", "sse4.2": "sse4_2", "avx1.0": "avx"}
_MAC_ARM = {
    "neon": "asimd",
    "AdvSIMD": "asimd",
    "neon_fp16": "asimdhp",
    "armv8_1_atomics": "atomics",
    "armv8_crc32": "crc32",
    "arm.FEAT_FP16": "asimdhp",
    "arm.FEAT_DotProd": "asimddp",
    "arm.FEAT_FHM": "asimdfhm",
    "arm.FEAT_LSE": "atomics",
    "arm.FEAT_CRC32": "crc32",
    "arm.FEAT_BF16": "bf16",
    "arm.FEAT_I8MM": "i8mm",
    "arm.FEAT_AES": "aes",
    "arm.FEAT_PMULL": "pmull",
    "arm.FEAT_SHA256": "sha2",
    "arm.FEAT_SHA512": "sha512",
    "arm.FEAT_SHA3": "sha3",
    "arm.FEAT_SME": "sme",  # codespell:ignore sme
    "arm.FEAT_SME2": "sme2",
}
"""``hw.optional.*`` in the words of Linux."""


@dataclass(frozen=True, slots=True)
class Processor:
    """What the processor is. Empty: not told."""

    model: str = ""
    cores_physical: int | None = None
    flags: tuple[str, ...] = ()
    logical: int | None = None
    """Of the whole machine, used or not."""


def detect(machine: Machine, sysctl: Mapping[str, str]) -> Processor:
    """Return what /proc/cpuinfo or sysctl tells."""
    return of_mac(sysctl) if sysctl else _of_linux(machine)


def of_mac(sysctl: Mapping[str, str]) -> Processor:
    """Return the processor of a Mac, Apple silicon or Intel."""
    listed = f"{sysctl.get('machdep.cpu.features', '')} "
    listed += sysctl.get("machdep.cpu.leaf7_features", "")
    intel = (flag.lower() for flag in listed.split())
    optional = (name for key, name in _MAC_ARM.items() if sysctl.get(f"hw.optional.{key}") == "1")
    return Processor(
        words(sysctl.get("machdep.cpu.brand_string", ""), NAME_CHARS_MAX),
        _count(whole(sysctl.get("hw.physicalcpu"))),
        _flags([*(_MAC_X86.get(flag, flag) for flag in intel), *optional]),
        _count(whole(sysctl.get("hw.logicalcpu"))),
    )


def _of_linux(machine: Machine) -> Processor:
    blocks = list(_blocks(machine.read("/proc/cpuinfo") or ""))
    flags = next((found for block in blocks if (found := _listed(block))), "")
    return Processor(
        words(_model(blocks), NAME_CHARS_MAX),
        _count(_cores(machine, blocks)),
        _flags(flags.split()),
        _count(sum("processor" in block for block in blocks)),
    )


def _blocks(text: str) -> Iterator[dict[str, str]]:
    for block in re.split(r"\n\s*\n", text):
        pairs = (line.partition(":") for line in block.splitlines())
        yield {key.strip().lower(): value.strip() for key, colon, value in pairs if colon}


def _listed(block: Mapping[str, str]) -> str:
    return block.get("flags") or block.get("features") or ""


def _model(blocks: list[dict[str, str]]) -> str:
    for key in _MODEL_KEYS:
        told = next((block[key] for block in blocks if block.get(key)), "")
        if told:
            return told
    cores = {
        (block["cpu implementer"], block["cpu part"]): None
        for block in blocks
        if block.get("cpu implementer") and block.get("cpu part")
    }
    return " + ".join(arm_core.name(*core) for core in cores)


def _cores(machine: Machine, blocks: list[dict[str, str]]) -> int:
    numbered = {
        (block["physical id"], block["core id"])
        for block in blocks
        if "physical id" in block and "core id" in block
    }
    if numbered:
        return len(numbered)
    # ARM and others do not say it in cpuinfo; threads of one core name each other in sysfs.
    files = machine.paths("/sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
    return len({text.strip() for path in files if (text := machine.read(path))})


def _count(number: int | None) -> int | None:
    return number if number is not None and 0 < number <= CORES_MAX else None


def _flags(listed: list[str]) -> tuple[str, ...]:
    meaningful = dict.fromkeys(flag for flag in listed if _MEANINGFUL.fullmatch(flag))
    return tuple(meaningful)[:FLAGS_MAX]
