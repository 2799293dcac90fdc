"""The settings of scheduling as one frozen value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """Limits of one decision. Order is kept by the queues, ranking is chosen by an event."""

    assignments_max: int = 2_000
    """Most assignments of one decision."""


DEFAULT_SCHEDULING = SchedulingPolicy()
