"""What the ``config`` of the built-in task types must hold.

Types that only plugins know are passed through: the worker that announces the type checks them.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from dtest.events.environment import Argument, Digest, Environment, inside
from dtest.events.fields import DOCUMENT_BYTES_MAX, TOKEN_PATTERN, Document, Gigabytes, Seconds
from dtest.events.runner import Runner

SimulatedFault = Literal[
    "env_setup_failed",
    "crash_signal",
    "run_timeout",
    "oom_task",
    "oom_device",
    "oom_host",
    "device_lost",
    "gpu_hang",
    "driver_reset",
]


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
    """Tests to run in child processes: those of paths, or what a queue hands out."""

    cwd: str
    """Absolute, where the tested project lies on the worker; or relative to the workspace."""
    paths: tuple[Argument, ...] = ()
    """Files, directories or node ids, relative to ``cwd``. With a queue: what the suite is
    collected from, which may be nothing for what pytest's own settings say."""
    python: str | None = None
    """Interpreter that holds the project's requirements; by default the environment's, or the
    agent's."""
    args: tuple[Argument, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    queue: Annotated[str, Field(pattern=TOKEN_PATTERN)] | None = None
    """Name of the queue of units of tests. One session lasts until the queue is empty."""
    collect: bool = False
    """This session collects the whole suite first and tells the queue what there is."""
    test_timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    """How long one test may take; it is ended and named, the others go on. With a queue only."""
    workspace: Digest | None = None
    """As for ``command``."""
    environment: Environment | None = None
    """As for ``command``; pytest is among its requirements, if that runs the tests."""
    worker: Annotated[str, Field(pattern=r"^gw[0-9]{1,6}$")] = "gw0"
    """With a queue: what the session is called among those of its run that run at the same time;
    suites read it in `PYTEST_XDIST_WORKER`."""
    workers: Annotated[int, Field(ge=1)] = 1
    """With a queue: how many sessions the run has, for `PYTEST_XDIST_WORKER_COUNT`."""
    runner: Runner | None = None
    """What runs the tests, by default pytest. With a queue only."""
    simulate: "Simulation | None" = None

    def __post_init__(self) -> None:
        """Raise ValueError for what contradicts itself, or says nothing."""
        if self.queue is None and not self.paths:
            message = "paths is empty, and there is no queue to take tests from"
            raise ValueError(message)
        if self.queue is None and self.runner is not None:
            message = "a runner needs a queue: its tests are units that sessions pull"
            raise ValueError(message)
        if self.runner is not None and self.args:
            message = "args are for pytest: give those of a runner as its arguments"
            raise ValueError(message)
        if self.runner is not None and self.python is not None and self.runner.name != "unittest":
            message = f"the runner {self.runner.name} has no use for `python`"
            raise ValueError(message)
        if self.queue is None and (self.collect or self.test_timeout_seconds is not None):
            message = "collect and test_timeout_seconds need a queue"
            raise ValueError(message)
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
    fault: SimulatedFault = "env_setup_failed"
    """The reason of ``faulted``."""
    device_memory_gb: Gigabytes = 0.0
    """What the task needs of each reserved device, GB; on one that has less it ends as
    ``oom_device``."""


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


def merged(config: Document, patch: Document) -> Document:
    """Return a config with a JSON Merge Patch applied (RFC 7396): null removes a field."""
    result = {name: value for name, value in config.items() if patch.get(name, "") is not None}
    for name, value in patch.items():
        if isinstance(value, dict):
            base = config.get(name)
            result[name] = merged(base if isinstance(base, dict) else {}, value)
        elif value is not None:
            result[name] = value
    return result


def config_fault(kind: str, config: Document, fallback: Document | None = None) -> str | None:
    """Say what is wrong with a config, or with what its fallback makes of it, or none."""
    fault = _fault(kind, config, "config")
    if fault is not None or fallback is None:
        return fault
    smaller = merged(config, fallback)
    if smaller == config:
        return "fallback_config: changes nothing of the config"
    if ("simulate" in smaller) != ("simulate" in config):
        return "fallback_config: may neither add nor remove `simulate`"
    if len(orjson.dumps(smaller)) > DOCUMENT_BYTES_MAX:
        return f"fallback_config: makes a config of more than {DOCUMENT_BYTES_MAX} bytes"
    return _fault(kind, smaller, "fallback_config")


def _fault(kind: str, config: Document, where: str) -> str | None:
    try:
        parse_config(kind, config)
    except ValidationError as error:
        return "; ".join(
            f"{'.'.join(map(str, (where, *problem['loc'])))}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False)[:5]
        )
    return None
