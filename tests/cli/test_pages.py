"""What the pages and the justfile call exists."""

import re
from pathlib import Path

import pytest

from dtest.cli.main import app
from tests.cli.test_help import ALL

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "justfile", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
CALL = re.compile(r"(?:^|[\s`/])dtest((?: [a-z]+){1,2})\b")


def called(page: Path) -> set[str]:
    """The commands that a page calls in a line of code."""
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^\$ (.+)$", text, re.MULTILINE)
    if page.name == "justfile":
        code = [line for line in text.splitlines() if line.startswith(" ")]
    return {words.strip() for line in code for words in CALL.findall(line)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_that_is_written_about_exists(page: Path) -> None:
    groups = {words.partition(" ")[0] for words in ALL if " " in words}
    known = {*ALL, *app}

    for words in called(page):
        first = words.partition(" ")[0]
        assert (words if first in groups else first) in known, words
