"""Code blocks of the documentation, so that tests can run what the documentation says."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [Block(match[2], textwrap.dedent(match[3])) for match in BLOCK.finditer(text)]


def blocks_in(page: str, language: str) -> list[str]:
    """The texts of the blocks in one language, in order."""
    return [block.text for block in blocks(page) if block.language == language]
