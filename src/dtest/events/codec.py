"""Bytes to facts and back: CloudEvents 1.0 JSON, one event or an array of events.

Decoding never raises: what is not acceptable comes back as ``Malformed`` with the reason, in its
place inside the message, so that readers go on.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from dtest.events import subject as subjects
from dtest.events.catalogue import PAYLOADS, VERSION, Payload
from dtest.events.envelope import Event, Malformed, Recorded
from dtest.events.fields import EventId
from dtest.events.reasons import RefusalCode
from dtest.events.upcast import upcast

TYPE_PREFIX = "dev.dtest."
MESSAGE_BYTES_MAX = 1_048_576
EVENTS_PER_MESSAGE_MAX = 1_000
DETAIL_CHARACTERS_MAX = 2_000
"""Most of a refusal's detail: the refusal is an event itself and has to be acceptable."""
YEARS = range(1970, 9999)
"""Of an event's time: whatever its zone, it can be written in UTC again."""
_TYPE = re.compile(r"dev\.dtest\.([a-z_]+\.[a-z_]+)\.v([1-9][0-9]{0,3})")


@functools.cache
def adapter(payload: type[Payload]) -> TypeAdapter[Payload]:
    """The validator of one kind of payload."""
    return TypeAdapter(payload)


@functools.cache
def wire_type(event_type: str) -> str:
    """The CloudEvents ``type`` of an event."""
    return f"{TYPE_PREFIX}{event_type}.v{VERSION}"


@functools.cache
def _schema_urn(event_type: str) -> str:
    return f"urn:dtest:schema:{event_type}:v{VERSION}"


@functools.cache
def _fields(payload: type[Any]) -> tuple[tuple[str, object], ...]:
    """Names and defaults; a default that is not written is read back as the same value."""
    return tuple(
        (
            field.name,
            field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory(),
        )
        for field in dataclasses.fields(payload)
    )


