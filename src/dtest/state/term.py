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
from dtest.events.policy import PolicyChanged

UNRECORDED_RULES = 0
"""Version of the rules of terms that recorded none."""
DRAIN_ENDS_RULES = 4
"""Version of the rules from which on an operator's reinstatement ends an operator's drain."""


@dataclass(frozen=True, slots=True)
class Term:
    """The rules of one term, as its leader recorded them."""

    rules: int = UNRECORDED_RULES
    parameters: Parameters = UNRECORDED
    names: tuple[str, ...] = ()
    """The parameters that it knows; one that it does not know cannot be chosen under it."""
    strategies: Mapping[str, Numbers] = field(default_factory=lambda: UNRECORDED_STRATEGIES)


def term_of(elected: LeaderElected) -> Term:
    """Return what an election recorded; for older ones what was in force without being recorded."""
    if elected.rules == UNRECORDED_RULES:
        return Term()
    return Term(
        elected.rules,
        changed(UNRECORDED, elected.parameters),
        tuple(elected.parameters),
        elected.strategies,
    )


def unknown_to(term: Term, choice: PolicyChanged) -> list[str]:
    """Return the parameters of a choice that the leader of a term does not know, and so refuses.

    One that records no rules does not even see them, and takes the rest of the choice.
    """
    named = (*choice.parameters, *choice.reset)
    return [name for name in named if term.rules and name not in term.names]


def in_force(term: Term, strategy: Strategy, chosen: Mapping[str, float]) -> Parameters:
    """Return the parameters of a term under a strategy, with what clients chose.

    What the term does not know does nothing; one without recorded rules knows of no choice at all.
    """
    known = {name: value for name, value in chosen.items() if name in term.names}
    return changed(changed(term.parameters, term.strategies.get(strategy, {})), known)
