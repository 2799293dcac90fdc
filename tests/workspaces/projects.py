"""Directories to ship: with git and without."""

import os
import subprocess
from pathlib import Path

AGE_S = 3_600
QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def write(root: Path, **files: str | bytes) -> None:
    """Write files as if they had been there for an hour.

    In their names ``__`` stands for a slash, ``_dot_`` for a dot.
    """
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        age(path)


def age(path: Path) -> None:
    """Make a file an hour old."""
    seen = path.stat()
    os.utime(path, (seen.st_atime - AGE_S, seen.st_mtime - AGE_S))


def git(root: Path, *words: str) -> None:
    """Run git there as somebody, without anybody's settings."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    subprocess.run(
        ["git", *identity, *words],
        cwd=root,
        env={**os.environ, **QUIET},
        check=True,
        capture_output=True,
    )


def repository(root: Path) -> Path:
    """Make an empty repository."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q")
    return root
