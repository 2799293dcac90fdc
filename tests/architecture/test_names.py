"""Names are nouns of the domain: a word that fits everything says nothing."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
BANNED = {
    *("manager", "helper", "util", "common", "base", "engine"),
    *("advanced", "comprehensive", "enhanced", "smart", "unified"),
}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in the singular."""
    lowered = {word.lower() for word in WORD.findall(name)}
    return lowered | {word.removesuffix("s") for word in lowered}


def names(module: Path) -> Iterator[str]:
    """The module's own name and those of its classes and functions."""
    yield from module.relative_to(SOURCE).with_suffix("").parts
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


@pytest.mark.parametrize(
    "module", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_a_name_says_what_it_names(module: Path) -> None:
    empty = {name: found for name in names(module) if (found := words(name) & BANNED)}

    assert not empty, f"{module.relative_to(SOURCE)}: {empty}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LeaseManager", {"manager"}),
        ("string_utils", {"util"}),
        ("HTTPHelper", {"helper"}),
        ("database", set()),
        ("committed_manage", set()),
    ],
)
def test_banned_words_are_found_as_whole_words(name: str, expected: set[str]) -> None:
    assert words(name) & BANNED == expected
