"""Which files a tree consists of: what git would take, or all below given paths.

Reads names only. Git is asked where there is a repository: tracked files, and untracked ones that
are not ignored; what is checked out of submodules, too.
"""

import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dtest.errors import UsageError

IGNORED = frozenset(
    {
        *(".git", ".hg", ".svn", ".venv", "venv", ".tox", ".nox", "__pycache__", "node_modules"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"),
    }
)
"""Directories that are left out where no git says what counts."""
GIT_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths relative to the root, in no order."""

    paths: tuple[str, ...]
    by_git: bool


def list_files(root: Path, paths: Sequence[str] = ()) -> Listing:
    """Return the files and links of a tree, or those at and below ``paths``. Raises UsageError."""
    inside = [_inside(root, path) for path in paths]
    if _is_in_repository(root):
        found = set(_git_files(root, inside))
        return Listing(tuple(found), by_git=True)
    return Listing(tuple({each for path in inside or [""] for each in _walk(root, path)}), False)


def _inside(root: Path, path: str) -> str:
    place = os.path.normpath(root / path)
    relative = os.path.relpath(place, root)
    if relative.startswith("..") or not os.path.lexists(place):
        message = f"{path} is no file or directory below {root}"
        raise UsageError(message, hint="give paths inside of the tree that is shipped")
    return "" if relative == "." else relative


def _is_in_repository(root: Path) -> bool:
    place = root.absolute()
    return any((directory / ".git").exists() for directory in (place, *place.parents))


def _git_files(root: Path, paths: Sequence[str]) -> Iterator[str]:
    # literal: a file may be called `*`
    command = ["git", "--literal-pathspecs", "-C", str(root), "ls-files"]
    command += ["-z", "--cached", "--others", "--exclude-standard", "--", *filter(None, paths)]
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=GIT_S_MAX, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"git cannot list the files of {root}: {error}"
        raise UsageError(
            message, hint="install git, or ship a directory that is no repository"
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        message = f"git cannot list the files of {root}: {said}"
        raise UsageError(message, hint="`git status` there shows the same")
    for raw in done.stdout.split(b"\0"):
        name = os.fsdecode(raw).rstrip("/")
        if name:
            yield from _git_entry(root, name)


def _git_entry(root: Path, name: str) -> Iterator[str]:
    try:
        mode = (root / name).lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return  # deleted, and git was not told
    if not stat.S_ISDIR(mode):
        yield name
    elif (root / name / ".git").exists():  # a submodule, or a repository beside it
        yield from (f"{name}/{each}" for each in _git_files(root / name, ()))


def _walk(root: Path, below: str) -> Iterator[str]:
    place = root / below
    if below and not stat.S_ISDIR(place.lstat().st_mode):
        yield below
        return
    for entry in os.scandir(place):
        name = f"{below}/{entry.name}" if below else entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield name
        elif entry.name not in IGNORED:
            yield from _walk(root, name)
