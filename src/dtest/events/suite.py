"""Facts that clients state of suites: what is to run, and plans of their own."""

from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, ClassVar

from pydantic import Field

from dtest.events.environment import Argument, Digest, Environment
from dtest.events.fields import (
    Count,
    Document,
    Flag,
    Labels,
    Name,
    Number,
    Ordinal,
    RunToken,
    SecondsAboveZero,
    Text,
    no_labels,
)
from dtest.events.runner import Runner

HARDWARE_CLASS = "hardware_class"
"""The label of tasks that names what their tests' results are kept under."""
NODEIDS_MAX = 2_000
"""Of one event."""
NodeId = Annotated[str, Field(min_length=1, max_length=262_144)]
ClassName = Annotated[str, Field(max_length=200)]
"""Of a class of hardware; empty where results are kept under the kind that a session got."""
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
    memory_limit_gb: Annotated[Number, Field(gt=0)] | None = None
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
