"""The time left is right within a factor of two from a tenth of a suite on."""

from collections.abc import Callable

import pytest

from dtest.cli.remaining import LOOKS_MAX, Remaining

TESTS = 60_000
Course = Callable[[float], float]
"""How many tests have ended, by the part of the time that has passed."""


@pytest.mark.parametrize("looks", [40, 400, 5 * LOOKS_MAX])
@pytest.mark.parametrize(
    "course",
    [
        lambda part: part,
        lambda part: max(0.0, part - 0.04) / 0.96,
        lambda part: part * (0.75 + 0.25 * part),
        lambda part: part * (1.25 - 0.25 * part),
    ],
    ids=["steady", "begins late", "becomes quicker", "becomes slower"],
)
def test_what_is_left_is_right_within_a_factor_of_two(course: Course, looks: int) -> None:
    took_s = 100.0
    remaining = Remaining()
    for look in range(1, looks):
        part = look / looks
        done = int(TESTS * course(part))
        remaining.note(took_s * part, done)
        left_s = remaining.left_s(TESTS)
        if 0.1 <= done / TESTS < 0.99:
            assert left_s is not None
            assert took_s * (1 - part) / 2 <= left_s <= took_s * (1 - part) * 2


def test_nothing_is_told_while_nothing_ends() -> None:
    remaining = Remaining()
    assert remaining.left_s(10) is None
    for second in range(1, 5):
        remaining.note(second, 0)
    assert remaining.left_s(10) is None
    remaining.note(5, 4)
    remaining.note(20, 4)

    assert remaining.left_s(10) is None, "it hangs"
