"""The settings of scheduling as one frozen value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """Limits of one decision. Order is kept by the queues, ranking is chosen by an event."""

    assignments_max: int = 2_000
    """Most assignments of one decision."""
    keep_room_after_s: float = 10.0
    """Room is kept for a task that waited so long for more than is free at once."""


DEFAULT_SCHEDULING = SchedulingPolicy()
