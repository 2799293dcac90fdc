"""Facts about breakers: they keep work off a worker or device, or hold back a kind of task."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dtest.events.fields import Instant, Ordinal, TaskToken, WorkerToken

BreakerId = Annotated[str, Field(min_length=1, max_length=300)]
"""``worker:<name>``, ``device:<worker>/<device>``, ``signature:<text>`` or ``revision:<label>``."""


@dataclass(frozen=True, slots=True)
class BreakerOpened:
    """Decided: nothing more goes to this worker or device, or of this kind of task, for now."""

    TYPE: ClassVar[str] = "breaker.opened"

    breaker_id: BreakerId
    until: Instant
    """One attempt is tried then."""
    cause: Literal["consecutive_faults", "fleet_guard", "probe_faulted", "device_fault"]
    """``fleet_guard``: many workers tripped on it, so they are not to blame."""
    count: Ordinal = 1
    """Openings in a row."""
    workers: Annotated[tuple[WorkerToken, ...], Field(max_length=64)] = ()
    """Where it faulted."""

    @property
    def entity_id(self) -> str:
        """The breaker."""
        return self.breaker_id


@dataclass(frozen=True, slots=True)
class BreakerHalfOpened:
    """Decided: one attempt is tried; it closes the breaker or opens it again."""

    TYPE: ClassVar[str] = "breaker.half_opened"

    breaker_id: BreakerId
    probe: TaskToken | None = None
    """The task that is tried; a worker's breaker takes the next that comes."""
    until: Instant | None = None
    """If nothing was tried by then, work passes again."""

    @property
    def entity_id(self) -> str:
        """The breaker."""
        return self.breaker_id


@dataclass(frozen=True, slots=True)
class BreakerClosed:
    """Decided: work passes again."""

    TYPE: ClassVar[str] = "breaker.closed"

    breaker_id: BreakerId
    cause: Literal["probe_passed", "fleet_guard", "nothing_ran", "registered_again", "operator"]
    """``fleet_guard``: the faults were those of a revision or signature, and are taken back.
    ``registered_again``: a new start of the agent found its devices anew."""

    @property
    def entity_id(self) -> str:
        """The breaker."""
        return self.breaker_id
