"""Segment files that no line of the manifest names.

One that follows the last line is what a writer left that was killed between its two last steps;
any other one is a sign that the manifest was changed.
"""

from dataclasses import dataclass, field
from pathlib import Path

from dtest.archive.manifest import NAME, SEGMENTS, Entry, Manifest, entry_of, file_name
from dtest.archive.segment import decode
from dtest.errors import Damaged


@dataclass(slots=True)
class Unlisted:
    """What was found beside the manifest."""

    next: Entry | None = None
    """The line that is still to be written."""
    problems: list[str] = field(default_factory=list)


def find_unlisted(directory: Path, manifest: Manifest) -> Unlisted:
    """Look for segments, and for the reason of a line without an end."""
    listed = {entry.file for entry in manifest.entries}
    found = Unlisted()
    for path in sorted(directory.glob(SEGMENTS)):
        if path.name in listed:
            continue
        entry = _following(path, manifest)
        if entry is not None and found.next is None:
            found.next = entry
        else:
            found.problems.append(f"{path.name} is not in {NAME}")
    if manifest.tail and (found.next is None or not found.next.line().startswith(manifest.tail)):
        found.problems.append(f"the last line of {NAME} has no end, and fits no segment")
    return found


def _following(path: Path, manifest: Manifest) -> Entry | None:
    """Return the line for a segment if it goes on where the manifest ends."""
    try:
        content = path.read_bytes()
        label, _ = decode(content)
    except (OSError, Damaged):
        return None
    fits = (
        label.previous == manifest.head
        and path.name == file_name(label)
        and (
            not manifest.entries
            or (label.first_seq, label.stream)
            == (manifest.last_seq + 1, manifest.entries[-1].label.stream)
        )
    )
    return entry_of(label, content) if fits and not manifest.problems else None
