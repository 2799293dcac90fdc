"""Facts about who conducts the runs of suites."""

from dataclasses import dataclass
from typing import ClassVar

from dtest.events.fields import Count, Text, Token


@dataclass(frozen=True, slots=True)
class ConductorElected:
    """A conductor took office. Its sequence number fences all that it writes."""

    TYPE: ClassVar[str] = "conductor.elected"

    conductor_id: Token
    previous_epoch: Count = 0
    """Sequence number of the election before; 0 for the first."""
    host: Text = ""
    version: Text = ""

    @property
    def entity_id(self) -> str:
        """The conductor."""
        return self.conductor_id
