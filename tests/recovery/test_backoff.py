"""The backoff: bounded, growing on the whole, spread by the task, the same every time."""

from dataclasses import replace
from itertools import pairwise
from statistics import mean

from hypothesis import given
from hypothesis import strategies as st

from dtest.events.parameters import Parameters
from dtest.leadership.rules import CURRENT
from dtest.recovery.backoff import backoff_s

POLICIES = st.builds(
    Parameters,
    backoff_factor=st.floats(1.0, 10.0),
    delay_s_max=st.floats(0.1, 1e4),
    jitter=st.floats(0.0, 1.0),
)
FIRST = st.floats(1e-3, 1e300)
RETRIES = st.integers(0, 10_000)
SALTS = st.text(max_size=20)


@given(POLICIES, FIRST, RETRIES, SALTS)
def test_a_delay_is_bounded_whatever_the_retry(
    policy: Parameters, first_s: float, retry: int, salt: str
) -> None:
    delay_s = backoff_s(policy, first_s, retry, salt)

    assert 0.0 <= delay_s <= policy.delay_s_max * (1 + policy.jitter)
    assert delay_s >= min(first_s, policy.delay_s_max) * (1 - policy.jitter) - 1e-9


@given(POLICIES, FIRST, RETRIES, SALTS)
def test_the_same_arguments_give_the_same_delay(
    policy: Parameters, first_s: float, retry: int, salt: str
) -> None:
    assert backoff_s(policy, first_s, retry, salt) == backoff_s(policy, first_s, retry, salt)


@given(st.floats(0.01, 100), st.floats(1.0, 4.0))
def test_on_the_whole_a_later_retry_waits_no_shorter(first_s: float, factor: float) -> None:
    policy = Parameters(backoff_factor=factor, jitter=0.2)
    expected = [mean(backoff_s(policy, first_s, n, f"t{k}") for k in range(200)) for n in range(8)]

    for earlier, later in pairwise(expected):
        assert later >= earlier * 0.95


@given(POLICIES, FIRST, st.integers(0, 20), SALTS)
def test_without_jitter_a_delay_never_shrinks(
    policy: Parameters, first_s: float, retry: int, salt: str
) -> None:
    plain = replace(policy, jitter=0.0)

    assert backoff_s(plain, first_s, retry, salt) <= backoff_s(plain, first_s, retry + 1, salt)


def test_tasks_that_fault_together_do_not_return_together() -> None:
    delays = [backoff_s(CURRENT.parameters, 10.0, 0, f"task-{n}") for n in range(1_000)]

    assert len({round(delay, 3) for delay in delays}) > 500
    assert abs(mean(delays) - 10.0) < 0.2
    assert min(delays) < 8.2
    assert max(delays) > 11.8


@given(st.sampled_from([0.0, -1.0]), RETRIES, SALTS)
def test_no_delay_stays_no_delay(first_s: float, retry: int, salt: str) -> None:
    assert backoff_s(CURRENT.parameters, first_s, retry, salt) == 0.0
