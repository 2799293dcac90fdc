"""Reads the file that the agent feeds a session by: units of tests, then the end."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

LOOK_EVERY_S = 0.005


class Test(TypedDict):
    """One test of a plan."""

    number: int | None
    name: str
    """Its node id."""


class Part(TypedDict):
    """Tests of one target."""

    file: str
    tests: list[Test] | None
    """None for all."""


class Unit(TypedDict):
    """Tests whose end is told at once."""

    id: str
    parts: list[Part]


def units(path: Path) -> Iterator[Unit]:
    """Yield what comes, until the agent says that nothing more will."""
    offset, ended = 0, False
    while not ended:
        offset, lines = _whole_lines(path, offset)
        orders: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for order in orders:
            if "unit" in order:
                yield order["unit"]
            ended = ended or bool(order.get("end"))
        if not orders:
            time.sleep(LOOK_EVERY_S)


def _whole_lines(path: Path, offset: int) -> tuple[int, list[bytes]]:
    """Return what was written since; what follows the last end of line is still being written."""
    try:
        if os.stat(path).st_size <= offset:
            return offset, []
    except FileNotFoundError:
        return offset, []
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    return offset + len(whole), whole.splitlines()
