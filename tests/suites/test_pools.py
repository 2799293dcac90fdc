"""Tests that ask for the same are one pool, and workers that have it say how many sessions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.events.fields import WorkerId
from dtest.events.task import ANYWHERE, Requirements
from dtest.events.worker import Capability, Device
from dtest.state.worker import Worker, whole
from dtest.suites.pools import capacity, divide
from dtest.suites.suite import Suite

CUDA = Requirements(hardware=("cuda",))
ROCM = Requirements(hardware=("rocm",))
LARGE = Requirements(min_memory_gb=8.0)


def suite(*names: str) -> Suite:
    return Suite(tuple((f"{name}", "") for name in names))


def worker(name: str, *kinds: str, simulated: bool = False, **has: Any) -> Worker:
    devices = tuple(Device(kind, kinds[:n].count(kind)) for n, kind in enumerate(kinds))
    capability = Capability(**{"slots": 4, "memory_gb": 4.0, "devices": devices, **has})
    free = whole(capability)
    return Worker(WorkerId(name), "i", "h", capability, simulated, free, 0.0, 0, None)


def test_tests_that_ask_for_the_same_are_one_pool() -> None:
    tests = suite("a.py::t", "a.py::gpu", "b.py::t", "a.py::u", "b.py::gpu")

    found = divide(tests, [ANYWHERE, CUDA, ANYWHERE, ANYWHERE, CUDA], ANYWHERE)

    told = [
        (pool.requirements, [(t.nodeid, t.test.number) for t in pool.tests]) for pool in found.pools
    ]
    assert told == [
        (ANYWHERE, [("a.py::t", 0), ("b.py::t", 2), ("a.py::u", 3)]),
        (CUDA, [("a.py::gpu", 1), ("b.py::gpu", 4)]),
    ]
    assert found.not_for_it == ()


def test_a_class_of_hardware_has_no_tests_that_ask_for_another() -> None:
    tests = suite("a.py::t", "a.py::gpu", "a.py::large")

    found = divide(tests, [ANYWHERE, CUDA, LARGE], ROCM)

    assert [pool.requirements for pool in found.pools] == [
        ROCM,
        Requirements(hardware=("rocm",), min_memory_gb=8.0),
    ]
    assert found.not_for_it == ((1, "a.py::gpu", "asks for cuda, not rocm"),)


def test_what_is_left_of_a_suite_keeps_its_numbers() -> None:
    chosen = suite("a.py::t", "a.py::u").only(lambda place: place == 1)

    (pool,) = divide(chosen, [ANYWHERE], ANYWHERE).pools

    assert [(each.nodeid, each.test.number) for each in pool.tests] == [("a.py::u", 1)]


@given(st.lists(st.sampled_from((ANYWHERE, CUDA, ROCM, LARGE))), st.sampled_from((ANYWHERE, CUDA)))
def test_every_test_is_in_one_pool_or_not_for_it(
    needs: list[Requirements], base: Requirements
) -> None:
    tests = suite(*(f"a.py::t{n}" for n in range(len(needs))))

    found = divide(tests, needs, base)

    pooled = [test.nodeid for pool in found.pools for test in pool.tests]
    elsewhere = [each.nodeid for each in found.not_for_it]
    assert sorted(pooled + elsewhere) == sorted(nodeid for nodeid, _ in tests.tests)
    assert all(pool.tests for pool in found.pools)


@pytest.mark.parametrize(
    ("requirements", "sessions"),
    [
        (ANYWHERE, 12),
        (CUDA, 3),
        (ROCM, 0),
        (LARGE, 4),
        (Requirements(hardware=("rocm", "cuda")), 3),
        (Requirements(hardware=("rocm", "cpu")), 12),
        (Requirements(browser="firefox"), 0),
    ],
)
def test_slots_and_devices_bound_the_sessions(requirements: Requirements, sessions: int) -> None:
    workers = [
        worker("plain"),
        worker("one", "cuda"),
        worker("two", *("cuda",) * 2, memory_gb=64.0),
        worker("sim", "rocm", simulated=True),
    ]

    found = capacity(requirements, workers)

    assert found.sessions == sessions
    assert bool(found.refusals) == (not sessions)
    assert bool(found.workers) == bool(sessions)


def test_who_lacks_what_is_said_of_the_first_workers() -> None:
    found = capacity(CUDA, [worker(f"w{n}") for n in range(5)])

    said = "w0 has no cuda; w1 has no cuda; w2 has no cuda; and 2 more"
    assert found.why_not == f"no worker can run it: {said}"
    assert capacity(CUDA, []).why_not == "no worker can run it: there is none"
