"""Numbers and sizes as tools print them, turned into plain numbers and GB.

It knows units, no hardware. What makes no sense is none: nothing is guessed.
"""

import re

INTEGER_MAX = 1 << 62
"""Larger ones are a tool's way to say "no limit"."""
SIZE_GB_MAX = 1e7

# Every tool read here counts in powers of two whatever it calls them: an MI300X of 192 GiB says
# 196592 "MB", the "kB" of /proc/meminfo are KiB.
_BYTES = {
    "b": 1,
    "kb": 1 << 10,
    "kib": 1 << 10,
    "mb": 1 << 20,
    "mib": 1 << 20,
    "gb": 1 << 30,
    "gib": 1 << 30,
}
_SIZE = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)\s*", re.ASCII)


def whole(text: str | None) -> int | None:
    """Return the integer that a text is."""
    try:
        number = int((text or "").strip())
    except ValueError:
        return None
    return number if abs(number) < INTEGER_MAX else None


def gigabytes(size_bytes: float) -> float:
    """Return GB (10^9 bytes), to the megabyte."""
    return round(size_bytes / 1e9, 3)


def size_gb(value: object, unit: str = "MB") -> float | None:
    """Return the GB of ``24576``, ``"24576 MiB"`` or ``{"value": 24576, "unit": "MB"}``."""
    if isinstance(value, dict):
        unit = str(value.get("unit") or unit)
        value = value.get("value")
    if isinstance(value, str):
        matched = _SIZE.fullmatch(value)
        if matched is None:
            return None
        value, unit = float(matched[1]), matched[2] or unit
    factor = _BYTES.get(unit.lower())
    if factor is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value < INTEGER_MAX:
        return None
    size = gigabytes(value * factor)
    return size if size < SIZE_GB_MAX else None
