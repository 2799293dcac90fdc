"""The settings of scheduling as one frozen value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """Limits of one decision. Order is kept by the queues, ranking is chosen by an event."""

    assignments_max: int = 2_000
    """Most assignments of one decision."""
    keep_room_after_s: float = 10.0
    """Room is kept for a task that waited so long for more than is free at once."""
    observed_passes_min: int = 20
    """So many runs of a signature must have passed before a time-out follows from them."""
    observed_quantile: float = 0.99
    observed_multiplier: float = 1.5
    """A time-out is so many times what that part of the runs took at most."""
    observed_floor_s: float = 60.0
    """The shortest time-out that follows from observation."""


DEFAULT_SCHEDULING = SchedulingPolicy()
