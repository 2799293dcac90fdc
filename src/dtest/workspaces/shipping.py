"""Ships a tree to a cell: asks what is missing there, and sends only that.

Speaks HTTP by whatever client it is given. An interrupted call may be repeated: what arrived stays.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dtest.errors import NotFound, Unavailable, UsageError
from dtest.workspaces.listing import IGNORED, list_files
from dtest.workspaces.manifest import Link
from dtest.workspaces.pack import encode, packs
from dtest.workspaces.tree import Changed, Snapshot, read_tree

ROUNDS_MAX = 3
"""Times that a tree is read which changes while it is shipped, or parts of which get lost."""
LINKS_SHOWN_MAX = 5


class Door(Protocol):
    """The API of a cell."""

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Ask; raises NotFound and other errors of dtest."""
        ...

    def post_bytes(self, path: str, content: bytes) -> dict[str, Any]:
        """Send bytes; raises errors of dtest."""
        ...


@dataclass(frozen=True, slots=True)
class Shipped:
    """A tree that the cell holds, and what that cost."""

    digest: str
    """What a task's ``config.workspace`` says."""
    files: int
    bytes_total: int
    files_sent: int
    """Files of which at least a part travelled."""
    bytes_sent: int
    """Content that travelled, before compression."""
    files_read: int
    """Files that were read; the others are known to be unchanged."""
    notes: tuple[str, ...] = ()
    """What the user should know."""

    def told(self) -> str:
        """Return it as a line for people."""
        return (
            f"workspace {self.digest[:12]}: {self.files_sent:,} of {self.files:,} files sent"
            f" ({self.bytes_sent:,} of {self.bytes_total:,} bytes)"
        )


def ship(
    api: Door,
    root: Path,
    *,
    paths: Sequence[str] = (),
    now: Callable[[], float],
    cache: Path | None = None,
) -> Shipped:
    """Bring a tree to the cell: what git would take below ``root``, or of that only ``paths``.

    ``cache`` is a directory that remembers what files hold. Raises UsageError for a tree that
    cannot be shipped, and whatever the API raises.
    """
    problem = ""
    sent: set[str] = set()
    if not root.is_dir():
        message = f"{root} is no directory"
        raise UsageError(message, hint="give the directory of the project")
    for _ in range(ROUNDS_MAX):
        listing = list_files(root, paths)
        noted = _cache_file(cache, root)
        snapshot = read_tree(root, listing.paths, now=now(), cache=noted)
        if not snapshot.manifest.entries:
            message = f"there are no files to ship below {root}"
            raise UsageError(message, hint="is all of it ignored by git? give another directory")
        try:
            if _brought(api, snapshot, sent):
                notes = tuple(_notes(snapshot, by_git=listing.by_git))
                return _shipped(snapshot, sent, notes)
            problem = "parts that were sent are missing all the same"
        except Changed as changed:
            problem = f"{changed} changed while it was shipped"
    message = f"{root} was not shipped: {problem}"
    if "changed" in problem:
        raise UsageError(message, hint="stop what writes there, or have git ignore it")
    raise Unavailable(message, hint="look at the room of the cell: docs/limits.md")


def _cache_file(cache: Path | None, root: Path) -> Path | None:
    if cache is None:
        return None
    name = hashlib.sha256(str(root.resolve()).encode(errors="surrogateescape")).hexdigest()
    return cache / f"{name[:32]}.json"


def _brought(api: Door, snapshot: Snapshot, sent: set[str]) -> bool:
    """Bring a tree; note in ``sent`` which parts travelled. Return whether the cell has it all."""
    manifest = snapshot.manifest.encoded()
    digest = hashlib.sha256(manifest).hexdigest()
    try:
        api.get(f"/api/workspaces/{digest}")
    except NotFound:
        pass
    else:
        return True
    told = encode(manifest)
    answer = api.post_bytes("/api/workspaces", told)
    if answer["is_stored"]:
        return True
    missing = [str(each) for each in answer["missing"]]
    for body in packs(_encoded(snapshot.parts(missing))):
        api.post_bytes("/api/workspaces/parts", body)
    sent.update(missing)
    return bool(api.post_bytes("/api/workspaces", told)["is_stored"])


def _encoded(parts: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    return ((digest, encode(raw)) for digest, raw in parts)


def _shipped(snapshot: Snapshot, sent: set[str], notes: tuple[str, ...]) -> Shipped:
    manifest = snapshot.manifest
    sizes: dict[str, int] = {}
    touched = 0
    for file in manifest.files:
        travelled = [place for place, chunk in enumerate(file.chunks) if chunk in sent]
        touched += bool(travelled)
        for place in travelled:
            sizes[file.chunks[place]] = file.part_bytes(place)
    return Shipped(
        manifest.digest,
        len(manifest.entries),
        manifest.size_bytes,
        touched,
        sum(sizes.values()),
        snapshot.files_read,
        notes,
    )


def _notes(snapshot: Snapshot, *, by_git: bool) -> Iterator[str]:
    if not by_git:
        left_out = ", ".join(sorted(IGNORED))
        yield f"{snapshot.root} is in no git repository: all files are shipped but {left_out}"
    out = [link for link in snapshot.manifest.entries if isinstance(link, Link) and leaves(link)]
    for link in out[:LINKS_SHOWN_MAX]:
        where = f"{link.path} leads out of the tree, to {link.target}"
        yield f"the link {where}: it is shipped as it is"
    if len(out) > LINKS_SHOWN_MAX:
        yield f"{len(out) - LINKS_SHOWN_MAX} more links lead out of the tree"


def leaves(link: Link) -> bool:
    """Say whether a link leads out of the tree by its text; other links are not looked at."""
    if link.target.startswith("/"):
        return True
    depth = link.path.count("/")
    for name in link.target.split("/"):
        depth += -1 if name == ".." else name not in ("", ".")
        if depth < 0:
            return True
    return False
