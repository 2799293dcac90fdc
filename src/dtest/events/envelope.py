"""The envelope around every fact (CloudEvents 1.0) and the record of it in the journal."""

import re
from dataclasses import dataclass, field

from dtest.events.catalogue import Payload
from dtest.events.fields import EventId
from dtest.events.reasons import RefusalCode

_CORRELATION = re.compile(r"([0-9]{1,19})\.([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Event:
    """One fact in its envelope."""

    id: EventId
    source: str
    """``/dtest/<cell>/<role>/<name>``."""
    time: float
    """When the writer says it happened, seconds since 1970 UTC."""
    data: Payload
    correlation: str | None = None
    """For a decision: ``<epoch>.<basis>``, shared by all that was decided together."""
    version: int | None = field(default=None, compare=False)
    """Of its type, as it was written; none for one that this process made."""

    @property
    def type(self) -> str:
        """``<entity>.<event>``."""
        return self.data.TYPE


@dataclass(frozen=True, slots=True)
class Malformed:
    """An event of the journal that cannot be accepted as written."""

    code: RefusalCode
    detail: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message of the journal: one event, or several of a batch, at one sequence number."""

    seq: int
    subject: str
    stored_at: float
    """When the server stored it, seconds since 1970 UTC."""
    events: tuple[Event | Malformed, ...]


@dataclass(frozen=True, slots=True)
class Correlation:
    """The identity of a decision."""

    epoch: int
    basis: int

    def __str__(self) -> str:
        """Return the wire form."""
        return f"{self.epoch}.{self.basis}"

    @staticmethod
    def parse(text: str | None) -> "Correlation | None":
        """Read the wire form; none for anything else."""
        match = _CORRELATION.fullmatch(text or "")
        return Correlation(int(match[1]), int(match[2])) if match is not None else None
