"""Decide when a device is suspect, is tried and is trusted again. Pure.

Nothing is reserved on a suspect device; its worker stays, and so do its other devices.
"""

from collections.abc import Iterator

from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.catalogue import SchedulerPayload
from dtest.events.fields import instant_of
from dtest.events.parameters import Parameters
from dtest.state.health import DeviceHealth, Guard, device_breaker
from dtest.state.worker import Worker


def decide_devices(
    worker: Worker, now: float, parameters: Parameters, blamed: set[str]
) -> Iterator[SchedulerPayload]:
    """Yield what has to be ruled about a worker's devices; ``blamed`` kinds bear their faults."""
    for device_id, device in sorted(worker.devices.items()):
        name = device_breaker(worker.id, device_id)
        match device.guard:
            case Guard.CLOSED if blamed.isdisjoint(device.kinds):
                yield _opened(name, worker, device, now, parameters)
            case Guard.CLOSED:
                pass  # the breaker of the kind takes it back
            case _ if device.released:
                yield BreakerClosed(name, device.released)  # type: ignore[arg-type]
            case Guard.OPEN:
                if device.until is not None and now >= device.until:
                    yield BreakerHalfOpened(name, None, instant_of(now + parameters.probation_s))
            case _ if device.probed == "passed":
                yield BreakerClosed(name, "probe_passed")
            case _ if device.probed == "faulted":
                yield _opened(name, worker, device, now, parameters)
            case _:
                late = device.until is not None and now >= device.until
                if late and device.probe is None:
                    yield BreakerClosed(name, "nothing_ran")


def _opened(
    name: str, worker: Worker, device: DeviceHealth, now: float, parameters: Parameters
) -> BreakerOpened:
    """Each opening in a row lasts longer than the one before."""
    length_s = parameters.breaker_open_s * parameters.quarantine_factor ** min(device.count, 64)
    until = instant_of(now + min(length_s, parameters.quarantine_s_max))
    first = device.guard is Guard.CLOSED
    return BreakerOpened(
        name, until, "device_fault" if first else "probe_faulted", device.count + 1, (worker.id,)
    )
