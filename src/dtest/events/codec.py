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
from dtest.events.catalogue import PAYLOADS, Payload, version_of
from dtest.events.envelope import Event, Malformed, Recorded
from dtest.events.fields import EventId
from dtest.events.problem import DETAIL_CHARACTERS_MAX, explain
from dtest.events.reasons import RefusalCode
from dtest.events.upcast import upcast

TYPE_PREFIX = "dev.dtest."
MESSAGE_BYTES_MAX = 1_048_576
EVENTS_PER_MESSAGE_MAX = 1_000
YEARS = range(1970, 9999)
"""Of an event's time: whatever its zone, it can be written in UTC again."""
_TYPE = re.compile(r"dev\.dtest\.([a-z_]+\.[a-z_]+)\.v([1-9][0-9]{0,3})")


_ADAPTERS: dict[str, TypeAdapter[Any]] = {}


def adapter(payload: type[Payload]) -> TypeAdapter[Any]:
    """Return the validator of one kind of payload."""
    found = _ADAPTERS.get(payload.TYPE)
    if found is None:
        found = _ADAPTERS[payload.TYPE] = TypeAdapter(payload)
    return found


@functools.cache
def wire_type(event_type: str) -> str:
    """The CloudEvents ``type`` of an event."""
    return f"{TYPE_PREFIX}{event_type}.v{version_of(PAYLOADS[event_type])}"


@functools.cache
def _schema_urn(event_type: str) -> str:
    return f"urn:dtest:schema:{event_type}:v{version_of(PAYLOADS[event_type])}"


_FIELDS: dict[type[Any], tuple[tuple[str, object, bool], ...]] = {}


def _fields(payload: type[Any]) -> tuple[tuple[str, object, bool], ...]:
    """Return names, defaults and whether a field is a dataclass itself.

    A default that is not written is read back as the same value.
    """
    found = _FIELDS.get(payload)
    if found is None:
        found = _FIELDS[payload] = _read_fields(payload)
    return found


def _read_fields(payload: type[Any]) -> tuple[tuple[str, object, bool], ...]:
    return tuple(
        (
            field.name,
            field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory(),
            dataclasses.is_dataclass(field.type),
        )
        for field in dataclasses.fields(payload)
    )


def _written(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the payload dataclasses
    written: dict[str, Any] = {}
    for name, default, nested in _fields(type(value)):
        content = getattr(value, name)
        if content is default or content == default:
            continue
        written[name] = _written(content) if nested else content
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
        return (_Reading(address).event(content),)
    if not isinstance(content, list) or not content:
        detail = "expected one CloudEvents object or a non-empty array of them"
        return (Malformed(RefusalCode.NOT_CLOUDEVENT, detail),)
    if len(content) > EVENTS_PER_MESSAGE_MAX:
        detail = f"{len(content)} events; a batch holds at most {EVENTS_PER_MESSAGE_MAX}"
        return (Malformed(RefusalCode.TOO_LARGE, detail),)
    reading = _Reading(address)
    return tuple([reading.event(item) for item in content])


class _Reading:
    """The events of one message: what its subject says is worked out once."""

    __slots__ = ("_address", "_source", "_worker")

    def __init__(self, address: subjects.Address) -> None:
        self._address = address
        self._source = source(address.cell, address.role, "" if self._is_office else address.name)
        self._worker = "" if address.role == "client" else address.name

    @property
    def _is_office(self) -> bool:
        """Say whether many may hold the role, one at a time: the source names which of them."""
        return self._address.role in ("scheduler", "conductor")

    def event(self, item: Any) -> Event | Malformed:  # noqa: ANN401 - whatever was written
        try:
            wire, event_id, written_by = item["type"], item["id"], item["source"]
            time = datetime.fromisoformat(item["time"])
            correlation = item.get("correlationid")
            data = item["data"]
            version_ok = item["specversion"] == "1.0"
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            detail = f"not a CloudEvents 1.0 object: {type(error).__name__} {error}"
            return Malformed(RefusalCode.NOT_CLOUDEVENT, detail[:DETAIL_CHARACTERS_MAX])
        if not (
            version_ok
            and isinstance(event_id, str)
            and event_id
            and isinstance(written_by, str)
            and isinstance(wire, str)
        ):
            detail = "specversion must be '1.0', id a non-empty string, source and type strings"
            return Malformed(RefusalCode.NOT_CLOUDEVENT, detail)
        if time.tzinfo is None or time.year not in YEARS:
            return Malformed(RefusalCode.NOT_CLOUDEVENT, "time lacks its zone, or is out of range")
        known = _known(wire)
        if known is None:
            return Malformed(RefusalCode.UNKNOWN_EVENT, f"no event has the type {wire[:200]!r}")
        fact = self._fact(known, written_by, data)
        if isinstance(fact, Malformed):
            return fact
        return Event(
            EventId(event_id),
            written_by,
            time.timestamp(),
            fact,
            correlation if isinstance(correlation, str) else None,
            known[2],
        )

    def _fact(
        self,
        known: tuple[type[Payload], str, int],
        written_by: str,
        data: Any,  # noqa: ANN401 - whatever was written
    ) -> Payload | Malformed:
        payload, event_type, version = known
        if event_type not in self._address.types:
            detail = f"{event_type} may not stand on this subject"
            return Malformed(RefusalCode.WRONG_SUBJECT, detail)
        if written_by != self._source and not self._by_some_holder(written_by):
            detail = f"source is {written_by[:200]!r}, the subject belongs to {self._source!r}"
            return Malformed(RefusalCode.FORGED_SOURCE, detail)
        try:
            newest = version_of(payload)
            if version != newest and isinstance(data, dict):
                data = upcast(event_type, version, data, to_version=newest)
            fact: Payload = adapter(payload).validate_python(data)
        except ValidationError as error:
            return Malformed(RefusalCode.INVALID_DATA, explain(error))
        except KeyError:
            detail = f"no upcast from version {version} of {event_type}"
            return Malformed(RefusalCode.UNKNOWN_EVENT, detail)
        if self._worker:
            worker_id = getattr(fact, "worker_id", self._worker)
            if worker_id != self._worker:
                detail = f"data names worker {worker_id!r} on the subject of {self._worker!r}"
                return Malformed(RefusalCode.FORGED_SOURCE, detail)
        return fact

    def _by_some_holder(self, written_by: str) -> bool:
        return self._is_office and written_by.startswith(self._source)


@functools.lru_cache(maxsize=512)
def _known(wire: str) -> tuple[type[Payload], str, int] | None:
    match = _TYPE.fullmatch(wire)
    if match is None:
        return None
    payload = PAYLOADS.get(match[1])
    version = int(match[2])
    if payload is None or version > version_of(payload):
        return None
    return payload, match[1], version


def source(cell: str, role: str, name: str) -> str:
    """The CloudEvents ``source`` of a writer."""
    return f"/dtest/{cell}/{role}/{name}"
