"""What the cell remembers of a suite, asked for while the suite is being collected.

A machine that never ran the suite, as in CI, so spreads it by durations that others measured.
"""

import threading
from collections.abc import Iterable
from itertools import compress
from typing import Protocol

from dtest.cli.api_client import Asked
from dtest.errors import DtestError
from dtest.suites.history import History

LATE_S_MAX = 1.0
"""How long the answer may take beyond the collection; a run does without it then."""


class Past(Protocol):
    """What is known of earlier runs."""

    def load(self, *hardware: str) -> History:
        """Return what is known of classes of hardware, of the first one that knows a test."""
        ...


class CellMemory:
    """Questions to the cell, one for each class of hardware, asked beside everything else."""

    def __init__(self, api: Asked, suite: str, hardware: Iterable[str], *, kept: Past) -> None:
        self._kept = kept
        """What is known here, which counts for more."""
        self._found: dict[str, History] = {}
        names = tuple(dict.fromkeys(hardware))
        self._asking = threading.Thread(target=self._ask, args=(api, suite, names), daemon=True)
        self._asking.start()

    def _ask(self, api: Asked, suite: str, hardware: tuple[str, ...]) -> None:
        for name in hardware:
            try:
                answer = api.get("/api/history", suite=suite, hardware=name)
            except DtestError:  # it costs knowledge only
                return
            nodeids = answer["nodeids"]
            durations = dict(zip(nodeids, answer["durations_s"], strict=True))
            self._found[name] = History(durations, frozenset(compress(nodeids, answer["failed"])))

    def load(self, *hardware: str) -> History:
        """Return what is known here, and of the rest what the cell says in time."""
        self._asking.join(LATE_S_MAX)
        found = self._kept.load(*hardware)
        for name in hardware:
            found = found.completed_by(self._found.get(name, History()))
        return found
