"""A module that outgrows 400 lines is two modules."""

from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
LINES_MAX = 400


@pytest.mark.parametrize(
    "module", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_a_module_stays_readable(module: Path) -> None:
    lines = len(module.read_text(encoding="utf-8").splitlines())

    assert lines <= LINES_MAX, f"{module.relative_to(SOURCE)} has {lines} lines: split it"
