"""Facts about runs of suites that a conductor decides: what runs where, again, and to which end."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dtest.events.environment import Digest
from dtest.events.fields import (
    Count,
    Flag,
    Integer,
    Ordinal,
    RunToken,
    Seconds,
    Text,
    Token,
    WorkerToken,
)
from dtest.events.suite import ClassName, NodeId
from dtest.events.task import ANYWHERE, Requirements

Span = tuple[Count, Count]
"""The first and the last of consecutive numbers."""
WHOLE_FIRST = 1_000_000_000
"""Number of the first file of a list that runs as a whole; tests have the numbers from 0."""
SPANS_MAX = 20_000
"""Of one event."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A class of hardware, which collects the suite by itself."""

    queue: Token
    """That its first sessions pull from."""
    name: ClassName = ""
    requirements: Requirements = field(default_factory=lambda: ANYWHERE)
    sessions: Count = 1
    """As many as may run at once; none where no worker can run it."""
    why_not: Text = ""
    """Why no worker can."""
    is_crowded: Flag = False
    """Workers of it are of other classes, too: then a session that collects must not hold the room
    that the others collect in."""

    @property
    def first_sessions(self) -> int:
        """How many there are before anything is collected."""
        return min(1, self.sessions) if self.is_crowded else self.sessions


@dataclass(frozen=True, slots=True)
class SuiteBegun:
    """Decided: on which classes of hardware the suite is collected, by how many sessions."""

    TYPE: ClassVar[str] = "suite.begun"

    run_id: RunToken
    lanes: Annotated[tuple[Lane, ...], Field(min_length=1, max_length=64)]

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id


@dataclass(frozen=True, slots=True)
class SuiteCollected:
    """Decided: the list that holds on a class of hardware."""

    TYPE: ClassVar[str] = "suite.collected"

    run_id: RunToken
    digest: Digest
    hardware: ClassName = ""
    tests: Count = 0
    files: Count = 0
    """Of tests, and files of which no test is known."""
    broken: Count = 0
    whole: Count = 0
    """Files whose tests are not known before they run."""

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id


@dataclass(frozen=True, slots=True)
class SuiteDivided:
    """Decided: what runs where; told by so many ``suite.pooled``."""

    TYPE: ClassVar[str] = "suite.divided"

    run_id: RunToken
    parts: Count
    planned: Count
    """Tests that are to have a result."""
    predicted_seconds: Seconds = 0.0
    """How long they will probably take, from now on."""
    notes: tuple[Text, ...] = ()

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id


@dataclass(frozen=True, slots=True)
class SuitePooled:
    """Decided: these tests of a list are pulled from one queue, or no session can run them."""

    TYPE: ClassVar[str] = "suite.pooled"

    run_id: RunToken
    part: Count
    hardware: ClassName = ""
    tests: Annotated[tuple[Span, ...], Field(max_length=SPANS_MAX)] = ()
    """By number; the files that run as a whole have those from `WHOLE_FIRST`."""
    queue: Token | None = None
    requirements: Requirements = field(default_factory=lambda: ANYWHERE)
    sessions: Count = 0
    cause: Text = ""
    """Why no session can run them."""
    applies: Flag = True
    """False for tests that are not made for this class of hardware: they are skipped."""

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id


@dataclass(frozen=True, slots=True)
class NamedTest:
    """A test that became known by running."""

    file: Annotated[str, Field(min_length=1, max_length=4_096)]
    nodeid: NodeId


@dataclass(frozen=True, slots=True)
class SuiteRerunOrdered:
    """Decided: these tests, which failed, run again in new processes."""

    TYPE: ClassVar[str] = "suite.rerun_ordered"

    run_id: RunToken
    round: Ordinal
    part: Count
    parts: Ordinal
    """Of this round; one for each group of tests with the same wish."""
    queue: Token
    hardware: ClassName = ""
    tests: Annotated[tuple[Span, ...], Field(max_length=SPANS_MAX)] = ()
    named: Annotated[tuple[NamedTest, ...], Field(max_length=1_000)] = ()
    requirements: Requirements = field(default_factory=lambda: ANYWHERE)
    avoid_workers: Annotated[tuple[WorkerToken, ...], Field(max_length=8)] = ()
    """On which they failed."""
    sessions: Ordinal = 1
    first_session: Count = 0
    """Number of the first of them among the sessions of the round."""

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id


CutCause = Literal[
    "cancelled",
    "failures",
    "stopped",
    "timeout",
    "unmatched",
    "uncollectable",
    "invalid",
    "empty",
]
"""Why a run of a suite ends before its tests have: a client cancelled it; it had as many failures
as it may have; the suite stopped itself; its time is over; no worker can ever run the rest; the
suite cannot be collected; the document makes no sense; there is no test."""


@dataclass(frozen=True, slots=True)
class SuiteCut:
    """Decided: nothing more of the suite is started, and what runs is stopped."""

    TYPE: ClassVar[str] = "suite.cut"

    run_id: RunToken
    cause: CutCause
    detail: Text = ""
    hint: Text = ""
    """What may help."""

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id


@dataclass(frozen=True, slots=True)
class SuiteEnded:
    """Decided: the suite has ended, with these sums."""

    TYPE: ClassVar[str] = "suite.ended"

    run_id: RunToken
    exit_code: Annotated[Integer, Field(ge=0, le=255)]
    """As of `dtest test`."""
    counts: dict[Token, Count] = field(default_factory=dict)
    """How many results have each verdict."""
    planned: Count = 0

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id
