"""Facts about suites: what was asked for, what there is, what of it runs where, what came of it."""

from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dtest.events.environment import Argument, Digest, Environment
from dtest.events.fields import (
    Count,
    Document,
    Flag,
    Integer,
    Labels,
    Name,
    Ordinal,
    RunToken,
    Seconds,
    SecondsAboveZero,
    Text,
    Token,
    WorkerToken,
    no_labels,
)
from dtest.events.runner import Runner
from dtest.events.task import ANYWHERE, Requirements

HARDWARE_CLASS = "hardware_class"
"""The label of tasks that names what their tests' results are kept under."""
NODEIDS_MAX = 2_000
"""Of one event."""
NodeId = Annotated[str, Field(min_length=1, max_length=262_144)]
ClassName = Annotated[str, Field(max_length=200)]
"""Of a class of hardware; empty where results are kept under the kind that a session got."""
Span = tuple[Count, Count]
"""The first and the last of consecutive numbers."""
WHOLE_FIRST = 1_000_000_000
"""Number of the first file of a list that runs as a whole; tests have the numbers from 0."""
SPANS_MAX = 20_000
"""Of one event."""
RERUNS_MAX = 10
SESSIONS_MAX = 64
"""Of one class of hardware, at the same time."""


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """A test that is to have a result."""

    number: Count
    """What it is known by within the plan."""
    nodeid: NodeId
    cause: Text = ""
    """Why no session can run it, if so."""
    applies: Flag = True
    """False for a test that is not made for this class of hardware: it is skipped."""


@dataclass(frozen=True, slots=True)
class SuitePlanned:
    """A client planned tests of a run: each is to have a result, or is not proven.

    A large plan is told by several events, each with other tests.
    """

    TYPE: ClassVar[str] = "suite.planned"

    run_id: RunToken
    total: Count
    """How many tests the plan has on this class of hardware, over all of its events."""
    hardware: Annotated[str, Field(max_length=200)] = ""
    """Empty where results are kept under the kind that a session got."""
    tests: Annotated[tuple[PlannedTest, ...], Field(max_length=NODEIDS_MAX)] = ()
    files: Annotated[tuple[NodeId, ...], Field(max_length=NODEIDS_MAX)] = ()
    """Files, and names of no test, whose collection is a result of its own."""

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id


# -- what was asked for --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the collected tests, and which of them first."""

    keyword: Annotated[str, Field(max_length=10_000)] = ""
    """Only tests whose names match, where the runner does not choose by itself as pytest does."""
    last_failed: Flag = False
    """Only tests that failed when they last ran; all, if none did."""
    failed_first: Flag = False
    """All tests, those that failed when they last ran first."""


@dataclass(frozen=True, slots=True)
class MutedTest:
    """An entry of the list of known flaky tests: its tests run, are shown, and do not gate."""

    test: Annotated[str, Field(min_length=1, max_length=10_000)]
    """A node id, or the file or class around it, or one without parameters; ``*`` is any text."""
    reason: Text
    expires: date
    """The last day on which it holds."""
    issue: Text = ""


