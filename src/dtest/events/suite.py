"""Facts about suites: what a run is to prove."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from dtest.events.fields import Count, Flag, RunToken, Text

HARDWARE_CLASS = "hardware_class"
"""The label of tasks that names what their tests' results are kept under."""
NODEIDS_MAX = 2_000
"""Of one event."""
NodeId = Annotated[str, Field(min_length=1, max_length=262_144)]


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
