"""NVIDIA GPUs for CUDA: by NVML, or by ``nvidia-smi`` where NVML's library cannot be loaded.

Devices are numbered as the driver does, in the order of PCI addresses; a process sees that order
with CUDA_DEVICE_ORDER=PCI_BUS_ID. It does not split a GPU into its MIG instances.
Not verified on hardware.
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import TypeVar

from dtest.agents.probe.found import (
    DEVICES_MAX,
    DRIVER_CHARS_MAX,
    NAME_CHARS_MAX,
    Found,
    complaint,
    words,
)
from dtest.agents.probe.machine import Ended, Machine
from dtest.agents.probe.quantity import size_gb, whole
from dtest.events.worker import Device

LIMIT_S = 5.0
COMPUTE_MAX = 1000.0
_QUERY = ("index", "name", "memory.total", "driver_version", "compute_cap")
_WSL_TOOL = "/usr/lib/wsl/lib/nvidia-smi"
_UNKNOWN = frozenset({"", "[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "[GPU is lost]"})

T = TypeVar("T")


def detect(machine: Machine) -> Found:
    """Return the CUDA devices."""
    nvml = machine.load_nvml()
    found = _by_nvml(nvml) if nvml is not None else None
    return found if found is not None else _by_tool(machine)


def _by_nvml(nvml: ModuleType) -> Found | None:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if getattr(error, "value", None) == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return None
        return Found(problems=(words(f"NVML is installed but does not answer: {error}"),))
    try:
        return _listed(nvml)
    except nvml.NVMLError as error:
        return Found(problems=(words(f"NVML does not list its devices: {error}"),))
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _listed(nvml: ModuleType) -> Found:
    driver = _text(_told(nvml, nvml.nvmlSystemGetDriverVersion), DRIVER_CHARS_MAX)
    devices: list[Device] = []
    problems: list[str] = []
    for index in range(min(nvml.nvmlDeviceGetCount(), DEVICES_MAX)):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            problems.append(words(f"cuda:{index} cannot be read: {error}"))
            continue
        memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        compute = _told(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
        device = Device(
            "cuda",
            index,
            _text(_told(nvml, nvml.nvmlDeviceGetName, handle), NAME_CHARS_MAX),
            size_gb(memory.total, "B") if memory is not None else None,
            _compute(".".join(str(part) for part in compute)) if compute is not None else None,
            driver,
        )
        devices.append(device)
        problems.extend(_gaps(device))
    return Found(tuple(devices), tuple(problems))


def _told(nvml: ModuleType, ask: Callable[..., T], *handle: object) -> T | None:
    try:
        return ask(*handle)
    except nvml.NVMLError:  # "not supported" is how a device says that it does not know
        return None


def _text(told: object, chars_max: int) -> str:
    if isinstance(told, bytes):  # as older releases of the bindings answer
        told = told.decode("utf-8", "replace")
    return words(told, chars_max) if isinstance(told, str) else ""


def _by_tool(machine: Machine) -> Found:
    tool = machine.which("nvidia-smi") or next(iter(machine.paths(_WSL_TOOL)), None)
    if tool is None:
        return Found()
    query = f"--query-gpu={','.join(_QUERY)}"
    answer = machine.run(tool, query, "--format=csv", limit_s=LIMIT_S)
    devices = _rows(answer.output) if isinstance(answer, Ended) else {}
    if not devices:
        return Found(problems=(complaint("nvidia-smi", answer),))
    gaps = (gap for device in devices.values() for gap in _gaps(device))
    return Found(tuple(devices.values()), tuple(gaps))


def _rows(text: str) -> dict[int, Device]:
    devices: dict[int, Device] = {}
    for row in _table(text):
        index = whole(row.get("index"))
        if index is None or not 0 <= index < DEVICES_MAX:
            continue
        devices[index] = Device(
            "cuda",
            index,
            words(row.get("name", ""), NAME_CHARS_MAX),
            size_gb(row.get("memory.total"), "MiB"),
            _compute(row.get("compute_cap", "")),
            words(row.get("driver_version", ""), DRIVER_CHARS_MAX),
        )
    return devices


def _table(text: str) -> Iterator[dict[str, str]]:
    """Yield rows by their column's name; the header adds the unit: ``memory.total [MiB]``."""
    lines = [line.replace("\0", "") for line in text.splitlines()]
    start = next((at for at, line in enumerate(lines) if line.startswith("index,")), len(lines))
    try:
        rows = list(csv.reader(lines[start:], skipinitialspace=True))
    except csv.Error:
        return
    names = [cell.partition(" [")[0].strip() for cell in rows[0]] if rows else []
    for row in rows[1:]:
        if len(row) == len(names):  # other lines are warnings
            cells = (cell.strip() for cell in row)
            yield {
                name: "" if cell in _UNKNOWN else cell
                for name, cell in zip(names, cells, strict=True)
            }


def _compute(text: str) -> float | None:
    try:
        compute = float(text)
    except ValueError:
        return None
    return compute if 0 < compute < COMPUTE_MAX else None


def _gaps(device: Device) -> Iterator[str]:
    if device.memory_gb is None:  # as where memory is shared with the processor (GB10, Jetson)
        yield f"{device.device_id} ({device.name}) does not tell its memory: declare it"
