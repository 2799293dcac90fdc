"""How answers look: data on standard output, everything else on standard error."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from dtest.wording import figure

CELL_CHARS_MAX = 60
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def is_terminal() -> bool:
    """Say whether a person reads standard output."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Tell the person something that is not data."""
    print(text, file=sys.stderr, flush=True)


def as_json(value: object) -> None:
    """Print one JSON document on a line."""
    print(orjson.dumps(value, default=str).decode(), flush=True)


def table(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print records: a drawn table on a terminal, tab-separated lines elsewhere."""
    rows = [[cell(record.get(column), column) for column in columns] for record in records]
    if not is_terminal():
        print("\t".join(columns))
        for row in rows:
            print("\t".join(text.replace("\t", " ") for text in row))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column)
    for row in rows:
        drawn.add_row(*(escape(text[:CELL_CHARS_MAX]) for text in row))
    Console().print(drawn)


def cell(value: object, column: str) -> str:
    """Return a value as a person reads it; unknown is ``-``."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and column.endswith(("_at", "since")):
        return relative(value) if is_terminal() else value
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=str).decode()
    return str(value)


def relative(text: str) -> str:
    """Return how long ago an RFC 3339 instant was."""
    now = datetime.now(UTC)
    seconds = (now - datetime.fromisoformat(text)).total_seconds()
    if seconds < _MINUTE:
        return f"{seconds:.0f}s ago"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f}m ago"
    if seconds < _DAY:
        return f"{seconds / _HOUR:.0f}h ago"
    return f"{seconds / _DAY:.0f}d ago"
