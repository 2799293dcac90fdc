"""The page is one file, and no text of a test can become a part of it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtest.reports import html as page_module
from dtest.reports.html import OUTPUT_CHARS_MAX, html
from dtest.reports.observation import Known
from dtest.reports.report import Report, compose
from tests.reports.samples import NASTY, RUN, full_report, known, seen


class Page(HTMLParser):
    """The elements of a page, and what stands in its scripts and styles."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open = ""
        self.texts: list[tuple[str, str]] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open, data))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    def data(self) -> dict[str, Any]:
        return dict(json.loads(self.inside("script")[0]))

    def more(self) -> dict[str, Any]:
        return dict(json.loads(self.inside("script")[1]))


PLAIN = [tag for tag, _ in Page(html(compose(Known(RUN)))).tags]


def test_the_page_loads_nothing() -> None:
    page = Page(html(full_report()))

    for tag, attributes in page.tags:
        assert not {"src", "href", "srcset", "action", "background"} & set(attributes), tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert "url(" not in page.inside("style")[0]
    assert "@import" not in page.inside("style")[0]


def test_the_policy_lets_only_the_pages_own_script_run() -> None:
    page = Page(html(full_report()))
    policy = next(
        str(attributes["content"])
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    stated = dict(part.strip().split(" ", 1) for part in policy.split(";"))

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert stated["default-src"] == "'none'"
    assert stated["script-src"] == digest(page.inside("script")[2])
    assert stated["style-src"] == digest(page.inside("style")[0])


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.just(NASTY))
def test_no_text_becomes_an_element(text: str) -> None:
    run = Known(
        RUN.__class__("run-2", f"n{text}", (("commit", text),)),
        observations=(seen(f"a.py::{text}x", "failed", message=text, output=text, worker_id=text),),
    )
    page = Page(html(compose(run)))

    assert [tag for tag, _ in page.tags] == PLAIN
    assert page.data()["tests"]["name"] == [f"{text}x"]


def test_the_worst_stands_first() -> None:
    data = Page(html(full_report())).data()

    order = data["tests"]["verdict"]
    assert order == sorted(order)
    assert data["verdicts"][order[0]] == "failed"
    assert sum(data["counts"].values()) == len(order) == 24


def test_artefacts_are_linked_and_only_to_the_api() -> None:
    data = Page(html(full_report())).data()
    (left,) = [item["artifacts"] for item in data["attempts"] if item["artifacts"]]
    assert left == [
        ["a b/<log>.txt", 12, "http://127.0.0.1:1/api/tasks/cpu/artifacts/1/a%20b/%3Clog%3E.txt"]
    ]


def failing(count: int, output: str) -> Report:
    return compose(
        known(
            *(seen(f"a.py::t{n}", "failed", ordinal=n, output=output) for n in range(1, count + 1))
        )
    )


def test_a_long_output_loses_its_middle_and_says_so() -> None:
    more = Page(html(failing(1, "a" * OUTPUT_CHARS_MAX + "b" * 10))).more()

    output = more["0"][0][6]
    assert len(output) < OUTPUT_CHARS_MAX + 100
    assert "10 characters are left out" in output
    assert output.endswith("b" * 10)


def test_all_outputs_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "OUTPUTS_CHARS_MAX", 250)
    more = Page(html(failing(4, "x" * 100))).more()

    outputs = [more[str(n)][0][6] for n in range(4)]
    assert [len(text) for text in outputs[:2]] == [100, 100]
    assert all("left out" in text for text in outputs[2:])


def test_a_placeholder_in_a_name_is_left_alone() -> None:
    run = Known(RUN.__class__("run-3", "{{data}} {{script}}"))

    assert re.search(
        r"<title>\{\{data\}\} \{\{script\}\}: no tests ran</title>", html(compose(run)).decode()
    )
