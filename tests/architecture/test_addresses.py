"""Where packages come from is each machine's own setting: no committed file says it."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = re.compile(r"https?://\S*(?:pypi|pythonhosted|npmjs|debian\.org)", re.IGNORECASE)
FOREIGN_LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json"}
"""Lock formats that record addresses."""


@pytest.fixture(scope="module")
def committed() -> list[Path]:
    """All files that git has or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_holds_the_address_of_a_package_index(committed: list[Path]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in committed
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1)
        if INDEX.search(line)
    ]

    assert not found, "\n".join(found)


def test_a_lock_holds_releases_and_hashes_only(committed: list[Path]) -> None:
    locks = [path for path in committed if path.parent == ROOT / "requirements"]
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in locks
        for line in path.read_text("utf-8").splitlines()
        if "://" in line or line.startswith("-")
    ]

    assert {"dev.lock", "runtime.lock"} <= {path.name for path in locks}
    assert not found, "\n".join(found)


def test_no_lock_file_of_a_format_that_records_addresses(committed: list[Path]) -> None:
    found = [path.relative_to(ROOT) for path in committed if path.name in FOREIGN_LOCKS]

    assert not found
