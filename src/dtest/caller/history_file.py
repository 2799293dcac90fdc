"""What earlier runs of a suite were like, in a file of the user's cache."""

import hashlib
import os
from collections import ChainMap, defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
import platformdirs
from pydantic import TypeAdapter, ValidationError

from dtest.reports.verdicts import BAD
from dtest.suites.history import Case, History
from dtest.suites.suite import key_of

if TYPE_CHECKING:
    from dtest.reports.report import Report

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

    def load(self, *hardware: str) -> History:
        """Return what is known of classes of hardware, of the first one that knows a test.

        Nothing, if there is no readable file.
        """
        every = self._read()
        found = [kept for name in hardware if (kept := every.get(name)) is not None]
        durations = ChainMap(*(kept.durations for kept in found))
        failed = frozenset(nodeid for kept in found for nodeid in kept.failed)
        return History(dict(durations), failed)

    def document(self, *, failed: Collection[str] | None = None) -> dict[str, Any] | None:
        """Return what is known in the form in which a cell takes it; none if nothing is.

        With ``failed`` just these are said to have failed, whatever else is known.
        """
        every = self._read()
        told = {
            name: {"durations": kept.durations, "failed": kept.failed if failed is None else []}
            for name, kept in every.items()
        }
        if failed is not None:
            told.setdefault("", {"durations": {}, "failed": []})["failed"] = sorted(failed)
        if not told:
            return None
        return {"hardware": told, "only_stated_fail": failed is not None}

    def add(self, report: "Report", keys: Mapping[tuple[str, int | None], tuple[str, str]]) -> None:
        """Keep what a run told, by hardware. An unwritable cache costs knowledge only.

        ``keys`` name planned tests in other runs, by class of hardware and number.
        """
        cases: dict[str, list[Case]] = defaultdict(list)
        for result in report.results:
            found = result.deciding
            if found is None or result.is_task:
                continue
            of_class = result.key.hardware, result.number
            by_id, by_place = keys.get(of_class) or keys.get(("", result.number)) or ("", "")
            key = by_id or key_of(result.key.nodeid, result.key.occurrence)
            if by_place and found.nodeid != result.key.nodeid:
                key = by_place  # ids are new in each process
            took_s = found.duration_s if found.phase != "collect" else None
            cases[result.key.hardware].append(Case(key, took_s, result.verdict in BAD))
        every = self._read()
        for hardware, some in cases.items():
            history = self.load(hardware).with_run(some)
            every[hardware] = _Kept(dict(history.durations), sorted(history.failed))
        content = _Content(VERSION, every)
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
