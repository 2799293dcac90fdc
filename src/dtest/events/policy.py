"""Facts about the policies of a cell: chosen while it runs, recorded, replayed."""

from dataclasses import dataclass
from typing import ClassVar, Literal

Ranking = Literal["spread", "pack"]
"""Which of several free workers takes a task; see ``dtest.scheduling.ranking``."""
Strategy = Literal["progressive", "aggressive", "minimal"]
"""How much is spent on recovery; see ``dtest.recovery.policy``."""
Timeouts = Literal["declared", "observed"]
"""Whether a task that states no time-out has none, or one that follows from how long others of its
signature took; see ``dtest.scheduling.limits``."""


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A client chose policies that hold from here on; what it does not name stays."""

    TYPE: ClassVar[str] = "policy.changed"

    ranking: Ranking | None = None
    strategy: Strategy | None = None
    timeouts: Timeouts | None = None

    @property
    def entity_id(self) -> str:
        """What was chosen."""
        return self.ranking or self.strategy or self.timeouts or "nothing"
