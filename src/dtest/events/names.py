"""What names things, for whoever reads no events: loads next to nothing."""

from typing import NewType

CellId = NewType("CellId", str)
ClientId = NewType("ClientId", str)
EventId = NewType("EventId", str)
RunId = NewType("RunId", str)
TaskId = NewType("TaskId", str)
WorkerId = NewType("WorkerId", str)

TOKEN_PATTERN = r"^[A-Za-z0-9_-]{1,100}$"  # noqa: S105 - a grammar, not a secret
"""What may stand between two dots of a NATS subject here."""
