"""What a drill's cell consists of, and how its parts can be cut off."""

from dataclasses import dataclass
from enum import StrEnum

from dtest.events.parameters import Strategy


class Way(StrEnum):
    """How parts of a cell are cut off."""

    NETNS = "netns"
    """By network namespaces: a real network, whose cables are pulled."""
    PROXY = "proxy"
    """By a proxy on loopback that holds the bytes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a drill's cell consists of."""

    schedulers: int = 2
    conductors: int = 1
    workers: int = 2
    """Agents that run real processes."""
    slots: int = 4
    simulated: int = 2
    simulated_slots: int = 64
    on_wires: tuple[str, ...] = ()
    """Processes that can be cut off from the brokers."""
    one_way: bool = False
    """Whether a single direction has to be held, which a pulled cable cannot do."""
    brokers_on_wires: bool = False
    """Whether each broker can be cut off from everything, which a proxy cannot do: the brokers
    tell one another where they are."""
    second_api: bool = False
    small_disk: str = ""
    """A process whose directory lies on a file system of its own."""
    small_disk_mb: int = 24
    strategy: Strategy = "progressive"
    """How recovery goes about faults. Where a third of the workers is lost every few seconds, a
    task may well be lost as often as its budget allows, and is given up, as it should be."""

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways in which its wires can be made, the better one first; none without wires."""
        if self.brokers_on_wires:
            return (Way.NETNS,)
        if self.one_way:
            return (Way.PROXY,)
        return (Way.NETNS, Way.PROXY) if self.on_wires else ()
