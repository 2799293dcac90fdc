"""What the cell remembers of a suite, asked for while the suite is being collected.

A machine that never ran the suite, as in CI, so spreads it by durations that others measured.
"""

import threading
from itertools import compress

from dtest.cli.api_client import Asked
from dtest.errors import DtestError
from dtest.suites.history import History

LATE_S_MAX = 1.0
"""How long the answer may take beyond the collection; a run does without it then."""


class CellMemory:
    """One question to the cell, asked beside everything else."""

    def __init__(self, api: Asked, suite: str, hardware: str) -> None:
        self._found = History()
        self._asking = threading.Thread(target=self._ask, args=(api, suite, hardware), daemon=True)
        self._asking.start()

    def _ask(self, api: Asked, suite: str, hardware: str) -> None:
        try:
            answer = api.get("/api/history", suite=suite, hardware=hardware)
        except DtestError:  # it costs knowledge only
            return
        nodeids = answer["nodeids"]
        durations = dict(zip(nodeids, answer["durations_s"], strict=True))
        self._found = History(durations, frozenset(compress(nodeids, answer["failed"])))

    def answer(self) -> History:
        """Return what the cell knows; nothing, if it does not answer in time."""
        self._asking.join(LATE_S_MAX)
        return self._found
