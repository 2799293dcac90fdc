"""Writes the records that the agent reads: one JSON object a line."""

import json
import os
import time
from pathlib import Path

from dtest.runners.case import BAD, Case

NODEID_CHARS_MAX = 4_096


class Records:
    """The file of records of one session."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.has_failed = False
        """Whether a test did not pass."""
        path.write_bytes(b"")

    def write(self, kind: str, **more: object) -> None:
        """Append one record, in one call: being killed never leaves half of one behind others."""
        text = json.dumps({"kind": kind, **more}, ensure_ascii=False)
        # Half of a pair of surrogates is no text, and the agent could not read the line.
        data = text.encode("utf-8", "replace") + b"\n"
        target = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(target, data)
        finally:
            os.close(target)

    def case(
        self, target: str, case: Case, *, phase: str = "call", number: int | None = None
    ) -> None:
        """Tell a verdict. A case without a name is the target's own."""
        self.has_failed = self.has_failed or case.outcome in BAD
        self.write(
            "case",
            number=number,
            nodeid=nodeid(target, case.name),
            outcome=case.outcome,
            phase=phase,
            message=case.message,
            output=case.output,
            started_at=time.time() - case.duration_s,
            duration_s=round(case.duration_s, 6),
            file=case.file or target,
            line=case.line if case.file else None,
        )

    def started(self, target: str, name: str) -> None:
        """Tell which test runs."""
        self.write("started", nodeid=nodeid(target, name), at=time.time())


def nodeid(target: str, name: str) -> str:
    """Return the node id of a test of a target; without a name, the target's own."""
    return (f"{target}::{name}" if name else target)[:NODEID_CHARS_MAX]
