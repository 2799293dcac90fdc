"""Thousands of seeded histories, and the shortest one that breaks a rule.

Hypothesis draws small values well; histories of fifty events it draws, and shortens, too slowly.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from hypothesis import settings

Move = TypeVar("Move")
CASES = settings().max_examples * 3
"""How many histories a rule is shown with; grows with the profile of hypothesis."""
SHORTENINGS_MAX = 3_000


def explore(
    make: Callable[[Random], list[Move]],
    check: Callable[[Sequence[Move]], None],
    *,
    cases: int = CASES,
) -> None:
    """Check that a rule holds for every made history; fail with a short one that breaks it."""
    for seed in range(cases):
        history = make(Random(seed))
        if _failure(check, history) is not None:
            short = shorten(check, history)
            steps = "\n".join(f"  {move!r}" for move in short)
            message = f"seed {seed} breaks the rule; in short:\n{steps}"
            raise AssertionError(message) from _failure(check, short)


def shorten(check: Callable[[Sequence[Move]], None], history: list[Move]) -> list[Move]:
    """Leave moves out as long as the rest breaks the rule at the same place."""
    broken = _place(_failure(check, history))
    tries = 0
    size = max(1, len(history) // 2)
    while size:
        start = 0
        while start < len(history) and tries < SHORTENINGS_MAX:
            tries += 1
            rest = history[:start] + history[start + size :]
            if _place(_failure(check, rest)) == broken:
                history = rest
            else:
                start += size
        size //= 2
    return history


def _failure(check: Callable[[Sequence[Move]], None], history: Sequence[Move]) -> Exception | None:
    try:
        check(history)
    except Exception as error:  # noqa: BLE001 - whatever it is, it breaks the rule
        return error
    return None


def _place(error: Exception | None) -> object:
    """Where an error came up, so that two of them can be told apart."""
    if error is None or error.__traceback__ is None:
        return None
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace.tb_frame.f_code.co_filename, trace.tb_lineno
