"""Help and version answer at once: they load none of the heavy libraries."""

import subprocess
import sys

import pytest

HEAVY = {"duckdb", "fastapi", "nats", "numpy", "pyarrow", "uvicorn"}


def loaded(*arguments: str) -> set[str]:
    """Top-level packages that an interpreter imports until it ends."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", ["--version", "--help", "task --help", "task ls --help"])
def test_help_and_version_load_nothing_heavy(arguments: str) -> None:
    packages = loaded("-m", "dtest", *arguments.split())

    assert "cyclopts" in packages
    assert not packages & HEAVY


def test_what_is_heavy_would_be_seen() -> None:
    assert loaded("-c", "import dtest.roles.api") >= {"duckdb", "fastapi", "nats", "uvicorn"}
