"""How much a session gets at a time, and how much of the rest goes to others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.agents.pacing import SETUP_SLICES, SLICE_MAX, SLICE_S, Pace, given_from
from dtest.suites.unit import Part, Piece, Test, expected_s, weight

QUICK_S = 0.001
SLOW_S = 1.0


def piece(seconds: float | None) -> Piece:
    known = () if seconds is None else (seconds,)
    return (Part("a.py", (Test(0, name="a.py::t"),), seconds=known),)


pieces = st.lists(
    st.one_of(st.none(), st.floats(0, 10)).map(piece) | st.just((Part("whole.t"),)), max_size=600
)


def measured(*slices: tuple[float, float]) -> Pace:
    pace = Pace()
    for took_s, expected in slices:
        pace.measured(took_s, expected)
    return pace


@given(pieces, st.lists(st.tuples(st.floats(0, 100), st.floats(1e-3, 100)), max_size=5))
def test_a_slice_has_a_piece_and_is_never_too_long(
    given_pieces: list[Piece], slices: list[tuple[float, float]]
) -> None:
    pace = measured(*slices)

    count = pace.fitting(given_pieces)

    assert (count == 0) == (not given_pieces)
    assert count <= len(given_pieces)
    if count > 1:
        assert sum(map(weight, given_pieces[:count])) <= SLICE_MAX


def test_the_first_slice_is_one_piece() -> None:
    assert Pace().fitting([piece(QUICK_S)] * 9) == 1


def test_a_slow_test_leaves_the_slices_after_it_as_they_were() -> None:
    """Else the session would wait after each quick one until its agent looks again."""
    quick = [piece(QUICK_S)] * 1_000
    steady = measured(*[(SLICE_S, SLICE_S)] * 9)
    before = steady.fitting(quick)

    steady.measured(SLOW_S, expected_s(piece(SLOW_S)))

    assert before == pytest.approx(SLICE_S / expected_s(quick[0]), rel=0.1)
    assert steady.fitting(quick) == pytest.approx(before, rel=0.1)


def test_a_slow_test_is_in_a_slice_of_its_own() -> None:
    pace = measured((SLICE_S, SLICE_S))

    assert pace.fitting([piece(SLOW_S), piece(QUICK_S)]) == 1
    assert pace.fitting([piece(QUICK_S), piece(SLOW_S), piece(QUICK_S)]) == 1


@pytest.mark.parametrize("slowness", [0.25, 1.0, 4.0])
def test_what_is_measured_corrects_what_is_expected(slowness: float) -> None:
    pace = measured((SLICE_S * slowness, SLICE_S))

    count = pace.fitting([piece(QUICK_S)] * 1_000)

    assert count * expected_s(piece(QUICK_S)) * slowness == pytest.approx(SLICE_S, rel=0.1)


def test_a_machine_that_becomes_slower_is_followed() -> None:
    pace = measured(*[(SLICE_S, SLICE_S)] * 20, *[(5 * SLICE_S, SLICE_S)] * 20)

    assert pace.fitting([piece(0.009)] * 100) == pytest.approx(2, abs=1)


def test_what_begins_slowly_gets_more_at_a_time() -> None:
    pace = measured((SLICE_S, SLICE_S))
    pace.begins_in(1.0)

    assert pace.fitting([piece(0.999)] * 100) == SETUP_SLICES


@given(st.lists(st.floats(0, 10).map(piece), min_size=1, max_size=50), st.integers(0, 49))
def test_about_half_of_the_time_is_given_and_the_next_piece_kept(
    held: list[Piece], first: int
) -> None:
    first = min(first, len(held) - 1)

    place = given_from(held, first)

    half_s = sum(map(expected_s, held[first:])) / 2
    given_s = sum(map(expected_s, held[place:]))
    if len(held) - first == 1:
        assert place == first
    else:
        assert first < place < len(held)
        one_less_s, one_more_s = (
            given_s - expected_s(held[place]),
            given_s + expected_s(held[place - 1]),
        )
        assert abs(given_s - half_s) <= abs(one_less_s - half_s) + 1e-9 or not one_less_s
        assert abs(given_s - half_s) <= abs(one_more_s - half_s) + 1e-9 or place == first + 1


def test_of_few_slow_and_many_quick_ones_half_of_the_time_is_given_not_of_the_tests() -> None:
    held = [piece(QUICK_S)] * 100 + [piece(SLOW_S)] * 2

    assert given_from(held, 0) == 101
