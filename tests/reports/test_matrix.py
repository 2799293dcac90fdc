"""Tests by classes of hardware: counts, what differs or is bad, and classes that ran nothing."""

from dtest.reports.markdown import markdown
from dtest.reports.matrix import Row, matrix
from dtest.reports.observation import Part, Planned
from dtest.reports.report import compose
from dtest.reports.verdicts import verdicts
from tests.reports.samples import known, seen, tried

CPU, CUDA = tried("c"), tried("g", hardware="cuda")
CAUSE = "no worker can run it: w1 has no rocm"


def test_only_what_differs_or_is_bad_is_a_row() -> None:
    found = matrix(
        compose(
            known(
                seen("a.py::same", task="c"),
                seen("a.py::same", task="g"),
                seen("a.py::differs", task="c", ordinal=2),
                seen("a.py::differs", "skipped", task="g", ordinal=2),
                seen("a.py::bad", "failed", task="c", ordinal=3),
                seen("a.py::bad", "failed", task="g", ordinal=3),
                seen("a.py::only", task="g", ordinal=4),
                seen("a.py::unknown", task="g", ordinal=5),
                attempts=[CPU, CUDA],
                planned=[Planned("a.py::only", "cpu", "asks for cuda, not cpu", applies=False)],
            )
        )
    )

    assert found.classes == ("cpu", "cuda")
    assert found.rows == (
        Row("a.py::bad", ("failed", "failed")),
        Row("a.py::differs", ("passed", "skipped")),
        Row("a.py::unknown", ("-", "passed")),
    )
    assert found.counts == (
        ("failed", (1, 1)),
        ("skipped", (0, 1)),
        ("passed", (2, 3)),
        ("not for it", (1, 0)),
    )
    assert found.unproven == ()


def test_a_class_of_which_nothing_is_proven_is_told_once() -> None:
    planned = [Planned(f"a.py::t{n}", "rocm", CAUSE) for n in range(3)]
    cases = [seen(f"a.py::t{n}", task="c", ordinal=n + 1) for n in range(3)]

    report = compose(known(*cases, attempts=[CPU], planned=planned))
    found = matrix(report)

    assert found.unproven == (("rocm", CAUSE),)
    assert found.rows == ()
    assert found.counts == (("not proven", (0, 3)), ("passed", (3, 0)))
    shown = markdown(report)
    assert "### Hardware: 0 of 3 tests differ" in shown
    assert "- `rocm` nothing is proven: no worker can run it: w1 has no rocm" in shown


def test_what_is_not_proven_on_a_class_that_ran_is_a_row() -> None:
    planned = [Planned("a.py::t", "cuda", CAUSE)]
    cases = [
        seen("a.py::t", task="c"),
        seen("a.py::u", task="g"),
        seen("a.py::u", task="c", ordinal=2),
    ]

    found = matrix(compose(known(*cases, attempts=[CPU, CUDA], planned=planned)))

    assert found.rows == (Row("a.py::t", ("passed", "not proven")),)


def test_a_test_that_is_not_for_a_class_is_skipped_there_with_the_reason() -> None:
    planned = [Planned("a.py::t", "rocm", "asks for cuda, not rocm", applies=False)]

    (result,) = verdicts(known(planned=planned))

    assert (result.verdict, result.cause) == ("skipped", "asks for cuda, not rocm")
    assert (result.key.hardware, result.deciding) == ("rocm", None)
    assert compose(known(planned=planned)).exit_code == 5
    assert compose(known(seen("a.py::u"), planned=planned)).exit_code == 0


def test_what_cannot_run_is_not_proven_with_its_cause() -> None:
    report = compose(known(seen("a.py::u"), planned=[Planned("a.py::t", None, CAUSE)]))

    assert [(item.verdict, item.cause) for item in report.results] == [
        ("not_proven", CAUSE),
        ("passed", ""),
    ]
    assert report.exit_code == 3


def test_tasks_that_name_a_class_keep_their_results_under_it() -> None:
    """Both ran on the same kind of hardware."""
    run = known(
        seen("a.py::t", task="c"),
        seen("a.py::t", "failed", task="d"),
        attempts=[tried("c"), tried("d")],
        parts=[
            Part("c", "s", "passed", hardware="cpu & browser=firefox"),
            Part("d", "s", "failed", hardware="cpu & browser=edge"),
        ],
    )

    assert [(item.key.hardware, item.verdict) for item in verdicts(run)] == [
        ("cpu & browser=edge", "failed"),
        ("cpu & browser=firefox", "passed"),
    ]
