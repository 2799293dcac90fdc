"""What an agent needs of a queue of units."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol


class Pulled(Protocol):
    """A unit that was handed out."""

    @property
    def body(self) -> bytes:
        """The unit's document."""
        ...

    @property
    def handle(self) -> str:
        """What names it to the queue."""
        ...


class State(Protocol):
    """How far a queue is."""

    @property
    def is_empty(self) -> bool:
        """Whether all is done and nothing more will come."""
        ...

    @property
    def closed(self) -> bool:
        """Whether nothing more will come but what is given back."""
        ...


class Queue(Protocol):
    """Where units come from. All of it may raise Unavailable."""

    async def open(self) -> None:
        """Make it if it is not there."""
        ...

    async def put(self, units: Iterable[tuple[str, bytes]]) -> None:
        """Put in units, each under an id of its own."""
        ...

    async def tell(self, documents: Sequence[bytes]) -> None:
        """Say what the suite holds."""
        ...

    async def pull(self, wait_s: float) -> Pulled | None:
        """Take the next unit, if one comes in time."""
        ...

    async def done(self, handle: str) -> None:
        """Take a unit out for good."""
        ...

    async def give_back(self, handle: str) -> None:
        """Let somebody else have a unit."""
        ...

    async def beat(self, handles: Iterable[str]) -> None:
        """Say that units are worked on."""
        ...

    async def state(self) -> State:
        """Say how far it is. Raises NotFound too."""
        ...

    async def say_hungry(self, name: str) -> None:
        """Tell the other sessions that this one has nothing to do."""
        ...

    async def on_hungry(self, heard: Callable[[str], None]) -> Callable[[], Awaitable[None]]:
        """Have ``heard(name)`` called for each that has nothing to do; returns how to stop."""
        ...

    async def leave(self) -> None:
        """Pull no more."""
        ...
