"""What earlier runs say about how long tests take and which of them failed."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from dtest.suites.plan import PlannedTest
from dtest.suites.pools import PoolTest

_INNER = re.compile("::")
GUESS_S = 0.005
"""For a test when nothing at all is known."""
LATEST_WEIGHT = 0.5
"""Of the latest duration in the one that is kept."""


class Case(NamedTuple):
    """What a run told of a test, or of a file that was to be collected."""

    key: str
    seconds: float | None
    """None for a file, and for a test that could not even be collected."""
    has_failed: bool


@dataclass(frozen=True, slots=True)
class History:
    """Of one suite on one class of hardware.

    A test is known by the key of its node id, and by that of its place, for suites that make new
    ids in each run. See `Suite.keys`.
    """

    durations: Mapping[str, float] = field(default_factory=dict)
    """Seconds by key."""
    failed: Collection[str] = ()
    """Keys of what did not pass in the latest run in which it ran; of files, too."""

    def seconds_of(self, keys: tuple[str, str]) -> float | None:
        """Return how long a test took, none if it is not known."""
        by_id, by_place = keys
        return self.durations.get(by_id, self.durations.get(by_place))

    def has_failed(self, keys: tuple[str, str], file: str) -> bool:
        """Say whether a test did not pass when it last ran, or its file could not be collected."""
        by_id, by_place = keys
        if by_id in self.durations or by_id in self.failed:
            return by_id in self.failed
        return by_place in self.failed or file in self.failed

    def predicted(self, tests: Sequence[PoolTest]) -> list[PlannedTest]:
        """Return tests with how long each will probably take.

        A test that is not known is like those of its file, else like all others.
        """
        known = [self.seconds_of(test.keys) for test in tests]
        by_file: dict[str, list[float]] = {}
        for test, seconds in zip(tests, known, strict=True):
            if seconds is not None:
                by_file.setdefault(test.file, []).append(seconds)
        file_s = {file: fmean(found) for file, found in by_file.items()}
        usual_s = fmean(file_s.values()) if file_s else GUESS_S
        return [
            PlannedTest(
                each.test,
                each.file,
                each.group,
                seconds if seconds is not None else file_s.get(each.file, usual_s),
            )
            for each, seconds in zip(tests, known, strict=True)
        ]

    def of_files(self, files: Iterable[str]) -> dict[str, float]:
        """Return how long all known tests of each file take; 0 if none is known."""
        taken = dict.fromkeys(files, 0.0)
        for nodeid, seconds in self.durations.items() if taken else ():
            for place in (found.start() for found in _INNER.finditer(nodeid)):
                if nodeid[:place] in taken:
                    taken[nodeid[:place]] += seconds
                    break
        return taken

    def completed_by(self, other: "History") -> "History":
        """Return what both know: of a test that this one knows, what this one does.

        This one was measured here and follows several runs; what it says of a test holds also if
        that failed elsewhere since.
        """
        durations = {**other.durations, **self.durations}
        known = self.durations.keys() | set(self.failed)
        failed = {nodeid for nodeid in other.failed if nodeid not in known}
        return History(durations, frozenset(failed.union(self.failed)))

    def with_run(self, cases: Iterable[Case]) -> "History":
        """Return the history after a run."""
        durations, failed = dict(self.durations), set(self.failed)
        for key, seconds, has_failed in cases:
            if seconds is not None:
                before_s = durations.get(key, seconds)
                durations[key] = before_s + LATEST_WEIGHT * (seconds - before_s)
                failed.discard(key.partition("::")[0])  # its file can be collected again
            (failed.add if has_failed else failed.discard)(key)
        return History(durations, frozenset(failed))
