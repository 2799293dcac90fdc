"""Durations: bounded, exact to an eighth, the same for every reader."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.state.durations import (
    SECONDS_MAX,
    SECONDS_MIN,
    Durations,
    bucket_of,
    end_of,
)

COUNT_MAX = 64
SECONDS = st.floats(min_value=0.0, max_value=1e9)


def counted(*seconds: float) -> Durations:
    durations = Durations()
    for item in seconds:
        durations.add(item, count_max=4_096)
    return durations


@given(SECONDS)
def test_a_duration_is_known_up_to_an_eighth_and_never_taken_for_shorter(seconds: float) -> None:
    end = end_of(bucket_of(seconds))
    kept = min(max(seconds, SECONDS_MIN), SECONDS_MAX)

    assert kept < end <= kept * 1.125 + math.ulp(kept)


@given(SECONDS, SECONDS)
def test_a_longer_duration_is_in_no_earlier_bucket(one: float, other: float) -> None:
    assert bucket_of(min(one, other)) <= bucket_of(max(one, other))


@given(st.lists(SECONDS, min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_quantile_is_not_below_what_sorting_gives(seconds: list[float], part: float) -> None:
    exact = sorted(seconds)[math.ceil(part * len(seconds)) - 1]

    assert counted(*seconds).quantile_s(part) == end_of(bucket_of(exact))


def test_the_longest_is_the_last_quantile() -> None:
    assert counted(1.0, 100.0, 3.0).longest_s == end_of(bucket_of(100.0))


def test_nothing_counted_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Durations().quantile_s(0.5)


def test_what_was_counted_is_bounded_and_old_durations_fade() -> None:
    durations = counted(*[1000.0] * 10)
    for _ in range(20 * COUNT_MAX):
        durations.add(1.0, count_max=COUNT_MAX)
        assert durations.count <= COUNT_MAX

    assert sum(durations.buckets.values()) == durations.count
    assert durations.longest_s == end_of(bucket_of(1.0))
