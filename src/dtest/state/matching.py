"""Which worker could ever run a task: filters, each with its reason for a refusal.

Looks at what a worker has, not at what is free there now. A suspect device is none that it has.
"""

from dataclasses import dataclass

from dtest.events.worker import Capability, Device
from dtest.state.demand import Demand, Offer
from dtest.state.worker import Worker


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a worker cannot run a task, in words."""

    text: str


def match(demand: Demand, worker: Worker) -> Offer | Refusal:
    """Return what of the worker matches, preferred kind first, or why nothing does."""
    if worker.simulated and not demand.simulable:
        return Refusal("is simulated, and the task does not say `config.simulate`")
    refusal = _machine(demand, worker.capability)
    if refusal is not None:
        return refusal
    offer: Offer = {}
    refusals: list[str] = []
    for kind in demand.kinds:
        if kind == "cpu":
            offer[kind] = ()
            continue
        has = [device for device in worker.capability.devices if device.kind == kind]
        of_kind = has
        if worker.devices:
            of_kind = [device for device in has if not worker.bars(device.device_id)]
        fitting = [device for device in of_kind if _device(demand, device)]
        wanted = max(1, demand.devices_for(kind))
        if len(fitting) >= wanted:
            offer[kind] = tuple(device.device_id for device in fitting)
        elif len(of_kind) < len(has):
            refusals.append(_suspect(worker, [item for item in has if item not in of_kind]))
        elif of_kind:
            refusals.append(_why_no_device(demand, kind, of_kind, wanted))
        else:
            refusals.append(f"has no {kind}")
    return offer or Refusal("; ".join(refusals))


def _machine(demand: Demand, has: Capability) -> Refusal | None:
    needs, takes = demand.requirements, demand.resources
    if demand.type not in has.task_types:
        return Refusal(f"does not run tasks of type {demand.type}")
    memory_gb = max(needs.min_memory_gb, takes.memory_gb)
    if memory_gb > has.memory_gb:
        return Refusal(f"needs {memory_gb:g} GB of memory, has {has.memory_gb:.1f}")
    if takes.cpus > has.cpus:
        return Refusal(f"needs {takes.cpus:g} processors, has {has.cpus:g}")
    if takes.slots > has.slots:
        return Refusal(f"needs {takes.slots} slots, has {has.slots}")
    if needs.device_type is not None and needs.device_type != has.device_type:
        return Refusal(f"needs a {needs.device_type}, is a {has.device_type or 'unknown device'}")
    if needs.browser is not None and needs.browser not in {item.name for item in has.browsers}:
        return Refusal(f"needs the browser {needs.browser}")
    for name, value in needs.labels.items():
        if has.labels.get(name) != value:
            return Refusal(f"needs the label {name}={value}, has {has.labels.get(name)!r}")
    return None


def _device(demand: Demand, device: Device) -> bool:
    needs = demand.requirements
    if device.kind == "cuda" and needs.min_cuda_compute > (device.compute or 0.0):
        return False
    return needs.min_device_memory_gb <= (device.memory_gb or 0.0)


def _suspect(worker: Worker, barred: list[Device]) -> str:
    named = (f"{item.device_id} ({worker.devices[item.device_id].reason})" for item in barred)
    return f"has suspect devices: {', '.join(named)}"


def _why_no_device(demand: Demand, kind: str, has: list[Device], wanted: int) -> str:
    needs = demand.requirements
    if wanted > len(has):
        return f"needs {wanted} {kind} devices, has {len(has)}"
    compute = max((device.compute or 0.0) for device in has)
    if kind == "cuda" and needs.min_cuda_compute > compute:
        return f"needs CUDA compute {needs.min_cuda_compute:g}, has {compute:g}"
    memory_gb = max((device.memory_gb or 0.0) for device in has)
    return f"needs {needs.min_device_memory_gb:g} GB on one {kind} device, has {memory_gb:.1f}"
