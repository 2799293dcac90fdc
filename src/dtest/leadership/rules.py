"""The rules by which leaders decide, version by version, as values.

A leader records the version that it decides by; the audit decides again by that version. The last
``KEPT`` versions stay here. A change of a decider, or of what the fold makes of an event, is a new
version: CONTRIBUTING.md says how it is made, and the golden journals hold that it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from dtest.events.leader import LeaderElected
from dtest.events.parameters import (
    UNRECORDED,
    UNRECORDED_STRATEGIES,
    Numbers,
    Parameters,
)
from dtest.leadership.decision import Parts, decide, decide_unrecorded
from dtest.state.cell import Cell
from dtest.state.term import UNRECORDED_RULES

KEPT = 5
"""Number of versions whose decisions can be made again."""


@dataclass(frozen=True, slots=True)
class Rules:
    """One version of the rules."""

    version: int
    decide: Callable[[Cell, float], Parts]
    """All that is to be recorded about a state at an instant; takes its numbers from the state."""
    parameters: Parameters
    """What a term of this version begins with, and records."""
    strategies: Mapping[str, Numbers]
    """What each strategy changes of them."""


RULES: dict[int, Rules] = {
    rules.version: rules
    for rules in (
        # What led before versions were recorded; a term that names none may be older still.
        Rules(UNRECORDED_RULES, decide_unrecorded, UNRECORDED, UNRECORDED_STRATEGIES),
        # Parameters are recorded and can be changed; a part of the rulings is a part by name.
        Rules(1, decide, UNRECORDED, UNRECORDED_STRATEGIES),
        # Plans of suites are facts; a test has its number, and its node id may be long.
        Rules(2, decide, UNRECORDED, UNRECORDED_STRATEGIES),
        # A run of a suite is conducted by the cell.
        Rules(3, decide, UNRECORDED, UNRECORDED_STRATEGIES),
        # A reinstatement ends a drain, too.
        Rules(4, decide, UNRECORDED, UNRECORDED_STRATEGIES),
    )
}
CURRENT = RULES[max(RULES)]


def elected(
    leader_id: str,
    previous_epoch: int = 0,
    host: str = "",
    version: str = "",
    *,
    rules: Rules = CURRENT,
) -> LeaderElected:
    """Return the election of a leader that decides by these rules."""
    return LeaderElected(
        leader_id,
        previous_epoch,
        host,
        version,
        rules=rules.version,
        parameters=asdict(rules.parameters),
        strategies=dict(rules.strategies),
    )
