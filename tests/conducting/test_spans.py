"""Spans hold the same numbers as the set that they stand for."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dtest.conducting.spans import Holders, chunks, count_in, numbers_in, spans_of

NUMBERS = st.frozensets(st.integers(0, 60))


@given(NUMBERS)
def test_spans_hold_just_the_numbers_in_order(numbers: frozenset[int]) -> None:
    spans = spans_of(numbers)

    assert list(numbers_in(spans)) == sorted(numbers)
    assert count_in(spans) == len(numbers)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(spans))


@given(NUMBERS, st.integers(1, 4))
def test_chunks_hold_the_same(numbers: frozenset[int], size: int) -> None:
    parts = chunks(spans_of(numbers), size)

    assert parts
    assert all(len(part) <= size for part in parts)
    assert [number for part in parts for number in numbers_in(part)] == sorted(numbers)


@given(st.lists(NUMBERS, max_size=4), st.integers(0, 61))
def test_a_holder_is_the_set_that_has_the_number(sets: list[frozenset[int]], number: int) -> None:
    taken: set[int] = set()
    own = []
    for numbers in sets:
        own.append(numbers - taken)
        taken |= numbers
    wanted = next((place for place, numbers in enumerate(own) if number in numbers), None)

    assert Holders([spans_of(numbers) for numbers in own]).holder(number) == wanted
