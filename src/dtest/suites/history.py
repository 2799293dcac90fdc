"""What earlier runs say about how long tests take and which of them failed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from statistics import fmean

from dtest.suites.plan import PlannedTest

GUESS_S = 0.005
"""For a test when nothing at all is known."""
LATEST_WEIGHT = 0.5
"""Of the latest duration in the one that is kept."""


@dataclass(frozen=True, slots=True)
class History:
    """Of one suite on one class of hardware."""

    durations: Mapping[str, float] = field(default_factory=dict)
    """Seconds by node id."""
    failed: Collection[str] = ()
    """Node ids that did not pass in the latest run in which they ran."""

    def predicted(
        self, tests: Sequence[tuple[str, str]], places: Sequence[int | None] = ()
    ) -> list[PlannedTest]:
        """Return tests, given by node id and group, with how long each will probably take.

        ``places`` are theirs in their files, where not all tests of the files are given.
        A test that is not known is like those of its file, else like all others.
        """
        by_file: dict[str, list[float]] = {}
        for nodeid, _ in tests:
            if nodeid in self.durations:
                of_file = by_file.setdefault(nodeid.partition("::")[0], [])
                of_file.append(self.durations[nodeid])
        file_s = {file: fmean(found) for file, found in by_file.items()}
        usual_s = fmean(file_s.values()) if file_s else GUESS_S
        return [
            PlannedTest(
                nodeid,
                group,
                self.durations.get(nodeid, file_s.get(nodeid.partition("::")[0], usual_s)),
                place,
            )
            for (nodeid, group), place in zip(tests, places or repeat(None), strict=False)
        ]

    def of_file(self, file: str) -> float:
        """Return how long all known tests of a file take; 0 if none is known."""
        return sum(
            seconds for nodeid, seconds in self.durations.items() if nodeid.startswith(f"{file}::")
        )

    def completed_by(self, other: "History") -> "History":
        """Return what both know: of a test that this one knows, what this one does.

        This one was measured here and follows several runs; what it says of a test holds also if
        that failed elsewhere since.
        """
        durations = {**other.durations, **self.durations}
        known = self.durations.keys() | set(self.failed)
        failed = {nodeid for nodeid in other.failed if nodeid not in known}
        return History(durations, frozenset(failed.union(self.failed)))

    def with_run(self, cases: Iterable[tuple[str, float, bool]]) -> "History":
        """Return the history after a run: node id, seconds and whether it failed, of each test."""
        durations, failed = dict(self.durations), set(self.failed)
        for nodeid, seconds, has_failed in cases:
            before_s = durations.get(nodeid, seconds)
            durations[nodeid] = before_s + LATEST_WEIGHT * (seconds - before_s)
            (failed.add if has_failed else failed.discard)(nodeid)
        return History(durations, frozenset(failed))
