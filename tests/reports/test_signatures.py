"""Equal failures have one signature, others have another."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.reports.signatures import MESSAGE_CHARS_MAX, Signature, normalised, signature
from tests.reports.samples import LONGREPR, seen

NATIVE = """\
Traceback (most recent call last):
  File "/home/x/project/tests/test_a.py", line 8, in test_a
    client.get("/")
  File "/home/x/.venv/lib/python3.11/site-packages/httpx/_client.py", line 1053, in get
    raise ConnectError("no")
httpx.ConnectError: no"""


def of(message: str, output: str = "", **more: Any) -> Signature:
    return signature(seen("a.py::t", "failed", message=message, output=output, **more))


@pytest.mark.parametrize(
    ("message", "same"),
    [
        ("waited 3.5 s, then -17", "waited <n> s, then <n>"),
        ("<Thing object at 0x7f12ab>", "<Thing object at <address>>"),
        ("no /tmp/pytest-of-x/run-3/a.txt here", "no <path> here"),
        (r"no C:\work\a.txt here", "no <path> here"),
        ("id 6f1c1f9a-0000-4000-8000-0123456789ab", "id <id>"),
        ("commit 8f14e45fceea167a5a36", "commit <id>"),
        ("run 01ARZ3NDEKTSV4RRFFQ69G5FAV ended", "run <id> ended"),
        ("at 2026-11-22T06:29:34.123Z", "at <time>"),
        ("at 2026-11-22 06:29:34+01:00", "at <time>"),
        ("test_a1 and sha256 stay", "test_a1 and sha256 stay"),
        ("1e-07 != 2e-07", "<n> != <n>"),
        ("a/b stays", "a/b stays"),
    ],
)
def test_what_differs_from_run_to_run_is_left_out(message: str, same: str) -> None:
    assert normalised(message) == same


@pytest.mark.parametrize(
    ("message", "kind", "rest"),
    [
        ("ValueError: bad", "ValueError", "bad"),
        ("httpx.ConnectError: no", "httpx.ConnectError", "no"),
        ("KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("Failed: DID NOT RAISE", "Failed", "DID NOT RAISE"),
        ("assert 1 == 2", "AssertionError", "assert <n> == <n>"),
        ("crashed: signal SIGSEGV", "crashed", "signal SIGSEGV"),
        ("run_timeout: ended while this test ran", "run_timeout", "ended while this test ran"),
        ("boom", "failed", "boom"),
        ("Expected: something", "failed", "Expected: something"),
        ("", "failed", ""),
        ("\x1b[31mValueError: bad\x1b[0m", "ValueError", "bad"),
    ],
)
def test_the_kind_of_a_failure_is_told_from_its_message(message: str, kind: str, rest: str) -> None:
    found = of(message)

    assert (found.kind, found.message) == (kind, rest)


@pytest.mark.parametrize(
    ("output", "frame"),
    [
        (LONGREPR, "src/maths.py:7"),
        (NATIVE, "/home/x/project/tests/test_a.py:8"),
        ("\x1b[1mtests/a.py\x1b[0m:3: ValueError", "tests/a.py:3"),
        (
            "tests/a.py:3: in t\n.venv/lib/python3.11/site-packages/x/y.py:9: ValueError",
            "tests/a.py:3",
        ),
        (
            "tests/a.py:3: ValueError\n---- Captured stdout call ----\napp.py:9: said",
            "tests/a.py:3",
        ),
        ("---- Captured stdout call ----\napp.py:9: said", ""),
        ("no frame at all", ""),
        ("", ""),
    ],
)
def test_the_innermost_frame_outside_of_installed_packages_counts(output: str, frame: str) -> None:
    assert of("x", output).frame == frame


def test_equal_failures_of_different_tests_are_one_kind() -> None:
    one = of("ValueError: no 17 at /tmp/x/1", LONGREPR)
    other = of("ValueError: no 18 at /tmp/y/2", LONGREPR, duration_s=3.0)

    assert one == other
    assert one.id == other.id


def test_another_exception_message_or_frame_is_another_kind() -> None:
    base = of("ValueError: a", LONGREPR)

    others = [of("TypeError: a", LONGREPR), of("ValueError: b", LONGREPR), of("ValueError: a")]

    assert len({base.id, *(other.id for other in others)}) == 4


@given(st.text(max_size=600), st.text(max_size=600))
def test_any_text_has_a_bounded_signature(message: str, output: str) -> None:
    found = of(message, output)

    assert len(found.message) <= MESSAGE_CHARS_MAX
    assert len(found.id) == 12


def test_a_long_message_takes_no_long_time() -> None:
    for text in (
        "a" * 4000,
        "/" * 4000,
        "0" * 4000,
        "a." * 2000,
        "/a" * 2000,
        "-1" * 2000,
        "a" * 3999 + "!",
    ):
        assert len(of(text, text * 40).message) <= MESSAGE_CHARS_MAX
