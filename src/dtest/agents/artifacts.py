"""Stores the files that an attempt left, under names that every reader of the journal takes.

A store that is away is asked again for a while; what cannot be stored is said, never left out.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from dtest.errors import DtestError, Unavailable
from dtest.events.attempt import Artifact

ARTIFACTS_MAX = 1_000
ARTIFACT_BYTES_MAX = 1 << 30
NAME_BYTES_MAX = 200
"""As an event takes it; of a longer name the end is kept behind a mark."""
STORE_S_MAX = 60.0
STORE_AGAIN_S = 0.5

Put = Callable[[str, Path], Awaitable[None]]
"""Stores a file under a name; raises DtestError."""


async def store_artifacts(root: Path, prefix: str, put: Put) -> tuple[tuple[Artifact, ...], str]:
    """Store the files below ``root``; return what was stored, and what went wrong in words."""
    if not _has_entries(root):
        return (), ""
    paths = await asyncio.to_thread(_files, root)
    stored: list[Artifact] = []
    problem = f"{len(paths)} artefacts; at most {ARTIFACTS_MAX} are kept"
    if len(paths) <= ARTIFACTS_MAX:
        problem = ""
    for path in paths[:ARTIFACTS_MAX]:
        shown = _shown(path.relative_to(root))
        try:
            stored.append(await _store(path, shown, prefix, put))
        except Unavailable as error:
            return tuple(stored), f"artefact {shown}: {error}"
        except (DtestError, OSError) as error:
            problem = problem or f"artefact {shown}: {error}"
    return tuple(stored), problem


def _has_entries(root: Path) -> bool:
    try:
        with os.scandir(root) as entries:
            return any(True for _ in entries)
    except OSError:
        return False  # the attempt removed it: it left no files


def _files(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if path.is_file()]


async def _store(path: Path, shown: str, prefix: str, put: Put) -> Artifact:
    size_bytes = (await asyncio.to_thread(path.stat)).st_size
    if size_bytes > ARTIFACT_BYTES_MAX:
        message = f"{size_bytes} bytes; at most {ARTIFACT_BYTES_MAX} are kept"
        raise DtestError(message)
    object_name = f"{prefix}/{_fitted(shown, NAME_BYTES_MAX - len(prefix) - 1)}"
    await _put(object_name, path, put)
    digest = await asyncio.to_thread(_sha256, path)
    return Artifact(_fitted(shown, NAME_BYTES_MAX), size_bytes, digest, object_name)


async def _put(name: str, path: Path, put: Put) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STORE_S_MAX
    while True:
        try:
            await put(name, path)
            return
        except Unavailable:
            if loop.time() > deadline:
                raise
        await asyncio.sleep(STORE_AGAIN_S)


def _shown(relative: Path) -> str:
    """Return a name that can be printed and written as UTF-8, different for different files."""
    raw = os.fsencode(relative.as_posix())
    text = raw.decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return shown if shown.encode() == raw else f"{_mark(raw)}~{shown}"


def _fitted(name: str, bytes_max: int) -> str:
    raw = name.encode()
    if len(raw) <= bytes_max:
        return name
    mark = f"{_mark(raw)}~"
    return mark + raw[len(mark) - bytes_max :].decode("utf-8", "ignore")


def _mark(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:12]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
