"""The HTML report in a real Chromium: it opens offline, filters, and needs no mouse.

Needs the extra ``browser`` and a Chromium; ``just test-browser`` says how to get them.
"""

from pathlib import Path
from typing import Any

import pytest

from dtest.reports.html import html
from dtest.reports.report import Report, compose
from tests.browser.conftest import Watched
from tests.reports.samples import NASTY, full_report, known, seen

pytestmark = pytest.mark.browser

SHOWN = "() => document.documentElement.dataset.shownMs !== undefined"
MANY = 60_000


class Opened(Watched):
    """A report in a page of its own."""

    def __init__(self, browser: Any, path: Path, report: Report, **options: Any) -> None:
        path.write_bytes(html(report))
        super().__init__(browser.new_context(**options).new_page())
        self.page.goto(path.as_uri())
        self.page.wait_for_function(SHOWN)

    @property
    def names(self) -> list[str]:
        """The tests in sight."""
        return [str(text) for text in self.page.locator(".row .name").all_inner_texts()]

    @property
    def count(self) -> str:
        """How many tests are listed."""
        return str(self.page.inner_text("#count"))

    @property
    def detail(self) -> str:
        """What is told of the chosen test."""
        return str(self.page.inner_text("#detail"))


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Opened:
    return Opened(chromium, tmp_path / "report.html", full_report())


def test_the_page_asks_for_nothing_and_complains_about_nothing(opened: Opened) -> None:
    opened.page.click("#attempts summary")

    assert len(opened.asked) == 1
    assert opened.complaints == []
    assert opened.page.locator("svg rect").count() == 4


def test_text_of_tests_stays_text(opened: Opened) -> None:
    opened.page.fill("#text", "test_bad")
    opened.page.click(".row")

    assert NASTY in opened.detail
    assert opened.page.title().startswith("nightly: 7 failed")
    assert opened.page.locator("script").count() == 3


def test_sixty_thousand_tests_are_a_list_of_the_rows_in_sight(
    chromium: Any, tmp_path: Path
) -> None:
    report = compose(known(*(seen(f"a.py::t{n:05}", ordinal=n) for n in range(MANY))))
    opened = Opened(chromium, tmp_path / "many.html", report)

    assert opened.count == "60000 tests"
    assert 10 < opened.page.locator(".row").count() < 200
    opened.page.focus("#list")
    opened.page.keyboard.press("End")
    assert "a.py::t59999" in opened.names
    assert "a.py::t59999" in opened.detail
    opened.page.fill("#text", "T0123")
    assert opened.count == "10 of 60000 tests"
    assert opened.names == [f"a.py::t0123{n}" for n in range(10)]


def test_all_of_it_works_without_a_mouse(opened: Opened) -> None:
    press = opened.page.keyboard.press
    press("/")
    opened.page.keyboard.type("flaky")
    press("Escape")
    press("ArrowDown")
    press("ArrowDown")
    assert opened.page.get_attribute("#list", "aria-activedescendant") == "row1"
    assert opened.page.locator(".row.chosen .verdict").inner_text() == "flaky"
    assert "boom 17" in opened.detail
    press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "detail"
    press("Escape")
    assert opened.page.evaluate("document.activeElement.id") == "list"
    press("Home")
    assert opened.page.locator(".row.chosen .verdict").inner_text() == "failed"


def test_tests_are_filtered_by_verdict_worker_hardware_and_kind(opened: Opened) -> None:
    assert opened.count == "24 tests"
    opened.page.click("#verdicts button:has-text('flaky')")
    assert opened.names == ["tests/test_a.py::TestA::test_flaky[x::y]"]
    opened.page.click("#clear")
    opened.page.select_option("#hardware", label="cuda")
    assert opened.count == "11 of 24 tests"
    opened.page.select_option("#worker", label="w1")
    assert opened.count == "0 of 24 tests"
    opened.page.click("#clear")
    opened.page.click(".group:has-text('ImportError')")
    assert opened.names == ["tests/test_broken.py"] * 2
    opened.page.fill("#text", "not here")
    opened.page.click(".group:has-text('ImportError')")
    assert opened.names == ["tests/test_a.py::test_skip"] * 2


def test_the_matrix_has_a_row_for_each_test_and_a_column_for_each_class(opened: Opened) -> None:
    opened.page.click("#matrix")

    assert opened.page.locator("#heads span").all_inner_texts() == [
        "cpu",
        "cuda",
        "unknown",
        "test",
    ]
    assert len(opened.names) == len(set(opened.names)) == 13
    row = opened.page.locator(".row", has_text="test_flaky")
    assert row.locator(".verdict").all_inner_texts() == ["flaky", "failed", "\u2013"]
    row.click()
    assert "flaky on cpu" in opened.detail
    assert "failed on cuda" in opened.detail


def test_the_page_is_dark_for_those_who_like_it_dark(chromium: Any, tmp_path: Path) -> None:
    grounds = [
        Opened(
            chromium, tmp_path / f"{scheme}.html", full_report(), color_scheme=scheme
        ).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]

    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 23, 28)"]
