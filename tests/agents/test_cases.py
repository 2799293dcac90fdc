"""The report of a test session: read while it is written, torn or not."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dtest.agents.cases import MESSAGE_CHARS_MAX, OUTPUT_CHARS_MAX, CaseReport
from dtest.events.attempt import TestcaseFinished
from dtest.events.fields import TaskId, WorkerId


class Reading:
    """A report file and what was told of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[TestcaseFinished] = []
        self.report = CaseReport(
            path, attempt=(TaskId("t"), 1, WorkerId("w")), tell=self.told.append
        )

    def write(self, *entries: dict[str, Any]) -> None:
        self.append(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)
        self.report.read()

    @property
    def names(self) -> list[str]:
        return [case.nodeid for case in self.told]


def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path / "cases.jsonl")


def case(nodeid: str = "a.py::t", outcome: str = "passed", **more: Any) -> dict[str, Any]:
    return {"kind": "case", "nodeid": nodeid, "outcome": outcome, "phase": "call", **more}


def test_before_the_session_wrote_anything_there_is_nothing(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    seen.report.read()

    assert seen.told == []
    assert seen.report.cases.running is None


def test_cases_are_numbered_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    seen.write(case("b"), case("a"))
    seen.write(case("c", duration_s=0.5, message="m", output="o", file="a.py", line=3))

    assert [(each.ordinal, each.nodeid) for each in seen.told] == [(1, "b"), (2, "a"), (3, "c")]
    assert seen.told[-1] == TestcaseFinished(
        TaskId("t"), 1, WorkerId("w"), 3, "c", "passed", "call", 0.5, "m", "o", "a.py", 3
    )


def test_verdicts_and_collection_errors_are_counted_apart(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    seen.write(
        case(outcome="failed"),
        case(outcome="error"),
        case(outcome="error", phase="collect"),
        *(case(outcome=fine) for fine in ("passed", "skipped", "xfailed", "xpassed")),
    )

    assert (seen.report.cases.failed, seen.report.cases.collection_errors) == (2, 1)


def test_the_running_test_is_the_one_that_started_and_did_not_end(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    seen.write({"kind": "started", "nodeid": "a", "at": 1.0})
    assert seen.report.cases.running == "a"

    seen.write(case("a"))
    assert seen.report.cases.running is None


def test_crashed_tests_are_named_once_each(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    seen.write({"kind": "crash", "nodeid": "a"}, {"kind": "crash", "nodeid": None})

    assert list(seen.report.cases.crashed) == ["a"]


@given(cuts=st.lists(st.integers(0, 300), max_size=8))
def test_a_report_read_in_pieces_is_the_report_read_whole(
    tmp_path_factory: Any, cuts: list[int]
) -> None:
    seen = reading(tmp_path_factory.mktemp("cases"))
    entries = [case("a"), {"kind": "started", "nodeid": "b"}, case("b", "failed"), case("é")]
    text = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
    places = [0, *sorted(cuts), len(text)]
    for start, end in pairwise(places):
        seen.append(text[start:end])

    assert seen.names == ["a", "b", "é"]
    assert seen.report.cases.failed == 1


def test_a_line_that_a_killed_process_left_torn_is_passed_over(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    seen.append(json.dumps(case("a")).encode()[:20] + b"\n")
    seen.write(case("b"))

    assert seen.names == ["b"]


def test_a_torn_line_that_the_session_cut_off_does_not_hide_the_next(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    seen.write(case("a"))
    whole = seen.path.stat().st_size
    seen.append(b'{"kind": "case", "nodeid": "tor')

    with seen.path.open("ab") as file:  # what the session does after a crash
        file.truncate(whole)
    seen.write({"kind": "crash", "nodeid": "torn"}, case("torn", "error"))

    assert seen.names == ["a", "torn"]
    assert list(seen.report.cases.crashed) == ["torn"]


def test_what_is_no_entry_is_passed_over(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    seen.append(b'\n1\nnull\n[]\n"case"\n\xff\xfe\n{"kind": "case"}\n{"kind": "started"}\n')
    seen.write({"kind": "case", "nodeid": "x", "outcome": "passed", "phase": "call", "line": "7"})
    seen.write({"kind": "case", "nodeid": "", "outcome": "passed", "phase": "call"})
    seen.write({"kind": "case", "nodeid": "x", "outcome": "strange", "phase": "call"})
    seen.write({**case("x"), "duration_s": "soon"}, case("good"))

    assert seen.names == ["good"]
    assert seen.told[0].ordinal == 1


def test_long_texts_are_cut(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    seen.write(case("n" * 300_000, message="m" * 5_000, output="o" * 200_000))

    (told,) = seen.told
    lengths = (len(told.nodeid), len(told.message), len(told.output))
    assert lengths == (262_144, MESSAGE_CHARS_MAX, OUTPUT_CHARS_MAX)


def test_a_restarted_agent_tells_the_whole_report_with_the_same_numbers(tmp_path: Path) -> None:
    before = reading(tmp_path)
    before.write(case("a"), case("b"))

    after = Reading(before.path)
    after.report.read()
    after.write(case("c"))

    assert after.told[:2] == before.told
    assert after.told[2].ordinal == 3
