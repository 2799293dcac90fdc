"""What earlier runs of a suite were like, in a file of the user's cache."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import orjson
import platformdirs
from pydantic import TypeAdapter, ValidationError

from dtest.reports.report import Report
from dtest.reports.verdicts import BAD
from dtest.suites.history import History

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class _Kept:
    durations: dict[str, float]
    failed: list[str]


@dataclass(frozen=True, slots=True)
class _Content:
    version: Literal[1]
    hardware: dict[str, _Kept]


_CONTENT: TypeAdapter[_Content] = TypeAdapter(_Content)


class HistoryFile:
    """The history of the suite in a directory, for each class of hardware."""

    def __init__(self, directory: Path) -> None:
        name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:32]
        self._path = Path(platformdirs.user_cache_path("dtest")) / "history" / f"{name}.json"

    def load(self, hardware: str) -> History:
        """Return what is known; nothing, if there is no readable file."""
        kept = self._read().get(hardware)
        return History() if kept is None else History(kept.durations, frozenset(kept.failed))

    def add(self, report: Report, hardware: str) -> None:
        """Keep what a run told. A cache that cannot be written costs knowledge only."""
        cases = [
            (result.key.nodeid, found.duration_s, result.verdict in BAD)
            for result in report.results
            if (found := result.deciding) is not None and found.phase != "collect"
        ]
        history = self.load(hardware).with_run(cases)
        kept = _Kept(dict(history.durations), sorted(history.failed))
        content = _Content(VERSION, {**self._read(), hardware: kept})
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._path.with_suffix(f".{os.getpid()}")
            unfinished.write_bytes(orjson.dumps(content))
            unfinished.replace(self._path)

    def _read(self) -> dict[str, _Kept]:
        try:
            return _CONTENT.validate_json(self._path.read_bytes()).hardware
        except (OSError, ValidationError):
            return {}
