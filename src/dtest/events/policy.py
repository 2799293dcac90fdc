"""Facts about the policies of a cell: chosen while it runs, recorded, replayed."""

from dataclasses import dataclass
from typing import ClassVar, Literal

Ranking = Literal["spread", "pack"]
"""Which of several free workers takes a task; see ``dtest.scheduling.ranking``."""


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A client chose how workers are ranked from here on."""

    TYPE: ClassVar[str] = "policy.changed"

    ranking: Ranking

    @property
    def entity_id(self) -> str:
        """The ranking."""
        return self.ranking
