"""AMD GPUs for ROCm: by the JSON of ``amd-smi``, in the shapes of ROCm 6.0 and later.

The package ``amdsmi`` is not imported: without its library it prints and raises at import. A GPU
without ``amd-smi`` is a note, no device: nothing then says that ROCm could use it. Devices are
numbered as HIP does where ``amd-smi`` tells (ROCm 6.4), else as ``amd-smi`` does.
Not verified on hardware.
"""

import json
from collections.abc import Iterator

from dtest.agents.probe.found import (
    DEVICES_MAX,
    DRIVER_CHARS_MAX,
    NAME_CHARS_MAX,
    Found,
    complaint,
    words,
)
from dtest.agents.probe.machine import Answer, Ended, Machine
from dtest.agents.probe.quantity import size_gb, whole
from dtest.events.worker import Device

LIMIT_S = 10.0
"""It is a Python program that opens each GPU: seconds on a machine with eight."""
JSON_STARTS_MAX = 100
_VENDOR = "0x1002"
_KFD = "/dev/kfd"
"""What HIP computes through; it does not exist under WSL."""
_NOT_TOLD = frozenset({"", "N/A", "None"})

Row = dict[str, object]


def detect(machine: Machine) -> Found:
    """Return the ROCm devices."""
    tool = machine.which("amd-smi") or next(iter(machine.paths("/opt/rocm*/bin/amd-smi")), None)
    if tool is None:
        return _without_tool(machine)
    answer = machine.run(tool, "static", "--json", limit_s=LIMIT_S)
    rows = rows_of(answer)
    if not rows:
        return Found(problems=(complaint("amd-smi static", answer),))
    if machine.paths(_KFD) and not machine.permits(_KFD):
        note = f"{len(rows)} AMD GPU(s), but no access to {_KFD}: is this user in the group render?"
        return Found(problems=(note,))
    indexes = _hip_indexes(machine, tool, rows) if len(rows) > 1 else {}
    devices = {number: _device(row, indexes.get(number, number)) for number, row in rows.items()}
    if any(device.memory_gb is None for device in devices.values()):
        metric = rows_of(machine.run(tool, "metric", "--json", limit_s=LIMIT_S))
        devices = {
            number: _with_memory(device, metric.get(number, {}))
            for number, device in devices.items()
        }
    found = sorted(devices.values(), key=lambda device: device.index)
    gaps = (
        f"{device.device_id} ({device.name}) does not tell its memory: declare it"
        for device in found
        if device.memory_gb is None
    )
    return Found(tuple(found), tuple(gaps))


def rows_of(answer: Answer) -> dict[int, Row]:
    """Return what an answer says of each GPU, by ``amd-smi``'s number; nothing if it is no use."""
    document = _document(answer.output) if isinstance(answer, Ended) else None
    if isinstance(document, dict):  # since ROCm 7
        document = document.get("gpu_data")
    rows: dict[int, Row] = {}
    for position, row in enumerate(document[:DEVICES_MAX] if isinstance(document, list) else ()):
        if isinstance(row, dict):
            number = whole(str(row.get("gpu")))
            if number is None or not 0 <= number < DEVICES_MAX:
                number = position
            rows.setdefault(number, row)
    return rows


def _document(text: str) -> object:
    """Return the first JSON array or object that begins a line: warnings may stand before it."""
    decoder = json.JSONDecoder()
    for start in _starts(text):
        try:
            document, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if document:
            return document
    return None


def _starts(text: str) -> Iterator[int]:
    at, seen = 0, 0
    for line in text.splitlines(keepends=True):
        if line.startswith(("[", "{")):
            yield at
            seen += 1
        if seen == JSON_STARTS_MAX:
            return
        at += len(line)


def _device(row: Row, index: int) -> Device:
    asic, board, driver = (_part(row, name) for name in ("asic", "board", "driver"))
    name = _told(asic, "market_name") or _told(board, "product_name") or _told(asic, "device_id")
    vram = _part(row, "vram")
    memory = size_gb(vram.get("size")) or size_gb(vram.get("vram_size_mb"))  # the latter: ROCm 6.0
    version = _told(driver, "version") or _told(driver, "driver_version")
    return Device(
        "rocm",
        index,
        words(name, NAME_CHARS_MAX),
        memory,
        driver=words(version, DRIVER_CHARS_MAX),
    )


def _with_memory(device: Device, metric: Row) -> Device:
    if device.memory_gb is not None:
        return device
    memory = size_gb(_part(metric, "mem_usage").get("total_vram"))
    return Device("rocm", device.index, device.name, memory, driver=device.driver)


def _hip_indexes(machine: Machine, tool: str, rows: dict[int, Row]) -> dict[int, int]:
    listed = rows_of(machine.run(tool, "list", "-e", "--json", limit_s=LIMIT_S))
    indexes: dict[int, int] = {}
    for number in rows:
        index = whole(str(listed.get(number, {}).get("hip_id")))
        if index is None or not 0 <= index < DEVICES_MAX:
            return {}
        indexes[number] = index
    return indexes if len(set(indexes.values())) == len(indexes) else {}


def _part(row: Row, name: str) -> Row:
    part = row.get(name)
    return part if isinstance(part, dict) else {}


def _told(part: Row, name: str) -> str:
    value = part.get(name)
    return value if isinstance(value, str) and value not in _NOT_TOLD else ""


def _without_tool(machine: Machine) -> Found:
    nodes = machine.paths("/sys/class/drm/renderD*/device/vendor")  # codespell:ignore renderd
    count = sum((machine.read(node) or "").strip() == _VENDOR for node in nodes)
    if not count:
        return Found()
    note = f"{count} AMD GPU(s) in /sys/class/drm, but no amd-smi: not offered for rocm"
    return Found(problems=(note,))
