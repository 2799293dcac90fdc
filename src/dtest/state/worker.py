"""What is known of one worker, and what of it is free."""

from dataclasses import dataclass, field
from enum import StrEnum

from dtest.events.fields import TaskId, WorkerId
from dtest.events.task import Resources
from dtest.events.worker import Capability
from dtest.state.demand import Demand
from dtest.state.health import TRYING, DeviceHealth, Guard, Health


class WorkerStatus(StrEnum):
    """Where a worker is in its life."""

    ACTIVE = "active"
    DRAINING = "draining"
    SUSPECTED = "suspected"
    LOST = "lost"
    LEFT = "left"


GONE = frozenset({WorkerStatus.LOST, WorkerStatus.LEFT})


Shortage = tuple[int, int, float, float]
"""Missing slots, devices, processors and gigabytes of memory."""


@dataclass(slots=True)
class Capacity:
    """What of a worker is free. Copied by a decision that plans with it."""

    slots: int
    cpus: float
    memory_gb: float
    devices: dict[str, tuple[str, ...]]

    def copy(self) -> "Capacity":
        """Return an independent copy."""
        return Capacity(self.slots, self.cpus, self.memory_gb, dict(self.devices))

    def fits(self, demand: Demand, kind: str, fitting: tuple[str, ...]) -> bool:
        """Say whether an attempt can start now on hardware of that kind, on fitting devices."""
        takes = demand.resources
        if (
            self.slots < takes.slots
            or (takes.cpus > 0 and self.cpus < _exact(takes.cpus))
            or (takes.memory_gb > 0 and self.memory_gb < _exact(takes.memory_gb))
        ):
            return False
        wanted = demand.devices_for(kind)
        return not wanted or len(self._free(kind, fitting)) >= wanted

    def take(self, demand: Demand, kind: str, fitting: tuple[str, ...]) -> tuple[str, ...]:
        """Reserve for one attempt that fits; return the names of the reserved devices."""
        wanted = demand.devices_for(kind)
        devices = self._free(kind, fitting)[:wanted] if wanted else ()
        self.take_named(demand, kind, devices)
        return devices

    def shortage(self, demand: Demand, kind: str, fitting: tuple[str, ...]) -> Shortage:
        """Return what is missing for an attempt on hardware of that kind; all 0 when it fits."""
        takes = demand.resources
        return (
            max(0, takes.slots - self.slots),
            max(0, demand.devices_for(kind) - len(self._free(kind, fitting))),
            max(0.0, _exact(takes.cpus - self.cpus)),
            max(0.0, _exact(takes.memory_gb - self.memory_gb)),
        )

    def keep(self, demand: Demand, kind: str, fitting: tuple[str, ...]) -> None:
        """Leave to others nothing that an attempt needs, though it is too little as yet."""
        takes = demand.resources
        self.slots = max(0, self.slots - takes.slots)
        self.cpus = max(0.0, _exact(self.cpus - takes.cpus))
        self.memory_gb = max(0.0, _exact(self.memory_gb - takes.memory_gb))
        kept = self._free(kind, fitting)[: demand.devices_for(kind)]
        if kept:
            free = self.devices.get(kind, ())
            self.devices[kind] = tuple(name for name in free if name not in kept)

    def _free(self, kind: str, fitting: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in self.devices.get(kind, ()) if name in fitting)

    def take_named(self, demand: Demand, kind: str, devices: tuple[str, ...]) -> None:
        """Reserve for one attempt exactly these devices."""
        takes = demand.resources
        self._reserve(takes, 1)
        if devices:
            free = self.devices.get(kind, ())
            self.devices[kind] = tuple(name for name in free if name not in devices)

    def give_back(self, demand: Demand, kind: str, devices: tuple[str, ...]) -> None:
        """Free what one attempt had reserved."""
        takes = demand.resources
        self._reserve(takes, -1)
        if devices:
            self.devices[kind] = tuple(sorted((*self.devices.get(kind, ()), *devices)))

    def _reserve(self, takes: Resources, times: int) -> None:
        self.slots -= times * takes.slots
        if takes.cpus > 0:
            self.cpus = _exact(self.cpus - times * takes.cpus)
        if takes.memory_gb > 0:
            self.memory_gb = _exact(self.memory_gb - times * takes.memory_gb)


@dataclass(slots=True)
class Worker:
    """One worker. Mutable, but changed only by the fold."""

    id: WorkerId
    incarnation: str
    host: str
    capability: Capability
    simulated: bool
    free: Capacity
    registered_at: float
    registered_seq: int
    pid: int | None
    drain: bool = False
    """A client asked that it takes no new work; holds as long as this very process runs."""
    status: WorkerStatus = WorkerStatus.ACTIVE
    evidence: str = ""
    running: dict[TaskId, int] = field(default_factory=dict)
    """Tasks that hold capacity here, with the attempt's number."""
    health: Health | None = None
    """What speaks against it; none as long as nothing ever did."""
    devices: dict[str, DeviceHealth] = field(default_factory=dict)
    """What speaks against its devices, by their names on it."""

    @property
    def takes_work(self) -> bool:
        """Say whether new attempts may go there."""
        if self.status is not WorkerStatus.ACTIVE:
            return False
        return self.health is None or self.health.lets_work_in

    @property
    def is_tried(self) -> bool:
        """Say whether it gets a single attempt, to see what becomes of it."""
        return self.health is not None and self.health.guard in TRYING

    def bars(self, device_id: str) -> bool:
        """Say whether a device gets no attempt, for it is suspect."""
        device = self.devices.get(device_id)
        return device is not None and device.guard is Guard.OPEN

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of hardware it has."""
        return frozenset({"cpu", *(device.kind for device in self.capability.devices)})


def _exact(amount: float) -> float:
    """Count in billionths: sums of fractions must come out even when all is given back."""
    return round(amount, 9)


def whole(capability: Capability) -> Capacity:
    """Return the capacity of a worker on which nothing runs."""
    devices: dict[str, tuple[str, ...]] = {}
    for device in capability.devices:
        devices[device.kind] = (*devices.get(device.kind, ()), device.device_id)
    return Capacity(
        capability.slots,
        _exact(capability.cpus),
        _exact(capability.memory_gb),
        {kind: tuple(sorted(names)) for kind, names in devices.items()},
    )
