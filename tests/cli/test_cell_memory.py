"""``dtest test`` on a machine that never ran the suite: the cell remembers."""

from collections.abc import Callable
from pathlib import Path

from tests.cli.cell import CellUser
from tests.cli.conftest import Suite
from tests.cli.test_suites import ALL_OUTCOMES, names


def test_what_failed_elsewhere_is_known_here(
    cell: CellUser, suite: Suite, tmp_path: Path, new_id: Callable[[str], str]
) -> None:
    name = new_id("suite")
    one, other, third = (suite(f"{place}/{name}", test_all=ALL_OUTCOMES) for place in "abc")
    mine = cell.at(one, XDG_CACHE_HOME=str(tmp_path / "mine"))
    yours = cell.at(other, XDG_CACHE_HOME=str(tmp_path / "yours"))
    failed = {"test_all.py::test_bad", "test_all.py::test_without_its_fixture"}

    assert names(yours.here("test", "--lf", "--json")) > failed  # nobody knows anything
    assert names(mine.here("test", "--lf", "--json")) == failed
    (third / "test_all.py").write_text("def test_bad():\n    pass\n\ndef test_new():\n    pass\n")
    nobody = cell.at(third, XDG_CACHE_HOME=str(tmp_path / "nobody's"))
    assert names(nobody.here("test", "--lf", "--json")) == {"test_all.py::test_bad"}
