"""What DuckDB returns, as JSON can hold it.

Instants become RFC 3339 in UTC; numbers that JSON lacks become null, those that a reader may lack
become text. Converts; chooses nothing.
"""

from collections.abc import Iterable
from datetime import date, datetime, time
from typing import Any

import orjson

INT64_BOUND = 1 << 63
NUMBER_BYTES = 8
FLOAT_MAX = 1.7976931348623157e308


class Plain:
    """Converts the rows of one answer and counts, roughly, what they hold."""

    def __init__(self) -> None:
        self.bytes = 0

    def row(self, row: Iterable[object]) -> tuple[Any, ...]:
        """Convert one row."""
        return tuple(map(self._value, row))

    def _value(self, value: object) -> object:
        self.bytes += NUMBER_BYTES
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -INT64_BOUND <= value < INT64_BOUND else str(value)
        if isinstance(value, float):
            return value if -FLOAT_MAX <= value <= FLOAT_MAX else None
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        if isinstance(value, dict):
            return {str(self._value(key)): self._value(item) for key, item in value.items()}
        text = value if isinstance(value, str) else _text(value)
        self.bytes += len(text)
        return text


def readable(record: dict[str, Any], json_columns: frozenset[str]) -> dict[str, Any]:
    """Return a row with its JSON columns as JSON."""
    for name in json_columns & record.keys():
        if isinstance(record[name], str):
            try:
                record[name] = orjson.loads(record[name])
            except orjson.JSONDecodeError:
                continue  # the bytes of a refused message: shown as they are
    return record


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.isoformat(timespec='microseconds')}Z"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)
