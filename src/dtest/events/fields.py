"""Field types that several events share, with their limits.

Scalars are strict (``"5"`` is not a number); sequences accept any JSON array.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, AwareDatetime, Field, Strict

from dtest.events.names import TOKEN_PATTERN as TOKEN_PATTERN  # noqa: PLC0414 - stays where all look for it
from dtest.events.names import CellId as CellId  # noqa: PLC0414 - stays where all look for it
from dtest.events.names import ClientId as ClientId  # noqa: PLC0414 - stays where all look for it
from dtest.events.names import EventId as EventId  # noqa: PLC0414 - stays where all look for it
from dtest.events.names import RunId as RunId  # noqa: PLC0414 - stays where all look for it
from dtest.events.names import TaskId as TaskId  # noqa: PLC0414 - stays where all look for it
from dtest.events.names import WorkerId as WorkerId  # noqa: PLC0414 - stays where all look for it

Token = Annotated[str, Field(pattern=TOKEN_PATTERN)]
RunToken = Annotated[RunId, Field(pattern=TOKEN_PATTERN)]
TaskToken = Annotated[TaskId, Field(pattern=TOKEN_PATTERN)]
WorkerToken = Annotated[WorkerId, Field(pattern=TOKEN_PATTERN)]

Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=262_144)]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=0)]
Ordinal = Annotated[int, Strict(), Field(ge=1)]
Integer = Annotated[int, Strict()]
Seconds = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
SecondsAboveZero = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
Gigabytes = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Instant = AwareDatetime
Labels = dict[Name, Annotated[str, Field(max_length=200)]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DOCUMENT_BYTES_MAX = 786_432
"""A task's config is copied into each of its assignments, which has to fit in one message."""


def _writable(document: dict[str, Any]) -> dict[str, Any]:
    """Refuse what could be read and never be written again, inside the objects around it."""
    try:
        size = len(orjson.dumps([[[[[[[[document]]]]]]]]))
    except TypeError as error:  # JSONEncodeError is one
        message = f"cannot be written as JSON: {error}"
        raise ValueError(message) from error
    if size > DOCUMENT_BYTES_MAX:
        message = f"holds {size} bytes; at most {DOCUMENT_BYTES_MAX} can be handed on"
        raise ValueError(message)
    return document


Document = Annotated[dict[str, Any], AfterValidator(_writable)]


def epoch_s(instant: datetime) -> float:
    """Seconds since 1970-01-01 UTC, exact to the microsecond."""
    return instant.timestamp()


def instant_of(at: float) -> datetime:
    """Return an instant as events hold it; ``at`` in seconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=round(at * 1e6))


NO_LABELS: dict[str, str] = {}
"""The shared empty default. Events are facts: nobody changes their labels."""


def no_labels() -> dict[str, str]:
    """Return the shared empty default, so that a million tasks do not each hold a dict."""
    return NO_LABELS
