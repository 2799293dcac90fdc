"""What is known of a run before anything is judged: its tasks, attempts and observed test cases.

Plain values as the read model tells them; nothing here decides what they mean.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dtest.events.suite_decision import WHOLE_FIRST

Outcome = Literal["passed", "failed", "skipped", "xfailed", "xpassed", "error"]
Phase = Literal["setup", "call", "teardown", "collect"]


@dataclass(frozen=True, slots=True)
class Observation:
    """One test case, as one attempt reported it."""

    task_id: str
    attempt: int
    ordinal: int
    """Position in the attempt's report; with task and attempt it identifies the observation."""
    seq: int
    """Position in the journal: what orders the observations of different attempts."""
    nodeid: str
    outcome: Outcome
    phase: Phase = "call"
    duration_s: float = 0.0
    message: str = ""
    output: str = ""
    file: str = ""
    line: int | None = None
    worker_id: str = ""
    number: int | None = None
    """In the plan of its class of hardware; none for what stands in no plan."""
    properties: tuple[tuple[str, str], ...] = ()
    """What the test recorded of itself."""
    suite_properties: tuple[tuple[str, str], ...] = ()
    """What it recorded of the whole suite."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that an attempt left."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of a task on one worker."""

    task_id: str
    attempt: int
    worker_id: str
    hardware: str
    status: str
    reason: str | None = None
    detail: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One task of the run: a part of the suite."""

    task_id: str
    name: str
    status: str
    reason: str | None = None
    seq: int = 0
    planned: tuple[str, ...] = ()
    """Node ids that it was to run; empty where only files were named."""
    hardware: str | None = None
    """The class of hardware that it ran for; none where the chosen kind says it: if any of several,
    or any at all, would do."""
    rerun: int = 0
    """Which re-run of failures it is; 0 is the first time."""
    kind: str = "test"
    """The task's type."""
    is_session: bool = False
    """It runs tests of a plan, as others do."""
    upstream: str = ""
    """The task because of which it could not run."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A test that was to run; without a number a file, or a test that only its name tells."""

    nodeid: str
    hardware: str | None = None
    """On this class of hardware; none means on any."""
    cause: str = ""
    """Why it did not run, where that is known."""
    applies: bool = True
    """False for a test that is not made for this class of hardware: it is skipped."""
    number: int | None = None
    """What its results are known by."""
    place: str = ""
    """What names it in runs in which node ids are new; empty where nothing does."""

    @property
    def is_open(self) -> bool:
        """Say whether it is a file that runs as a whole: nobody knows how many tests it has."""
        return self.number is not None and self.number >= WHOLE_FIRST and not self.cause


@dataclass(frozen=True, slots=True)
class Run:
    """The run itself."""

    run_id: str
    name: str
    labels: tuple[tuple[str, str], ...] = ()
    opened_at: datetime | None = None
    finished: bool = True
    """False while tasks of it wait or run: the report is of what is known so far."""
    api_url: str = ""
    """Where its artefacts can be had; empty if unknown."""


@dataclass(frozen=True, slots=True)
class CutShort:
    """Why a run was ended before its tests had."""

    cause: str
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of a run."""

    run: Run
    parts: tuple[Part, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    observations: tuple[Observation, ...] = ()
    planned: tuple[Planned, ...] = ()
    """Tests that are known to have been selected, besides those that the parts name."""
    cut: CutShort | None = None
    """Why the run was ended before its tests had, if it was."""
    notes: tuple[str, ...] = ()
    """What the plan has to say."""
