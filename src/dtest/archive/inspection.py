"""Checks an archive by itself and names all that is wrong with it, not only the first thing."""

from dataclasses import dataclass, field
from pathlib import Path

from dtest.archive.manifest import BEFORE_ALL, NAME
from dtest.archive.segment import read_segment
from dtest.archive.survey import survey
from dtest.errors import Damaged, NotFound

VIOLATIONS_MAX = 100


@dataclass(slots=True)
class Inspection:
    """What was found. ``violations`` is empty when all holds."""

    cell: str = ""
    stream_created: str = ""
    segments: int = 0
    messages: int = 0
    """In segments that hold."""
    first_seq: int = 0
    last_seq: int = 0
    head: str = BEFORE_ALL
    """Hash of the manifest's last line: kept elsewhere, it shows later that no end was cut off."""
    unfinished: str = ""
    """A segment that is written and not listed: its writer was killed. Nothing is wrong."""
    violations: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Note a violation, the first hundred in words."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(text)


def inspect(directory: Path, *, head: str | None = None) -> Inspection:
    """Read everything and report.

    ``head`` is one that was kept: the archive must have had it, and may have grown since. Raises
    NotFound if there is nothing to inspect.
    """
    there = survey(directory)
    manifest = there.manifest
    if there.is_empty:
        message = f"{directory} holds no archive, or one without a segment"
        raise NotFound(message, hint="`dtest archive write --to DIR` makes one")
    found = Inspection(segments=len(manifest.entries), head=manifest.head)
    for text in there.problems:
        found.add(text)
    if head is not None and head not in manifest.hashes:
        found.add(f"no line of {NAME} has the hash {head}: an end was cut off, or all was replaced")
    if there.next is not None:
        found.unfinished = there.next.file
    if manifest.entries:
        first = manifest.entries[0].label
        found.cell, found.stream_created = first.cell, first.stream_created
        found.first_seq, found.last_seq = first.first_seq, manifest.last_seq
    for entry in manifest.entries:
        try:
            found.messages += len(read_segment(directory, entry))
        except Damaged as error:
            found.add(error.message)
    return found
