"""``dtest policy``: what is in force is shown, parameters are set and reset."""

import pytest

from dtest.leadership.rules import CURRENT
from tests.cli.cell import CellUser


def in_force(cell: CellUser, name: str) -> float:
    value: float = cell.here("policy", "show", "--json").good().json["parameters"][name]
    return value


def row(cell: CellUser, name: str) -> list[str]:
    """The line of a parameter, as a person sees it."""
    lines = cell.here("policy", "show").good().out.splitlines()
    (found,) = [line.split() for line in lines if line.split()[:1] == [name]]
    return found[1:]


def test_a_parameter_is_set_shown_with_its_origin_and_reset(cell: CellUser) -> None:
    usual = CURRENT.parameters.kind_openings_max
    assert row(cell, "kind_openings_max") == [str(usual), "term"]

    said = cell.here("policy", "set", "kind_openings_max=9", "larger_wait_s=1.5").good()
    assert said.err.startswith("recorded at ")
    assert in_force(cell, "larger_wait_s") == 1.5
    assert row(cell, "kind_openings_max") == ["9", "set"]

    cell.here("policy", "set", "kind_openings_max=default", "larger_wait_s=default").good()
    assert row(cell, "kind_openings_max") == [str(usual), "term"]


def test_a_parameter_says_that_the_strategy_changed_it(cell: CellUser) -> None:
    cell.here("policy", "set", "--strategy", "aggressive").good()
    try:
        assert row(cell, "faults_max") == ["6", "strategy", "aggressive"]
    finally:
        cell.here("policy", "set", "--strategy", "progressive").good()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no parameter is given"),
        (("breaker_threshold",), "'breaker_threshold' sets no parameter"),
        (("=5",), "'=5' sets no parameter"),
        (("breaker_threshold=many",), "breaker_threshold: 'many' is no number"),
        (("breaker_threshold=1", "breaker_threshold=2"), "breaker_threshold is given twice"),
        (("jitter=0.5", "jitter=default"), "jitter is given twice"),
        (("breaker_treshold=3",), "did you mean 'breaker_threshold'?"),
        (("nothing=default",), "no parameter is called 'nothing'"),
        (("jitter=2",), "jitter: Input should be less than or equal to 1"),
        (("faults_max=1.5",), "faults_max: Input should be a valid integer"),
        (("jitter=nan",), "jitter: nan is out of any range"),
        (("jitter=inf",), "jitter: inf is out of any range"),
        (
            ("faults_max=99999999999999999999",),
            "faults_max: 99999999999999999999 is out of any range",
        ),
        (("faults_max=-1",), "faults_max: Input should be greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_name(
    cell: CellUser, words: tuple[str, ...], said: str
) -> None:
    before = cell.here("policy", "show", "--json").good().json["parameters"]
    ended = cell.here("policy", "set", *words)

    assert ended.code == 2
    assert said in ended.err
    assert cell.here("policy", "show", "--json").good().json["parameters"] == before
