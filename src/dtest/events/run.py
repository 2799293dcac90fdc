"""Facts about a run: one submission, a set of tasks that belong together."""

from dataclasses import dataclass, field
from typing import ClassVar

from dtest.events.fields import Labels, Name, RunToken, Text, no_labels


@dataclass(frozen=True, slots=True)
class RunOpened:
    """A client opened a run; a run that tasks merely name is opened by its first task."""

    TYPE: ClassVar[str] = "run.opened"

    run_id: RunToken
    name: Name = "run"
    labels: Labels = field(default_factory=no_labels)

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id


@dataclass(frozen=True, slots=True)
class RunCancelRequested:
    """A client asked to cancel every task of the run that has not ended."""

    TYPE: ClassVar[str] = "run.cancel_requested"

    run_id: RunToken
    reason: Text = ""

    @property
    def entity_id(self) -> str:
        """The run."""
        return self.run_id
