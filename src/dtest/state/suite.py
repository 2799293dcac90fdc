"""What the cell knows of each suite that runs: digests and counts, never its tests."""

from dataclasses import dataclass, field
from enum import StrEnum

from dtest.events.fields import RunId
from dtest.events.suite import SuiteSubmitted
from dtest.events.suite_decision import CutCause, Lane, SuiteCollected
from dtest.events.suite_list import ListPart


class Phase(StrEnum):
    """How far a run of a suite is."""

    SUBMITTED = "submitted"
    COLLECTING = "collecting"
    """Its sessions are asked for; some lane has no list yet."""
    RUNNING = "running"
    """It is divided into pools."""
    ENDED = "ended"


@dataclass(slots=True)
class Listing:
    """A list of tests, as far as it is told."""

    parts: int
    told: int
    first_seq: int
    last_seq: int
    tests: int = 0
    """Told so far, as are the others."""
    whole: int = 0
    """Files that run as a whole."""
    files: int = 0
    """Files that are to be collected and no more."""

    def take(self, content: ListPart) -> None:
        """Count what one more part holds."""
        self.tests += len(content.tests)
        self.whole += len(content.whole)
        self.files += len(content.broken) + len(content.skipped)


@dataclass(slots=True)
class SuiteRun:
    """A run of a suite."""

    run_id: RunId
    seq: int
    """Of the fact that asked for it."""
    submitted_at: float
    spec: SuiteSubmitted | None
    """None once it has ended."""
    fingerprint: str = ""
    """Of what was asked for, once it has ended."""
    lanes: tuple[Lane, ...] = ()
    collected: dict[str, SuiteCollected] = field(default_factory=dict)
    """By class of hardware."""
    parts: int | None = None
    """Of the division; none before it."""
    pooled: int = 0
    """Parts of it that are told."""
    planned: int = 0
    predicted_s: float = 0.0
    notes: tuple[str, ...] = ()
    round: int = 0
    """Of re-runs, the latest that is ordered as a whole."""
    ordering: tuple[int, int] = (0, 0)
    """The round that is being ordered, and how many of its parts are told."""
    cancelled: bool = False
    """A client asked for it."""
    cut: CutCause | None = None
    cut_detail: str = ""
    cut_hint: str = ""
    exit_code: int | None = None
    """None until it has ended."""
    counts: dict[str, int] = field(default_factory=dict)
    ended_seq: int = 0

    @property
    def phase(self) -> Phase:
        """How far it is."""
        if self.exit_code is not None:
            return Phase.ENDED
        if self.parts is not None and self.pooled == self.parts:
            return Phase.RUNNING
        return Phase.COLLECTING if self.lanes else Phase.SUBMITTED
