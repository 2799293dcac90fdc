"""Facts about leadership and about messages that were not accepted."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from dtest.events.fields import Count, Name, Ordinal, Text, Token
from dtest.events.parameters import Stated
from dtest.events.reasons import RefusalCode


@dataclass(frozen=True, slots=True)
class LeaderElected:
    """A scheduler took the lead; the sequence number of this very event is its epoch."""

    TYPE: ClassVar[str] = "leader.elected"

    leader_id: Token
    previous_epoch: Count = 0
    host: Annotated[str, Field(max_length=200)] = ""
    version: Annotated[str, Field(max_length=50)] = ""
    rules: Count = 0
    """Version of the rules by which this term decides; 0 where none was recorded."""
    parameters: Stated = field(default_factory=dict)
    """The value of each parameter, until a strategy or a client changes it."""
    strategies: dict[Name, Stated] = field(default_factory=dict)
    """The parameters that each strategy changes."""

    @property
    def entity_id(self) -> str:
        """The leader."""
        return self.leader_id


@dataclass(frozen=True, slots=True)
class EventRefused:
    """Decided: an event of the journal is not accepted. Its bytes stay where they are."""

    TYPE: ClassVar[str] = "event.refused"

    refused_seq: Ordinal
    index: Count
    """Position inside a batch, from 0."""
    code: RefusalCode
    detail: Text
    refused_subject: Name

    @property
    def entity_id(self) -> str:
        """The sequence number of the refused message."""
        return str(self.refused_seq)