@dataclass(frozen=True, slots=True)
class SuiteSubmitted:
    """A client asked for a run of a suite: all that the cell needs to carry it to its end."""

    TYPE: ClassVar[str] = "suite.submitted"

    run_id: RunToken
    name: Name = "tests"
    """By which the cell knows the suite again: how long its tests take, and which failed."""
    cwd: Annotated[str, Field(min_length=1, max_length=4_096)] = "."
    """Where the suite lies: absolute, on each worker; or within the workspace."""
    workspace: Digest | None = None
    """The tree that was shipped."""
    environment: Environment | None = None
    """What the interpreter's environment is built of, in the place of ``python``."""
    python: Annotated[str, Field(min_length=1, max_length=4_096)] | None = None
    """Interpreter that holds the project's requirements; by default the agent's."""
    runner: Runner | None = None
    """What runs the tests; by default pytest."""
    paths: Annotated[tuple[Argument, ...], Field(max_length=10_000)] = ()
    """Files, directories or node ids; by default what the suite's own settings say."""
    args: Annotated[tuple[Argument, ...], Field(max_length=10_000)] = ()
    """Options of pytest."""
    env: dict[str, str] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)
    on: Annotated[str, Field(max_length=10_000)] = ""
    """Classes of hardware, each of which runs the suite once, as ``cuda | rocm``."""
    rules: Annotated[tuple[Document, ...], Field(max_length=1_000)] = ()
    """What tests ask for, each as an entry of ``[[tool.dtest.requirements]]``."""
    sessions: Annotated[Ordinal, Field(le=SESSIONS_MAX)] | None = None
    """How many run at once for each requirement and class of hardware; by default as many as
    workers have room for."""
    timeout_seconds: SecondsAboveZero | None = None
    """Longest time of the run; then it is cut."""
    test_timeout_seconds: SecondsAboveZero | None = None
    memory_limit_gb: Annotated[float, Field(gt=0)] | None = None
    """Of a session, GB (10^9 bytes)."""
    failures_max: Ordinal | None = None
    """The run is cut after so many failures; by default what the suite's own settings say."""
    reruns: Annotated[Count, Field(le=RERUNS_MAX)] = 0
    """What failed runs again, so often, each time in a new process. What passes then is flaky."""
    fail_unmatched: Flag = False
    """The run is cut when a session or tests wait for what no worker has."""
    muted: Annotated[tuple[MutedTest, ...], Field(max_length=10_000)] = ()
    recalls: Flag = False
    """The client has stored what it knows of earlier runs before this fact."""
    labels: Labels = field(default_factory=no_labels)
    """Of the run."""

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id


# -- what there is -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Marks:
    """What marks say of a test."""

    names: tuple[str, ...] = ()
    """Of all markers but pytest's own and ``dtest``, sorted."""
    asked: tuple[tuple[list[Any], dict[str, Any]], ...] = ()
    """Arguments and keywords of each mark ``dtest``, the one nearest to the test first."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function whose tests differ in their parameters; or one of a kind that is no function."""

    file: str
    name: str
    """With its class, without parameters."""
    count: int
    """How many tests it has, before anybody chooses among them."""
    names: str
    """Digest of their names."""


@dataclass(frozen=True, slots=True)
class ListPart:
    """Some tests of a list, in the order of collection, which numbers them."""

    parts: int
    """How many parts the list has."""
    tests: tuple[tuple[str, str], ...]
    """Node id of each, and the group of tests that it has to stay together with."""
    broken: tuple[str, ...] = ()
    """Files that cannot be collected, and node ids of no test."""
    skipped: tuple[str, ...] = ()
    """Files that skip themselves as a whole."""
    failures_max: int = 0
    """What the suite's own settings say of ``--maxfail``; 0 for no limit."""
    whole: tuple[str, ...] = ()
    """Files whose tests are not known before they run."""
    marks: tuple[Marks, ...] = ()
    """The distinct sets of marks."""
    marked: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Which of them each test has; nothing where no test has any."""
    functions: tuple[Function, ...] = ()
    """Of the tests; none where the runner knows them by name."""
    places: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], str], ...] = ()
    """Function of each test, its index there, and its brief name if its node id is long."""
    notes: tuple[str, ...] = ()
    """What the session has to say of options that it does not follow."""

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that name nothing."""
        if self.marked and len(self.marked) != len(self.tests):
            message = f"marked has {len(self.marked)} numbers for {len(self.tests)} tests"
            raise ValueError(message)
        if any(number >= len(self.marks) for number in self.marked):
            message = f"marked names more than {len(self.marks)} sets of marks"
            raise ValueError(message)
        if self.places and len(self.places) != len(self.tests):
            message = f"places has {len(self.places)} places for {len(self.tests)} tests"
            raise ValueError(message)
        if any(function >= len(self.functions) for function, _, _ in self.places):
            message = f"places names more than {len(self.functions)} functions"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class SuiteListed:
    """A part of a list of tests. Equal lists are told once; runs refer to them by their digest."""

    TYPE: ClassVar[str] = "suite.listed"

    digest: Digest
    """SHA-256 of the parts, each as compact JSON in the order of its fields."""
    part: Count
    content: ListPart

    @property
    def entity_id(self) -> str:
        """The list."""
        return self.digest


# -- what was decided ----------------------------------------------------------------------------


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
