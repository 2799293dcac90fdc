"""The cell that a suite runs in, and what it has to know of the place that the suite is in."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dtest.errors import UsageError
from dtest.settings import Settings

if TYPE_CHECKING:
    from dtest.caller.api_client import ApiClient
    from dtest.caller.local_stack import OwnStack
    from dtest.runtime.first_suite import FirstSuite
    from dtest.workspaces.shipping import Door, Shipped


@dataclass(frozen=True, slots=True)
class OpenCell:
    """A cell that a call may use."""

    api: "ApiClient"
    outlives_call: bool
    """What the call leaves there goes on to its end."""
    first_seq: int | None = None
    """Where its journal holds the suite that it was made for; none for one that was there."""


@contextmanager
def cell_of(
    settings: Settings,
    workers: int | None,
    *,
    keep_s: float | None,
    first: "Callable[[], FirstSuite] | None" = None,
    tell: Callable[[str], None],
) -> Iterator[OpenCell]:
    """Open the running cell, or one that lives as long as the block, or was kept, or will be.

    ``keep_s`` is how long it stays afterwards, as ``keeping.keep_s_of`` returns it. ``first`` makes
    the suite that is handed in at once if a cell has to be started.
    """
    if settings.get("api_url"):
        from dtest.caller.api_client import open_api

        yield OpenCell(open_api(settings, tell=tell), outlives_call=True)
        return
    with _own_stack(settings, workers, keep_s, first=first, tell=tell) as own:
        from dtest.caller.api_client import open_api

        api = open_api(own.settings, tell=tell)
        yield OpenCell(api, outlives_call=False, first_seq=own.first_seq)


def _own_stack(
    settings: Settings,
    workers: int | None,
    keep_s: float | None,
    *,
    first: "Callable[[], FirstSuite] | None",
    tell: Callable[[str], None],
) -> "AbstractContextManager[OwnStack]":
    from dtest.caller.kept_stack import kept_stack
    from dtest.caller.local_stack import throw_away_stack

    slots = workers or os.cpu_count() or 1
    kept = kept_stack(settings, slots=slots, keep_s=keep_s)
    if kept is None and keep_s:
        tell("the kept cell is in use or ends now: this call makes its own, which does not stay")
    if kept is not None:
        return kept.used(first=first, tell=tell)
    return throw_away_stack(workers=1, slots=slots, first=first)


def interpreter_of(python: str | None, *, is_here: bool) -> str | None:
    """Return the interpreter; one on other machines, and none stated, is theirs to find."""
    if python is None:
        return sys.executable if is_here else None
    if not is_here:
        return python
    found = shutil.which(python)
    if found is None:
        message = f"{python} is not an interpreter"
        raise UsageError(message, hint="give the path of the environment's python")
    return str(Path(found).absolute())


def shipped_here(api: "ApiClient", tell: Callable[[str], None]) -> str:
    """Ship the tree of this directory; return its name. Raises as ``ship_tree``."""
    return ship_tree(api, Path.cwd(), paths=[], tell=tell).digest


def ship_tree(
    api: "Door", root: Path, *, paths: list[str], tell: Callable[[str], None]
) -> "Shipped":
    """Ship a tree and tell about it. Raises as ``workspaces.shipping.ship``."""
    import time

    import platformdirs

    from dtest.workspaces.shipping import ship

    cache = Path(platformdirs.user_cache_path("dtest")) / "trees"
    shipped = ship(api, root, paths=paths, now=time.time, cache=cache)
    for note in (*shipped.notes, shipped.told()):
        tell(note)
    return shipped
