"""What must outlive the agent: the attempts in its hands and how far it read its work.

Each attempt works in a slot, a directory that is used again: making and removing directories
would cost more than a short task itself. ``assignment.json`` says which attempt has the slot; an
empty one says none. What the keeper writes carries the attempt's name, so leftovers do not matter.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from dtest.agents.keeper.notes import write_json, write_line
from dtest.events.attempt import AttemptAssigned

OWN_DIRECTORIES = ("work", "artifacts", "checkpoint")
OUTPUT_BYTES_KEPT = 1 << 20
"""A slot whose last output was larger is removed, apart: to free much space takes time."""
_OWN_FILES = frozenset(
    {"assignment.json", "pid.json", "exit.json", "output.log", "output.json", "checkpoint.json"}
)


@cache
def _assignment() -> TypeAdapter[AttemptAssigned]:
    """Built when it is first used: after a start that finds attempts of an earlier one."""
    return TypeAdapter(AttemptAssigned)


@dataclass(frozen=True, slots=True)
class Slot:
    """One directory for one attempt at a time."""

    path: Path

    def take(self, assigned: AttemptAssigned) -> None:
        """Accept an attempt: from now on it is in the agent's hands."""
        if not self.path.exists():
            for name in OWN_DIRECTORIES:
                (self.path / name).mkdir(parents=True)
        write_line(self.path / "assignment.json", orjson.dumps(assigned))

    def assignment(self) -> AttemptAssigned | None:
        """Return the attempt that has the slot; none if it is free or was not fully taken."""
        try:
            return _assignment().validate_python(self._read("assignment.json"))
        except (OSError, ValueError):
            return None

    def note(self, name: str, key: str) -> dict[str, Any] | None:
        """Return what the keeper wrote about an attempt; none if it is about another one."""
        try:
            content = self._read(name)
        except (OSError, ValueError):
            return None
        match content:
            case {"key": str(found)} if found == key:
                return dict(content)
            case _:
                return None

    def keep(self, name: str, key: str, content: Mapping[str, int | str]) -> None:
        """Note something about an attempt, as far as the disk has room: a note saves work only."""
        with suppress(OSError):
            write_json(self.path / name, {"key": key, **content})

    def _read(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON is there
        return orjson.loads((self.path / name).read_bytes().partition(b"\n")[0])

    def clear(self) -> bool:
        """Let go of the attempt; say whether it left nothing that has to be removed."""
        try:
            write_line(self.path / "assignment.json", b"")
            return self._is_clean() and self._is_silent()
        except OSError:
            return False  # the attempt changed the directory itself

    def remove(self) -> None:
        """Remove it from disk, as far as that is possible; it is made anew when it is taken."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _is_clean(self) -> bool:
        with os.scandir(self.path) as entries:
            found = {entry.name: entry.is_symlink() for entry in entries}
        if found.keys() - {*OWN_DIRECTORIES, *_OWN_FILES} or any(found.values()):
            return False
        for name in OWN_DIRECTORIES:
            with os.scandir(self.path / name) as entries:
                if any(True for _ in entries):
                    return False
        return True

    def _is_silent(self) -> bool:
        """Empty the output: before the next attempt runs, it must not be taken for that one's."""
        output = self.path / "output.log"
        try:
            size_bytes = output.stat().st_size
        except FileNotFoundError:
            return True
        if 0 < size_bytes <= OUTPUT_BYTES_KEPT:
            os.truncate(output, 0)
        return size_bytes <= OUTPUT_BYTES_KEPT


class Spool:
    """The agent's directory on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._slots = root / "slots"
        self._slots.mkdir(parents=True, exist_ok=True)
        self._free: list[Slot] = []
        self._count = 0

    def recover(self) -> list[tuple[Slot, AttemptAssigned]]:
        """Return the attempts that an earlier start of this agent left."""
        found: list[tuple[Slot, AttemptAssigned]] = []
        for path in sorted(self._slots.iterdir()):
            slot = Slot(path)
            assigned = slot.assignment()
            self._count = max(self._count, int(path.name) + 1 if path.name.isdigit() else 0)
            if assigned is None:  # killed before it was accepted: it is assigned anew
                slot.remove()
            else:
                found.append((slot, assigned))
        return found

    def take(self, assigned: AttemptAssigned) -> Slot:
        """Return a slot that now holds the attempt. Raises OSError when the disk is full."""
        if self._free:
            slot = self._free.pop()
        else:
            slot = Slot(self._slots / f"{self._count:04d}")
            self._count += 1
        try:
            slot.take(assigned)
        except OSError:
            slot.remove()
            raise
        return slot

    def give_back(self, slot: Slot) -> bool:
        """Free a slot if it is clean; otherwise it has to be removed, then ``reuse`` frees it."""
        clean = slot.clear()
        if clean:
            self._free.append(slot)
        return clean

    def reuse(self, slot: Slot) -> None:
        """Take back a slot that was removed."""
        self._free.append(slot)

    def load(self) -> int | None:
        """See ``Position.load``."""
        try:
            return int((self.root / "position").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def save(self, seq: int) -> None:
        """See ``Position.save``: fixed width, so that a write is whole."""
        write_line(self.root / "position", b"%020d" % seq)

    def forget(self) -> None:
        """Left in good order: the next start is a new incarnation."""
        (self.root / "position").unlink(missing_ok=True)
        (self.root / "incarnation").unlink(missing_ok=True)
