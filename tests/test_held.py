"""Processes that are loaded ahead of their time: they begin when they are told to, or end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROLE = """
import sys
print("loaded", flush=True)
def main():
    print("begun", sys.argv, repr(sys.stdin.read()))
    sys.exit(5)
"""


@pytest.mark.parametrize(
    ("word", "said", "code"),
    [("\n", "loaded\nbegun ['role', 'a', '--b'] ''\n", 5), ("", "loaded\n", 0)],
)
def test_a_role_begins_at_a_word_and_ends_without_one(
    tmp_path: Path, word: str, said: str, code: int
) -> None:
    (tmp_path / "role.py").write_text(ROLE)

    ended = subprocess.run(
        [sys.executable, "-m", "dtest.roles.held", "role", "a", "--b"],
        input=word,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.stdout, ended.stderr, ended.returncode) == (said, "", code)
