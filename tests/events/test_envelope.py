"""The identity of a decision, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.events.envelope import Correlation


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_correlation_is_read_as_it_was_written(epoch: int, basis: int) -> None:
    assert Correlation.parse(str(Correlation(epoch, basis))) == Correlation(epoch, basis)


@pytest.mark.parametrize(
    "text",
    [None, "", ".", "1", "1.", ".1", "1.2.3", "a.b", "-1.2", " 1.2", "1.2\n", "²·².²", "².1"],
)
def test_anything_else_is_no_correlation(text: str | None) -> None:
    assert Correlation.parse(text) is None


@given(st.text(max_size=6) | st.text("0123456789.²१", max_size=8000))
def test_no_text_makes_it_raise(text: str) -> None:
    found = Correlation.parse(text)

    assert found is None or found.epoch >= 0
