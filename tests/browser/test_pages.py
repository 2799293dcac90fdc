"""The cell's own pages in a real Chromium: the link logs in, the documentation is drawn."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import Watched
from tests.cli.command import Person

pytestmark = pytest.mark.browser


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Somebody whose cell is up."""
    someone = Person(tmp_path / "home", tmp_path)
    try:
        yield someone
    finally:
        someone.end_all()


def test_the_link_of_a_new_cell_opens_it_and_nothing_comes_from_elsewhere(
    person: Person, chromium: Any
) -> None:
    told = person.dtest("up", "--workers", "1").good().err
    link = re.search(r"open\s+(http\S+)", told)
    assert link is not None, told
    watched = Watched(chromium.new_context().new_page())

    watched.page.goto(link[1])
    assert watched.page.inner_text("h1") == "dtest: cell main"
    watched.page.click("text=The API")
    watched.page.wait_for_selector(".opblock")
    assert "Submit one task or a batch" in watched.page.inner_text("body")
    said = watched.page.evaluate(
        """async () => {
            const page = window.location.host
            const socket = new WebSocket(`ws://${page}/api/events/stream?after=0`)
            return await new Promise((resolve, reject) => {
                socket.onmessage = message => resolve(JSON.parse(message.data).seq)
                socket.onerror = () => reject(new Error("refused"))
            })
        }"""
    )

    assert said == 1
    assert watched.complaints == []
    places = {urlsplit(url).netloc for url in watched.asked if not url.startswith("data:")}
    assert places == {urlsplit(link[1]).netloc}
    person.dtest("down", "--purge").good()
    person.nothing_is_left()
