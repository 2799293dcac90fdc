"""Facts about the policies of a cell: chosen while it runs, recorded, replayed."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from dtest.events.parameters import Chosen, ParameterNames, Strategy

Ranking = Literal["spread", "pack"]
"""Which of several free workers takes a task; see ``dtest.scheduling.ranking``."""
Timeouts = Literal["declared", "observed"]
"""Whether a task that states no time-out has none, or one that follows from how long others of its
signature took; see ``dtest.scheduling.limits``."""


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A client chose policies that hold from here on; what it does not name stays.

    A parameter that is chosen keeps its value through strategies and terms until it is reset.
    """

    TYPE: ClassVar[str] = "policy.changed"

    ranking: Ranking | None = None
    strategy: Strategy | None = None
    timeouts: Timeouts | None = None
    parameters: Chosen = field(default_factory=dict)
    """Parameters and the values that they take."""
    reset: ParameterNames = ()
    """Parameters that again have the value of the term and its strategy; done first."""

    @property
    def entity_id(self) -> str:
        """What was chosen first."""
        named = (self.ranking, self.strategy, self.timeouts, *self.parameters, *self.reset)
        return next((name for name in named if name), "nothing")
