"""The settings of scheduling as one frozen value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """Priority with ageing; the order itself is kept by the queues (``dtest.state.cell``)."""

    name: str = "priority"
    assignments_max: int = 2_000
    """Most assignments of one decision."""


DEFAULT_SCHEDULING = SchedulingPolicy()
