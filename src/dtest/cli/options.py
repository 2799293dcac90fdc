"""Options that every command takes, and the settings that follow from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dtest.settings import Settings, load_settings


def _no_option(_: object, value: str) -> None:
    if value.startswith("-") and value != "-":
        message = f"Unknown option: {value}. A file of this name is given as ./{value}"
        raise ValueError(message)


StandardInputOrFile = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_no_option)]
"""The name of a file; ``-`` is no option but standard input."""


@Parameter(name="*", group="Common")
@dataclass(frozen=True, slots=True)
class CallOptions:
    """Where the cell is, and how to answer."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Answer as JSON (JSON Lines where it streams)."""
    cell: str | None = None
    """Name of the cell."""
    nats: str | None = None
    """Where the NATS servers are."""
    api: str | None = None
    """Where the HTTP API is."""
    token: str | None = None
    """Bearer token of the HTTP API; better set by DTEST_TOKEN_FILE."""
    state_dir: Path | None = None
    """Where local stacks keep their state."""

    def settings(self) -> Settings:
        """Resolve all settings."""
        return load_settings(
            {
                "cell": self.cell,
                "nats_url": self.nats,
                "api_url": self.api,
                "token": self.token,
                "state_dir": str(self.state_dir) if self.state_dir else None,
            }
        )


DEFAULTS = CallOptions()
