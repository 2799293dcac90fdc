"""Compares the manifest of an archive with the segment files that are there.

A segment that follows the last line, without a line of its own, is what a writer leaves that is
killed between its two last steps; any other one is a sign that the manifest was changed. A writer
may be at work meanwhile.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dtest.archive.manifest import (
    NAME,
    SEGMENTS,
    Entry,
    Manifest,
    entry_of,
    file_name,
    read_manifest,
)
from dtest.archive.segment import decode
from dtest.errors import Damaged


@dataclass(slots=True)
class Survey:
    """What is there. No segment that is listed was looked into."""

    manifest: Manifest
    next: Entry | None = None
    """The line that is still to be written."""
    problems: list[str] = field(default_factory=list)
    """Also those of the manifest."""

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing that could be an archive."""
        manifest = self.manifest
        return not (manifest.hashes or manifest.tail or self.next or self.problems)


def survey(directory: Path) -> Survey:
    """Look at a directory. Raises Damaged if the manifest cannot be read."""
    before = sorted(directory.glob(SEGMENTS))  # each of these but one has to be listed by now
    manifest = read_manifest(directory)
    listed = {entry.file for entry in manifest.entries}
    now = [path for path in sorted(directory.glob(SEGMENTS)) if path.name not in listed]
    found = Survey(manifest, _next(now, manifest), [*manifest.problems])
    line = found.next.line() if found.next is not None else b""
    if not line.startswith(manifest.tail):
        found.problems.append(f"the last line of {NAME} has no end, and fits no segment")
    for path in before:
        if path.name not in listed and (found.next is None or path.name != found.next.file):
            found.problems.append(f"{path.name} is not in {NAME}")
    return found


def _next(unlisted: Iterable[Path], manifest: Manifest) -> Entry | None:
    """Return the line for the segment that goes on where the manifest ends."""
    if manifest.problems:
        return None
    return next((entry for path in unlisted if (entry := _following(path, manifest))), None)


def _following(path: Path, manifest: Manifest) -> Entry | None:
    try:
        content = path.read_bytes()
        label, _ = decode(content)
    except (OSError, Damaged):
        return None
    if label.previous != manifest.head or path.name != file_name(label):
        return None
    last = manifest.entries[-1].label if manifest.entries else None
    if last is not None and (label.first_seq, label.stream) != (last.last_seq + 1, last.stream):
        return None
    return entry_of(label, content)
