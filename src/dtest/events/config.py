"""What the ``config`` of the built-in task types must hold.

Types that only plugins know are passed through: the worker that announces the type checks them.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from dtest.events.environment import Argument, Digest, Environment, inside
from dtest.events.fields import Document, Seconds


@dataclass(frozen=True, slots=True)
class CommandConfig:
    """A program to run: an argument list, or a line for ``/bin/sh``."""

    command: (
        Annotated[tuple[Argument, ...], Field(min_length=1)]
        | Annotated[str, Field(min_length=1, max_length=131_072)]
    )
    env: dict[str, str] = field(default_factory=dict)
    """Added to the agent's environment."""
    cwd: str | None = None
    """Absolute, or relative to the workspace; by default the workspace's root, and without one the
    attempt's own empty directory."""
    workspace: Digest | None = None
    """The tree to run in, as shipped: each attempt gets a copy of its own."""
    environment: Environment | None = None
    """The Python environment whose programs come first in `PATH`"""
    simulate: "Simulation | None" = None

    def __post_init__(self) -> None:
        """Raise ValueError for what contradicts itself."""
        _check_places(self.workspace, self.cwd, self.environment)


@dataclass(frozen=True, slots=True)
class TestConfig:
    """Tests to run with pytest in a child process."""

    paths: Annotated[tuple[Argument, ...], Field(min_length=1)]
    """Files, directories or node ids, relative to ``cwd``."""
    cwd: str
    """Absolute, where the tested project lies on the worker; or relative to the workspace."""
    python: str | None = None
    """Interpreter that holds the project's requirements; by default the environment's, or the
    agent's."""
    args: tuple[Argument, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    workspace: Digest | None = None
    """As for ``command``."""
    environment: Environment | None = None
    """As for ``command``; pytest is among its requirements."""
    simulate: "Simulation | None" = None

    def __post_init__(self) -> None:
        """Raise ValueError for what contradicts itself."""
        _check_places(self.workspace, self.cwd, self.environment)
        if self.environment is not None and self.python is not None:
            message = "`python` and `environment` each name an interpreter: leave out one"
            raise ValueError(message)


def _check_places(workspace: str | None, cwd: str | None, environment: Environment | None) -> None:
    """Raise ValueError for a place outside of the workspace, or in one that is not there."""
    if workspace is not None and cwd is not None:
        inside(cwd)
    if workspace is None and environment is not None and environment.needs_tree:
        message = "this environment is built of files: name the workspace that holds them"
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a simulated worker does with the task instead of running it."""

    seconds: Seconds = 0.0
    outcome: Literal["passed", "failed", "faulted"] = "passed"


CONFIGS: dict[str, type[CommandConfig | TestConfig]] = {
    "command": CommandConfig,
    "test": TestConfig,
}
"""The shape of the config of each built-in type."""


@cache
def _adapter(kind: str) -> TypeAdapter[CommandConfig | TestConfig]:
    return TypeAdapter(CONFIGS[kind])


def parse_config(kind: str, config: Document) -> CommandConfig | TestConfig | None:
    """Read the config of a built-in type; none for a type that is not built in.

    Raises pydantic.ValidationError.
    """
    return _adapter(kind).validate_python(config) if kind in CONFIGS else None


def config_fault(kind: str, config: Document) -> str | None:
    """Say what is wrong with a config, or none."""
    try:
        parse_config(kind, config)
    except ValidationError as error:
        return "; ".join(
            f"{'.'.join(map(str, ('config', *problem['loc'])))}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False)[:5]
        )
    return None
