"""Cut a suite into pools: tests that ask for the same are run by sessions on machines that have it.

What a worker has decides how many sessions a pool can keep busy; what is free there now does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dtest.events.fields import WorkerId
from dtest.events.task import ONE_SLOT, Requirements
from dtest.state.demand import Demand
from dtest.state.matching import Refusal, match
from dtest.state.worker import Worker
from dtest.suites.requirement import both, key_of
from dtest.suites.suite import Suite
from dtest.suites.unit import Test

REFUSALS_MAX = 3
"""So many workers are named with what they lack."""


class PoolTest(NamedTuple):
    """A test of a pool."""

    test: Test
    nodeid: str
    file: str
    group: str
    keys: tuple[str, str]
    """What names it in other runs: by its node id, and by its place."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Tests that ask for the same."""

    requirements: Requirements
    tests: tuple[PoolTest, ...]


class Unfit(NamedTuple):
    """A test that asks for other hardware."""

    number: int
    nodeid: str
    why: str


@dataclass(frozen=True, slots=True)
class Division:
    """A suite on one class of hardware."""

    pools: tuple[Pool, ...]
    """Those with tests; what asks for no more than the class itself comes first."""
    not_for_it: tuple[Unfit, ...] = ()


def divide(suite: Suite, needs: Sequence[Requirements], base: Requirements) -> Division:
    """Return the pools of a suite; ``needs`` are what its tests ask for, in their order."""
    joined: dict[int, tuple[tuple[object, ...], Requirements | Refusal]] = {}
    """By identity: tests share what they ask for, and a suite may have 100,000."""
    tests: dict[tuple[object, ...], list[PoolTest]] = {key_of(base): []}
    asked: dict[tuple[object, ...], Requirements] = {key_of(base): base}
    not_for_it: list[Unfit] = []
    rows = zip(suite.tests, needs, suite.keys(), strict=True)
    for place, ((nodeid, group), need, keys) in enumerate(rows):
        if id(need) not in joined:
            together = both(base, need)
            key = () if isinstance(together, Refusal) else key_of(together)
            joined[id(need)] = key, together
        key, wanted = joined[id(need)]
        if isinstance(wanted, Refusal):
            not_for_it.append(Unfit(suite.number_at(place), nodeid, wanted.text))
            continue
        asked.setdefault(key, wanted)
        found = PoolTest(suite.test_at(place), nodeid, suite.file_at(place), group, keys)
        tests.setdefault(key, []).append(found)
    pools = tuple(Pool(asked[key], tuple(some)) for key, some in tests.items() if some)
    return Division(pools, tuple(not_for_it))


@dataclass(frozen=True, slots=True)
class Capacity:
    """What workers could do for a pool."""

    sessions: int
    """So many at once, if nothing else ran."""
    refusals: tuple[str, ...] = ()
    """Where there is no room at all: what the workers lack."""
    workers: frozenset[WorkerId] = frozenset()
    """Those that could."""

    @property
    def why_not(self) -> str:
        """Say why no worker can run it."""
        more = len(self.refusals) - REFUSALS_MAX
        told = [*self.refusals[:REFUSALS_MAX], *([f"and {more} more"] if more > 0 else [])]
        return f"no worker can run it: {'; '.join(told) or 'there is none'}"


def capacity(requirements: Requirements, workers: Sequence[Worker]) -> Capacity:
    """Return how many sessions with these requirements the workers have room for."""
    demand = Demand((), "test", requirements, ONE_SLOT)
    sessions = 0
    able: set[WorkerId] = set()
    refusals: list[str] = []
    for worker in workers:
        offer = match(demand, worker)
        if isinstance(offer, Refusal):
            refusals.append(f"{worker.id} {offer.text}")
            continue
        able.add(worker.id)
        kind, devices = next(iter(offer.items()))
        slots = worker.capability.slots
        wanted = demand.devices_for(kind)
        sessions += min(slots, len(devices) // wanted) if wanted else slots
    return Capacity(sessions, () if sessions else tuple(refusals), frozenset(able))
