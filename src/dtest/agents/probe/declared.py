"""What configuration says of a machine, put over what was detected; and machines that are all said.

It does not read configuration files, nor check that what was declared exists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from dtest.agents.probe.found import DEVICES_MAX
from dtest.errors import UsageError
from dtest.events.fields import Labels
from dtest.events.worker import Browser, Capability, Device

ENTRIES_MAX = 64
"""In one list of devices or browsers."""
KEYS = (
    *("slots", "cpus", "memory_gb", "device_type"),
    *("labels", "devices", "browsers", "task_types"),
)
"""Fields of a capability that configuration may state."""
DEVICE_KEYS = ("kind", "index", "name", "memory_gb", "compute", "driver", "count")
BROWSER_KEYS = ("name", "version", "path")

SIMULATED_SLOTS = 4
SIMULATED_MEMORY_GB = 64.0
_SIMULATED: dict[str, Device | None] = {
    "cpu": None,
    "cuda": Device("cuda", 0, "simulated CUDA device", 24.0, 8.6, declared=True),
    "rocm": Device("rocm", 0, "simulated ROCm device", 64.0, declared=True),
    "mps": Device("mps", 0, "simulated MPS device", SIMULATED_MEMORY_GB, declared=True),
    "qnn": Device("qnn", 0, "simulated QNN device", 8.0, declared=True),
    "openvino": Device("openvino", 0, "simulated OpenVINO device", 16.0, declared=True),
    "tpu": Device("tpu", 0, "simulated TPU device", 16.0, declared=True),
}
SIMULATED_KINDS = tuple(_SIMULATED)

_HINTS = get_type_hints(Capability, include_extras=True)
_DEVICE_TYPE = Literal["server", "desktop", "laptop", "mobile"]
_ENTRIES = TypeAdapter[list[dict[str, Any]]](
    Annotated[list[dict[str, Any]], Field(max_length=ENTRIES_MAX)]
)
_COUNT = TypeAdapter[int](Annotated[int, Field(strict=True, ge=0, le=DEVICES_MAX)])

T = TypeVar("T")


def apply(capability: Capability, overrides: Mapping[str, object]) -> Capability:
    """Return the capability with overrides by configuration; slots follow cpus if unsaid.

    ``labels`` are added; ``devices`` replace those of the same kinds, ``browsers`` those of the
    same names. Raises UsageError for a key or a value that makes no sense.
    """
    changes: dict[str, Any] = {}
    for key, value in overrides.items():
        match key:
            case "labels":
                added = _parsed(TypeAdapter[dict[str, str]](Labels), value, key, KEYS)
                changes[key] = {**capability.labels, **added}
            case "devices":
                changes[key] = _devices(capability.devices, value)
            case "browsers":
                changes[key] = _browsers(capability.browsers, value)
            case "device_type":
                changes[key] = _parsed(TypeAdapter[str](_DEVICE_TYPE), value, key, KEYS)
            case _ if key in KEYS:
                changes[key] = _parsed(TypeAdapter[Any](_HINTS[key]), value, key, KEYS)
            case _:
                message = f"unknown key {key!r} of an agent's capability; known: {', '.join(KEYS)}"
                raise UsageError(message)
    said = tuple(dict.fromkeys((*capability.declared, *changes)))
    if "cpus" in changes and "slots" not in said:
        changes["slots"] = max(1, int(changes["cpus"]))
    return replace(capability, **changes, declared=said)


def simulated(kind: str, index: int) -> Capability:
    """Return the capability of simulated worker number ``index``: all declared, nothing real."""
    if kind not in _SIMULATED:
        message = f"unknown kind {kind!r} of simulated worker; known: {', '.join(SIMULATED_KINDS)}"
        raise UsageError(message)
    device = _SIMULATED[kind]
    return Capability(
        slots=SIMULATED_SLOTS,
        cpus=float(SIMULATED_SLOTS),
        memory_gb=SIMULATED_MEMORY_GB,
        cpu_model="simulated",
        os="simulated",
        arch="simulated",
        devices=(replace(device, index=index),) if device is not None else (),
        labels={"simulated": "true"},
        declared=tuple(
            field.name for field in fields(Capability) if field.name not in {"declared", "problems"}
        ),
    )


def _devices(detected: Sequence[Device], value: object) -> tuple[Device, ...]:
    said: dict[str, list[Device]] = {}
    entries = _parsed(_ENTRIES, value, "devices", KEYS)
    for position, entry in enumerate(entries):
        where = f"devices[{position}]"
        _refuse_unknown(entry, where, DEVICE_KEYS)
        stated = {name: item for name, item in entry.items() if name != "count"}
        count = _parsed(_COUNT, entry.get("count", 1), f"{where}.count", DEVICE_KEYS)
        if "count" in entry and "index" in entry:
            message = f"{where}: index or count, not both; known keys: {', '.join(DEVICE_KEYS)}"
            raise UsageError(message)
        first = _parsed(TypeAdapter(Device), stated, where, DEVICE_KEYS)
        of_kind = said.setdefault(first.kind, [])
        for _ in range(count):
            index = first.index if "index" in entry else len(of_kind)
            of_kind.append(replace(first, index=index, declared=True))
    declared = tuple(device for of_kind in said.values() for device in of_kind)
    twice = [item for item in declared if sum(item.device_id == d.device_id for d in declared) > 1]
    if twice or len(declared) > DEVICES_MAX:
        why = f"{twice[0].device_id} twice" if twice else f"more than {DEVICES_MAX}"
        message = f"devices: {why}; known keys: {', '.join(DEVICE_KEYS)}"
        raise UsageError(message)
    return (*(device for device in detected if device.kind not in said), *declared)


def _browsers(detected: Sequence[Browser], value: object) -> tuple[Browser, ...]:
    said: dict[str, Browser] = {}
    entries = _parsed(_ENTRIES, value, "browsers", KEYS)
    for position, entry in enumerate(entries):
        where = f"browsers[{position}]"
        _refuse_unknown(entry, where, BROWSER_KEYS)
        browser = _parsed(TypeAdapter(Browser), entry, where, BROWSER_KEYS)
        said[browser.name] = replace(browser, declared=True)
    return (*(browser for browser in detected if browser.name not in said), *said.values())


def _refuse_unknown(entry: Mapping[str, Any], where: str, known: Sequence[str]) -> None:
    unknown = next((key for key in entry if key not in known), None)
    if unknown is not None:
        message = f"unknown key {where}.{unknown}; known: {', '.join(known)}"
        raise UsageError(message)


def _parsed(form: TypeAdapter[T], value: object, where: str, known: Sequence[str]) -> T:
    try:
        return form.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join((where, *(str(part) for part in first["loc"])))
        message = f"{place}: {first['msg']}; known keys: {', '.join(known)}"
        raise UsageError(message) from error
