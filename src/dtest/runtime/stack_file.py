"""What a local stack writes down for the command line: addresses, credentials, pid; last words.

The file is readable by its owner alone; who can read it can submit commands.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from dtest.errors import DtestError
from dtest.runtime.machine import process_started_at


@dataclass(frozen=True, slots=True)
class StackFile:
    """The content."""

    cell: str
    pid: int
    process_started_at: float
    """With the pid, names the process that owns the stack."""
    nats_url: str
    nats_user: str | None
    nats_password: str | None
    nats_token: str | None
    api_url: str | None
    token: str | None
    first_seq: int | None = None
    """Where in the journal the suite was asked for that the stack was made for."""


def write_stack_file(path: Path, content: StackFile) -> None:
    """Write the file, whole or not at all, for its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(content), file, indent=2)
    unfinished.replace(path)


def read_stack_file(path: Path) -> StackFile | None:
    """Read the file of a stack that is alive; none otherwise."""
    try:
        content = StackFile(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    started_at = process_started_at(content.pid)
    if started_at is None or abs(started_at - content.process_started_at) > 1.0:
        return None
    return content


def last_words(error: DtestError) -> str:
    """Return the line with which a stack that cannot start ends its log."""
    return json.dumps({"cannot_start": error.message, "hint": error.hint})


def read_last_words(line: str) -> tuple[str, str] | None:
    """Read such a line: message and hint; none if it is another one."""
    try:
        content = json.loads(line)
        return str(content["cannot_start"]), str(content["hint"])
    except (ValueError, KeyError, TypeError):
        return None