def _written(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the payload dataclasses
    written: dict[str, Any] = {}
    for name, default in _fields(type(value)):
        content = getattr(value, name)
        if content is default or content == default:
            continue
        written[name] = _written(content) if dataclasses.is_dataclass(content) else content
    return written


def iso(instant_s: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    return f"{datetime.fromtimestamp(instant_s, UTC).isoformat(timespec='microseconds')[:-6]}Z"


def document(event: Event) -> dict[str, Any]:
    """The event as a JSON-ready document; fields that hold their default are left out."""
    data = event.data
    written: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": wire_type(data.TYPE),
        "time": iso(event.time),
        "subject": data.entity_id,
        "datacontenttype": "application/json",
        "dataschema": _schema_urn(data.TYPE),
        "data": _written(data),
    }
    if event.correlation is not None:
        written["correlationid"] = event.correlation
    return written


def fingerprint(data: Payload) -> bytes:
    """16 bytes that differ when the content differs (BLAKE2b of the sorted JSON)."""
    content = orjson.dumps(_written(data), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(content, digest_size=16).digest()


def encode(events: Sequence[Event]) -> bytes:
    """Write one message: an object for one event, else an array."""
    if len(events) == 1:
        return orjson.dumps(document(events[0]))
    return orjson.dumps([document(event) for event in events])


def split(
    events: Sequence[Event], *, bytes_max: int = MESSAGE_BYTES_MAX
) -> Iterable[tuple[EventId, bytes]]:
    """Write as many messages as the limits ask for, in order, each with its first event's id."""
    pending: list[bytes] = []
    size = 0
    first = EventId("")
    for event in events:
        piece = orjson.dumps(document(event))
        full = len(pending) >= EVENTS_PER_MESSAGE_MAX or size + len(piece) + 2 > bytes_max
        if pending and full:
            yield first, _join(pending)
            pending, size = [], 0
        if not pending:
            first = event.id
        pending.append(piece)
        size += len(piece) + 1
    if pending:
        yield first, _join(pending)


def _join(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"[" + b",".join(pieces) + b"]"


def decode(payload: bytes, *, subject: str, seq: int, stored_at: float) -> Recorded:
    """Read one message of the journal. Never raises."""
    return Recorded(seq, subject, stored_at, _events(payload, subject))


def _events(payload: bytes, subject: str) -> tuple[Event | Malformed, ...]:
    if len(payload) > MESSAGE_BYTES_MAX:
        detail = f"{len(payload)} bytes; a message holds at most {MESSAGE_BYTES_MAX}"
        return (Malformed(RefusalCode.TOO_LARGE, detail),)
    address = subjects.parse(subject)
    if address is None or not address.types:
        detail = f"no event may stand on the subject {subject[:200]!r}"
        return (Malformed(RefusalCode.WRONG_SUBJECT, detail),)
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        return (Malformed(RefusalCode.NOT_JSON, str(error)),)
    if isinstance(content, dict):
        return (_event(content, address),)
    if not isinstance(content, list) or not content:
        detail = "expected one CloudEvents object or a non-empty array of them"
        return (Malformed(RefusalCode.NOT_CLOUDEVENT, detail),)
    if len(content) > EVENTS_PER_MESSAGE_MAX:
        detail = f"{len(content)} events; a batch holds at most {EVENTS_PER_MESSAGE_MAX}"
        return (Malformed(RefusalCode.TOO_LARGE, detail),)
    return tuple(_event(item, address) for item in content)


def _event(item: Any, address: subjects.Address) -> Event | Malformed:  # noqa: ANN401
    try:
        wire, event_id, source = item["type"], item["id"], item["source"]
        time = datetime.fromisoformat(item["time"])
        correlation = item.get("correlationid")
        data = item["data"]
        version_ok = item["specversion"] == "1.0"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"not a CloudEvents 1.0 object: {type(error).__name__} {error}"
        return Malformed(RefusalCode.NOT_CLOUDEVENT, detail[:DETAIL_CHARACTERS_MAX])
    if not (version_ok and event_id and _all_text(event_id, source, wire)):
        detail = "specversion must be '1.0', id a non-empty string, source and type strings"
        return Malformed(RefusalCode.NOT_CLOUDEVENT, detail)
    if time.tzinfo is None or time.year not in YEARS:
        return Malformed(RefusalCode.NOT_CLOUDEVENT, "time lacks its zone, or is out of range")
    return _fact(
        _Wire(wire, EventId(event_id), source, time.timestamp(), correlation), data, address
    )


def _all_text(*values: object) -> bool:
    return all(isinstance(value, str) for value in values)


@dataclasses.dataclass(slots=True)
class _Wire:
    type: str
    id: EventId
    source: str
    time: float
    correlation: object


def _fact(wire: _Wire, data: Any, address: subjects.Address) -> Event | Malformed:  # noqa: ANN401
    known = _known(wire.type)
    if known is None:
        return Malformed(RefusalCode.UNKNOWN_EVENT, f"no event has the type {wire.type[:200]!r}")
    payload, event_type, version = known
    if event_type not in address.types:
        detail = f"{event_type} may not stand on this subject"
        return Malformed(RefusalCode.WRONG_SUBJECT, detail)
    expected = _source_prefix(address)
    if wire.source != expected and not (
        address.role == "scheduler" and wire.source.startswith(expected)
    ):
        detail = f"source is {wire.source[:200]!r}, the subject belongs to {expected!r}"
        return Malformed(RefusalCode.FORGED_SOURCE, detail)
    try:
        if version != VERSION and isinstance(data, dict):
            data = upcast(event_type, version, data, to_version=VERSION)
        fact = adapter(payload).validate_python(data)
    except ValidationError as error:
        return Malformed(RefusalCode.INVALID_DATA, explain(error))
    except KeyError:
        detail = f"no upcast from version {version} of {event_type}"
        return Malformed(RefusalCode.UNKNOWN_EVENT, detail)
    if address.role != "client" and address.name:
        worker_id = getattr(fact, "worker_id", address.name)
        if worker_id != address.name:
            detail = f"data names worker {worker_id!r} on the subject of {address.name!r}"
            return Malformed(RefusalCode.FORGED_SOURCE, detail)
    correlation = wire.correlation if isinstance(wire.correlation, str) else None
    return Event(wire.id, wire.source, wire.time, fact, correlation)


@functools.lru_cache(maxsize=512)
def _known(wire: str) -> tuple[type[Payload], str, int] | None:
    match = _TYPE.fullmatch(wire)
    if match is None:
        return None
    payload = PAYLOADS.get(match[1])
    version = int(match[2])
    if payload is None or version > VERSION:
        return None
    return payload, match[1], version


@functools.lru_cache(maxsize=10_000)
def _source_prefix(address: subjects.Address) -> str:
    return source(address.cell, address.role, "" if address.role == "scheduler" else address.name)


def source(cell: str, role: str, name: str) -> str:
    """The CloudEvents ``source`` of a writer."""
    return f"/dtest/{cell}/{role}/{name}"


def explain(error: ValidationError) -> str:
    """Say in one line what is wrong with which field, the first five problems."""
    lines = [
        f"{'.'.join(map(str, problem['loc'])) or 'data'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False)[:5]
    ]
    return "; ".join(lines)[:DETAIL_CHARACTERS_MAX]
