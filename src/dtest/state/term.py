"""What the term of leadership recorded of its rules, and the parameters that follow from it.

The fold and the deciders take each number from here. Nothing in a module decides what was in force
at some place of a journal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dtest.events.leader import LeaderElected
from dtest.events.parameters import (
    UNRECORDED,
    UNRECORDED_STRATEGIES,
    Numbers,
    Parameters,
    Strategy,
    changed,
)

UNRECORDED_RULES = 0
"""Version of the rules of terms that recorded none."""


@dataclass(frozen=True, slots=True)
class Term:
    """The rules of one term, as its leader recorded them."""

    rules: int = UNRECORDED_RULES
    parameters: Parameters = UNRECORDED
    strategies: Mapping[str, Numbers] = field(default_factory=lambda: UNRECORDED_STRATEGIES)


def term_of(elected: LeaderElected) -> Term:
    """Return what an election recorded; for older ones what was in force without being recorded."""
    if elected.rules == UNRECORDED_RULES:
        return Term()
    return Term(elected.rules, changed(UNRECORDED, elected.parameters), elected.strategies)


def in_force(term: Term, strategy: Strategy, chosen: Mapping[str, float]) -> Parameters:
    """Return the parameters of a term under a strategy, with what clients chose.

    A leader that records no rules knows nothing of chosen parameters.
    """
    parameters = changed(term.parameters, term.strategies.get(strategy, {}))
    return parameters if term.rules == UNRECORDED_RULES else changed(parameters, chosen)
