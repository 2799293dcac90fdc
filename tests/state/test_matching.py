"""Which worker could ever run a task: every requirement is met, or its refusal says why not."""

from random import Random
from typing import Any

import pytest

from dtest.events.fields import TaskId
from dtest.events.task import Requirements, Resources, TaskQueued
from dtest.events.worker import Browser, Capability, Device
from dtest.state.cell import Cell
from dtest.state.demand import Demand, key_of
from dtest.state.matching import Refusal, match
from dtest.state.worker import Worker, whole
from tests.kit import facts
from tests.kit.facts import cuda, machine
from tests.kit.histories import registered, requirements, resources
from tests.kit.search import CASES


def demand(needs: Requirements, takes: Resources | None = None, **config: Any) -> Demand:
    takes = takes or Resources()
    spec = TaskQueued(TaskId("t"), "command", config, requirements=needs, resources=takes)
    return Cell(facts.CELL).demand_of(spec)


def worker(has: Capability, *, simulated: bool = False) -> Worker:
    return Worker(
        facts.registered("w").worker_id, "i1", "host", has, simulated, whole(has), 0.0, 0, None
    )


ROCM = Device("rocm", 0, "MI300X", 192.0)
CASES_OF_REFUSAL: list[tuple[Requirements, Resources, Capability, str]] = [
    (Requirements(min_memory_gb=65), Resources(), machine(), "needs 65 GB of memory, has 64.0"),
    (Requirements(), Resources(memory_gb=65), machine(), "needs 65 GB of memory, has 64.0"),
    (Requirements(), Resources(cpus=2), machine(1), "needs 2 processors, has 1"),
    (Requirements(), Resources(slots=2), machine(1), "needs 2 slots, has 1"),
    (Requirements(device_type="mobile"), Resources(), machine(), "needs a mobile, is a server"),
    (
        Requirements(browser="firefox"),
        Resources(),
        machine(browsers=(Browser("chrome"),)),
        "needs the browser firefox",
    ),
    (
        Requirements(labels={"room": "2"}),
        Resources(),
        machine(labels={"room": "1"}),
        "needs the label room=2, has '1'",
    ),
    (Requirements(("cuda",)), Resources(), machine(), "has no cuda"),
    (Requirements(("cuda", "rocm")), Resources(), machine(), "has no cuda; has no rocm"),
    (
        Requirements(("cuda",)),
        Resources(devices=2),
        machine(1, cuda()),
        "needs 2 cuda devices, has 1",
    ),
    (
        Requirements(("cuda",), min_cuda_compute=9.0),
        Resources(),
        machine(1, cuda()),
        "needs CUDA compute 9, has 8.9",
    ),
    (
        Requirements(("cuda",), min_device_memory_gb=40),
        Resources(),
        machine(1, cuda()),
        "needs 40 GB on one cuda device, has 24.0",
    ),
    (
        Requirements(("cuda",), min_device_memory_gb=40),
        Resources(),
        machine(1, cuda(memory_gb=None)),
        "needs 40 GB on one cuda device, has 0.0",
    ),
    (Requirements(), Resources(), machine(task_types=("test",)), "does not run tasks of type"),
]


@pytest.mark.parametrize(("needs", "takes", "has", "text"), CASES_OF_REFUSAL)
def test_a_refusal_names_what_is_needed_and_what_is_there(
    needs: Requirements, takes: Resources, has: Capability, text: str
) -> None:
    offer = match(demand(needs, takes), worker(has))

    assert isinstance(offer, Refusal)
    assert text in offer.text


@pytest.mark.parametrize(
    ("needs", "takes", "has", "expected"),
    [
        (Requirements(), Resources(), machine(), {"cpu": ()}),
        (Requirements(), Resources(), machine(1, cuda()), {"cpu": ()}),
        (Requirements(("cuda",)), Resources(), machine(1, cuda()), {"cuda": ("cuda:0",)}),
        (
            Requirements(("rocm", "cuda", "cpu")),
            Resources(),
            machine(1, cuda(), ROCM),
            {"rocm": ("rocm:0",), "cuda": ("cuda:0",), "cpu": ()},
        ),
        (
            Requirements(("cuda",), min_device_memory_gb=40),
            Resources(),
            machine(1, cuda(0), cuda(1, 80.0), cuda(2, 48.0)),
            {"cuda": ("cuda:1", "cuda:2")},
        ),
        (
            Requirements(("cuda", "rocm"), min_cuda_compute=9.0),
            Resources(),
            machine(1, cuda(), ROCM),
            {"rocm": ("rocm:0",)},
        ),
        (
            Requirements(("cuda",), min_cuda_compute=9.0),
            Resources(),
            machine(1, cuda(0, compute=8.0), cuda(1, compute=9.0), cuda(2, compute=None)),
            {"cuda": ("cuda:1",)},
        ),
        (
            Requirements(browser="firefox", device_type="server", labels={"a": "b"}),
            Resources(),
            machine(browsers=(Browser("firefox"),), labels={"a": "b", "c": "d"}),
            {"cpu": ()},
        ),
    ],
)
def test_an_offer_names_the_kinds_in_the_order_of_preference_with_their_fitting_devices(
    needs: Requirements, takes: Resources, has: Capability, expected: dict[str, tuple[str, ...]]
) -> None:
    offer = match(demand(needs, takes), worker(has))

    assert offer == expected
    assert list(offer) == list(expected)


def test_a_simulated_worker_takes_only_what_says_what_to_simulate() -> None:
    assert isinstance(match(demand(Requirements()), worker(machine(), simulated=True)), Refusal)
    willing = demand(Requirements(), simulate={"seconds": 1})
    assert match(willing, worker(machine(), simulated=True)) == {"cpu": ()}
    assert match(willing, worker(machine())) == {"cpu": ()}


def test_an_offer_meets_every_requirement() -> None:
    for seed in range(CASES):
        rng = Random(seed)
        needs, takes = requirements(rng), resources(rng)
        has = registered(rng).capability
        one = demand(needs, takes)
        offer = match(one, worker(has))
        if isinstance(offer, Refusal):
            assert offer.text
            continue
        assert needs.min_memory_gb <= has.memory_gb
        assert takes.memory_gb <= has.memory_gb
        assert takes.cpus <= has.cpus
        assert takes.slots <= has.slots
        assert needs.browser in {None, *(browser.name for browser in has.browsers)}
        assert needs.labels.items() <= has.labels.items()
        assert set(offer) <= set(needs.hardware or ("cpu",))
        for kind, names in offer.items():
            devices = [device for device in has.devices if device.device_id in names]
            assert all(device.kind == kind for device in devices)
            assert len(devices) >= one.devices_for(kind)
            for device in devices:
                assert (device.memory_gb or 0.0) >= needs.min_device_memory_gb
                assert kind != "cuda" or (device.compute or 0.0) >= needs.min_cuda_compute


def test_equal_demands_share_a_queue_and_different_ones_do_not() -> None:
    kinds: dict[object, tuple[Requirements, Resources]] = {}
    for seed in range(CASES):
        rng = Random(seed)
        needs, takes = requirements(rng), resources(rng)
        key = key_of(TaskQueued(TaskId("t"), "x", requirements=needs, resources=takes))
        assert kinds.setdefault(key, (needs, takes)) == (needs, takes)
