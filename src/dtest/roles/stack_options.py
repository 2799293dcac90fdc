"""What a stack is made of: its options, and the roles that follow from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dtest.events.names import CellId
from dtest.runtime.nats_cluster import Place
from dtest.runtime.nats_server import LOOPBACK

if TYPE_CHECKING:
    from dtest.journal.connection import NatsAddress

RESTART_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What to start."""

    cell: CellId
    state_dir: Path
    workers: int = 2
    slots: int | None = None
    """Of each real worker; by default what it detects."""
    simulate: str = ""
    """As ``cuda:2,rocm:1``."""
    simulate_slots: int = 4
    simulate_seconds: float = 0.1
    schedulers: int = 1
    """One leads, the others stand by."""
    conductors: int = 1
    """Of runs of suites: one conducts, the others stand by."""
    api: bool = True
    api_port: int = 0
    host: str = LOOPBACK
    """The address of this machine at which the API, and brokers without a place, listen."""
    second_api: bool = False
    """Beside the first, at the address and in the place that ``overrides`` give it."""
    nats: "NatsAddress | None" = None
    """A broker that runs already; by default an embedded one is started."""
    nodes: int | None = None
    """How many embedded brokers; by default those whose stores are there, or one."""
    replicas: int | None = None
    """How many of them keep each new stream; by default all."""
    first: bool = False
    """A suite is handed in as soon as it can be; see ``runtime.first_suite``."""
    brokers_only: bool = False
    """Start the brokers, make the streams, and leave the roles to somebody else."""
    broker_port: int = 0
    """Of a single embedded broker; by default a free one."""
    broker_places: Sequence[Place] = ()
    """Where each embedded broker runs; by default all at ``host``."""
    starters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words before the command of single roles: what starts them elsewhere, as in a namespace."""
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What single processes, by their names here, find otherwise in their environment."""
    drain_s: float = 2.0
    restart_s_max: float = RESTART_S_MAX
    """Longest pause before what ends again and again is started once more."""


def roles_of(options: StackOptions) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yield name, module and arguments of each; first those that take the longest to load."""

    def several(name: str, count: int) -> list[str]:
        return [name if number == 1 else f"{name} {number}" for number in range(1, count + 1)]

    for name in several("api", options.api + options.second_api):
        yield name, "api", ()
    for number in range(1, options.workers + 1):
        arguments = ["--name", f"local-{number}", "--drain-seconds", str(options.drain_s)]
        if options.slots is not None:
            arguments += ["--slots", str(options.slots)]
        yield f"agent local-{number}", "agent_main", arguments
    for name in several("scheduler", options.schedulers):
        yield name, "scheduler", ()
    for name in several("conductor", options.conductors):
        yield name, "conductor", ()
    if options.simulate:
        arguments = ["--simulate", options.simulate]
        arguments += ["--slots", str(options.simulate_slots)]
        arguments += ["--simulate-seconds", str(options.simulate_seconds)]
        yield "simulation", "agent_main", arguments
