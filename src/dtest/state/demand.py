"""A demand: everything of a task that matters for choosing its worker.

Tasks with equal demands share one queue, so the cost of matching grows with the number of
distinct demands, not with the number of queued tasks.
"""

from dataclasses import dataclass, field, replace

from sortedcontainers import SortedList

from dtest.events.fields import TaskId, WorkerId
from dtest.events.task import ANYWHERE, ONE_SLOT, Remedy, Requirements, Resources, TaskQueued

ACCELERATORS_EXCEPTED = frozenset({"cpu", "webgpu", "webnn"})
"""Kinds of hardware of which an attempt reserves no device by default."""

NO_REMEDY = Remedy()
DemandKey = tuple[object, ...]
Entry = tuple[float, int, int, TaskId]
"""``(order, seq, index, task)``."""
Offer = dict[str, tuple[str, ...]]
"""The kinds of hardware of one worker that match, preferred first, each with the devices that
satisfy the requirements (none for plain processors)."""


@dataclass(slots=True, eq=False)
class Demand:
    """One distinct demand, its queue and the workers that could meet it when idle."""

    key: DemandKey
    type: str
    requirements: Requirements
    resources: Resources
    simulable: bool = False
    """The tasks say what a simulated worker may do in their stead; others need a real one."""
    queue: "SortedList[Entry]" = field(default_factory=SortedList)
    servers: dict[WorkerId, Offer] = field(default_factory=dict)
    unfinished: int = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of hardware that will do."""
        return self.requirements.hardware or ("cpu",)

    def devices_for(self, kind: str) -> int:
        """How many devices of that kind an attempt reserves."""
        if self.resources.devices is not None:
            return 0 if kind == "cpu" else self.resources.devices
        return 0 if kind in ACCELERATORS_EXCEPTED else 1


def enlarged(spec: TaskQueued, remedy: Remedy) -> TaskQueued:
    """Return the task as it would stand if it asked for what a remedy gives it."""
    if not remedy.enlarges:
        return spec
    needs = spec.requirements
    more = replace(
        needs,
        min_memory_gb=max(needs.min_memory_gb, remedy.min_memory_gb),
        min_device_memory_gb=max(needs.min_device_memory_gb, remedy.min_device_memory_gb),
    )
    return replace(spec, requirements=more)


def key_of(spec: TaskQueued) -> DemandKey:
    """Return equal keys for tasks that can run in the same places."""
    needs, takes = spec.requirements, spec.resources
    if needs == ANYWHERE and takes == ONE_SLOT:
        return (spec.type, "simulate" in spec.config)
    return (
        spec.type,
        "simulate" in spec.config,
        needs.hardware,
        needs.min_memory_gb,
        needs.min_device_memory_gb,
        needs.min_cuda_compute,
        needs.browser,
        needs.device_type,
        tuple(sorted(needs.labels.items())),
        takes.slots,
        takes.cpus,
        takes.memory_gb,
        takes.devices,
    )
