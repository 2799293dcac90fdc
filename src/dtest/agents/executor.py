"""What an agent needs of whatever runs its attempts: real processes or a simulation."""

from typing import Protocol

from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.events.worker import HeldAttempt


class Executor(Protocol):
    """Runs attempts and tells the reporter what becomes of them."""

    def held(self) -> tuple[HeldAttempt, ...]:
        """Return the attempts in hand."""
        ...

    def output_bytes_dropped(self) -> int:
        """Return how much output was given up since the start of this agent."""
        ...

    def start(self, assigned: AttemptAssigned) -> None:
        """Take an attempt; one that is in hand already is left alone."""
        ...

    def stop(self, task_id: TaskId, attempt: int, reason: Reason) -> None:
        """Stop an attempt; one that is not in hand is ignored."""
        ...

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    async def drain(self, grace_s: float) -> None:
        """Let attempts end for ``grace_s`` seconds, then hand the rest back."""
        ...
