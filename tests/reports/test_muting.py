"""The list of known flaky tests, and what gates a run."""

from datetime import date

import pytest

from dtest.errors import UsageError
from dtest.reports.muting import KnownFlaky, Muted, read_known_flaky
from dtest.reports.observation import Outcome, Part, Planned
from dtest.reports.report import compose, gate
from dtest.reports.verdicts import verdicts
from tests.reports.samples import known, seen

TODAY = date(2026, 6, 15)
ENTRY = """
[[flaky]]
test = "a.py::t"
reason = "races with the clock"
expires = 2026-06-15
issue = "https://tracker.example/7"
"""


def read(text: str) -> KnownFlaky:
    return read_known_flaky(text, source="list.toml", today=TODAY)


def muted(test: str, expires: date = TODAY) -> KnownFlaky:
    return KnownFlaky((Muted(test, "known", expires),))


def test_an_entry_holds_to_the_end_of_its_last_day() -> None:
    found = read(ENTRY)

    (entry,) = found.entries
    assert (entry.test, entry.expires, entry.issue) == (
        "a.py::t",
        TODAY,
        "https://tracker.example/7",
    )
    assert not found.warnings()


def test_an_expired_entry_mutes_nothing_and_is_told() -> None:
    found = read(ENTRY.replace("06-15", "06-14"))

    assert found.entries == ()
    assert found.of(["a.py::t"]) == {}
    assert found.warnings() == ("a.py::t is muted no more: its entry expired on 2026-06-14",)


def test_an_empty_list_is_a_list() -> None:
    assert read("") == KnownFlaky()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[flaky", "is no TOML"),
        ("flaky = 3", "flaky is no list"),
        ("[[flakey]]\ntest = 'a'", "unknown key 'flakey'"),
        ("flaky = ['a.py::t']", "entry 1 is no table"),
        (ENTRY + ENTRY.replace("expires", "expiry"), "entry 2: unknown key 'expiry'"),
        (ENTRY.replace("expires = 2026-06-15", ""), "entry 1: expires is missing"),
        (ENTRY.replace("2026-06-15", "'soon'"), "expires is 'soon', not a day"),
        (ENTRY.replace("2026-06-15", "2026-06-15T00:00:00Z"), "not a day"),
        (ENTRY.replace("2026-06-15", "7"), "expires is '7', not a day"),
        (ENTRY.replace('reason = "races with the clock"', ""), "reason is missing"),
        (ENTRY.replace('"races with the clock"', '" "'), "reason is no text"),
        (ENTRY.replace('"a.py::t"', "3"), "test is no text"),
        (ENTRY.replace("https://tracker.example/7", "javascript:alert(1)"), "not an address"),
    ],
)
def test_a_malformed_list_is_named_with_its_fault(text: str, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(text)

    assert named in refused.value.message
    assert refused.value.message.startswith("list.toml")
    assert refused.value.hint


@pytest.mark.parametrize(
    ("test", "nodeid", "holds"),
    [
        ("a.py::t", "a.py::t", True),
        ("a.py::t", "a.py::t[1]", True),
        ("a.py::t[1]", "a.py::t[1]", True),
        ("a.py::t[1]", "a.py::t[2]", False),
        ("a.py::T", "a.py::T::t", True),
        ("a.py", "a.py::T::t", True),
        ("a.py::t", "a.py::tt", False),
        ("a.py::t", "b.py::t", False),
        ("a.py::t*", "a.py::tt", True),
        ("*::t", "b/c.py::t[x]", True),
        ("*[net]", "a.py::t[net]", True),
        ("*[net]", "a.py::t[n]", False),
        ("a.py::t.", "a.py::tx", False),
    ],
)
def test_an_entry_names_tests_as_a_command_line_does(test: str, nodeid: str, holds: bool) -> None:
    assert (nodeid in muted(test).of([nodeid])) == holds


GATES: list[tuple[list[Outcome], int]] = [
    ([], 5),
    (["passed"], 0),
    (["skipped"], 0),
    (["xfailed"], 0),
    (["xpassed"], 0),
    (["failed"], 1),
    (["error"], 1),
    (["failed", "passed"], 0),
]


@pytest.mark.parametrize(("outcomes", "code"), GATES)
def test_what_a_test_came_to_gates(outcomes: list[Outcome], code: int) -> None:
    run = known(*(seen("a.py::t", outcome, attempt=n) for n, outcome in enumerate(outcomes, 1)))

    assert gate(verdicts(run), today=TODAY) == code
    assert compose(run).exit_code == code


def test_a_file_that_skips_itself_is_no_test() -> None:
    run = known(seen("a.py", "skipped", phase="collect"))

    assert gate(verdicts(run), today=TODAY) == 5


def test_what_is_not_proven_gates_as_infrastructure_unless_something_failed() -> None:
    plan = [Planned("b.py::never")]

    assert gate(verdicts(known(seen("a.py::t"), planned=plan)), today=TODAY) == 3
    assert gate(verdicts(known(seen("a.py::t", "failed"), planned=plan)), today=TODAY) == 1


@pytest.mark.parametrize(("reason", "code"), [("worker_lost", 3), ("run_timeout", 1), (None, 3)])
def test_a_task_without_a_verdict_gates(reason: str | None, code: int) -> None:
    run = known(seen("a.py::t"), parts=[Part("t1", "tests", "errored", reason)])

    assert compose(run).exit_code == code


@pytest.mark.parametrize("outcome", ["failed", "error"])
def test_a_muted_test_does_not_gate_until_its_entry_expires(outcome: Outcome) -> None:
    run = known(seen("a.py::t", outcome), seen("b.py::t"))
    tomorrow = date(2026, 6, 16)

    assert gate(verdicts(run), muted("a.py::t"), today=TODAY) == 0
    assert compose(run, flaky=muted("a.py::t")).exit_code == 0
    assert gate(verdicts(run), muted("a.py::t"), today=tomorrow) == 1
    assert gate(verdicts(run), muted("b.py::t"), today=TODAY) == 1


def test_a_muted_test_that_is_not_proven_does_not_gate() -> None:
    run = known(seen("b.py::t"), planned=[Planned("a.py::t")])

    assert gate(verdicts(run), muted("a.py::t"), today=TODAY) == 0


def test_a_run_of_muted_tests_alone_is_no_empty_one() -> None:
    run = known(seen("a.py::t", "failed"))

    assert gate(verdicts(run), muted("a.py"), today=TODAY) == 0
