"""What the built-in task types must hold; the rest is the worker's matter."""

from typing import Any

import pytest
from hypothesis import given
from pydantic import ValidationError

from dtest.events.config import CommandConfig, Simulation, config_fault, parse_config
from dtest.events.config import TestConfig as PytestConfig
from dtest.events.environment import Environment
from dtest.events.runner import Runner
from tests.kit.payloads import DOCUMENTS, of

TREE = "a" * 64
GOOD: list[tuple[str, dict[str, Any], CommandConfig | PytestConfig]] = [
    ("command", {"command": ["a", "b"]}, CommandConfig(("a", "b"))),
    ("command", {"command": "a | b"}, CommandConfig("a | b")),
    (
        "command",
        {"command": ["a"], "env": {"K": "v"}, "cwd": "/w"},
        CommandConfig(("a",), {"K": "v"}, "/w"),
    ),
    (
        "command",
        {"command": ["a"], "simulate": {"seconds": 1.5, "outcome": "faulted"}},
        CommandConfig(("a",), simulate=Simulation(1.5, "faulted")),
    ),
    ("test", {"paths": ["tests"], "cwd": "/w"}, PytestConfig("/w", ("tests",))),
    (
        "test",
        {"paths": ["a.py::t"], "cwd": "/w", "python": "/py", "args": ["-x"]},
        PytestConfig("/w", ("a.py::t",), "/py", ("-x",)),
    ),
    (
        "command",
        {"command": ["a"], "workspace": TREE, "cwd": "sub", "environment": {"files": ["r.txt"]}},
        CommandConfig(("a",), cwd="sub", workspace=TREE, environment=Environment(files=("r.txt",))),
    ),
    (
        "test",
        {"paths": ["t"], "cwd": ".", "workspace": TREE, "environment": {"project": "."}},
        PytestConfig(".", ("t",), workspace=TREE, environment=Environment(project=".")),
    ),
]
RUN = {"cwd": "/w", "queue": "q"}
GOOD += [
    (
        "test",
        {**RUN, "runner": {"name": "command", "arguments": ["a"], "results": "*.xml"}},
        PytestConfig("/w", queue="q", runner=Runner("command", ("a",), "*.xml")),
    ),
    (
        "test",
        {**RUN, "python": "/py", "runner": {"name": "unittest"}},
        PytestConfig("/w", python="/py", queue="q", runner=Runner("unittest")),
    ),
]
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("command", {}, "config.command"),
    ("command", {"command": []}, "config.command"),
    ("command", {"command": ""}, "config.command"),
    ("command", {"command": 5}, "config.command"),
    ("command", {"command": ["a", 5]}, "config.command"),
    ("command", {"command": ["a"], "env": {"K": 5}}, "config.env.K"),
    ("command", {"command": ["a"], "env": []}, "config.env"),
    ("command", {"command": ["a"], "simulate": {"seconds": -1}}, "config.simulate.seconds"),
    ("command", {"command": ["a"], "simulate": {"outcome": "x"}}, "config.simulate.outcome"),
    ("test", {"cwd": "/w"}, "paths is empty, and there is no queue"),
    ("test", {"paths": [], "cwd": "/w"}, "paths is empty"),
    ("test", {"paths": ["a"], "cwd": "/w", "test_timeout_seconds": 1}, "need a queue"),
    ("test", {"queue": "a.b", "cwd": "/w"}, "config.queue"),
    ("test", {"cwd": "/w", "paths": ["a"], "runner": {"name": "gtest"}}, "needs a queue"),
    ("test", {**RUN, "runner": {"name": "a b"}}, "config.runner.name"),
    ("test", {**RUN, "runner": {"name": "command"}}, "needs arguments"),
    ("test", {**RUN, "runner": {"name": "gtest", "results": "r"}}, "results are for a command"),
    ("test", {**RUN, "args": ["-x"], "runner": {"name": "gtest"}}, "args are for pytest"),
    ("test", {**RUN, "python": "p", "runner": {"name": "gtest"}}, "no use for `python`"),
    ("test", {"paths": ["tests"]}, "config.cwd"),
    ("test", {"paths": "tests", "cwd": "/w"}, "config.paths"),
    ("command", {"command": ["a"], "workspace": "A" * 64}, "config.workspace"),
    ("command", {"command": ["a"], "workspace": TREE, "cwd": "/w"}, "config: "),
    ("command", {"command": ["a"], "workspace": TREE, "cwd": "a/../.."}, "config: "),
    ("command", {"command": ["a"], "environment": {"project": "."}}, "config: "),
    ("command", {"command": ["a"], "environment": {"python": "3"}}, "config.environment"),
    ("command", {"command": ["a"], "environment": {"groups": ["x"]}}, "config.environment"),
    (
        "command",
        {"command": ["a"], "environment": {"requirements": ["a\nb"]}},
        "config.environment.requirements",
    ),
    (
        "test",
        {"paths": ["t"], "cwd": "/w", "python": "/py", "environment": {}},
        "config: ",
    ),
]


@pytest.mark.parametrize(("kind", "config", "expected"), GOOD)
def test_a_config_of_a_built_in_type_is_read(
    kind: str, config: dict[str, Any], expected: CommandConfig | PytestConfig
) -> None:
    assert parse_config(kind, config) == expected
    assert config_fault(kind, config) is None


@pytest.mark.parametrize(("kind", "config", "field"), BAD)
def test_a_wrong_config_of_a_built_in_type_is_named(
    kind: str, config: dict[str, Any], field: str
) -> None:
    fault = config_fault(kind, config)

    assert fault is not None
    assert field in fault
    with pytest.raises(ValidationError):
        parse_config(kind, config)


@given(DOCUMENTS)
def test_a_config_of_another_type_is_passed_through(config: dict[str, Any]) -> None:
    assert parse_config("benchmark", config) is None
    assert config_fault("benchmark", config) is None


@given(DOCUMENTS)
def test_a_wrong_config_is_a_sentence_and_no_error(config: dict[str, Any]) -> None:
    for kind in ("command", "test"):
        fault = config_fault(kind, config)
        assert fault is None or fault.startswith("config")


@given(of(Simulation))
def test_every_simulation_is_accepted(simulation: Simulation) -> None:
    stated = {
        "seconds": simulation.seconds,
        "outcome": simulation.outcome,
        "fault": simulation.fault,
        "device_memory_gb": simulation.device_memory_gb,
    }

    config = parse_config("command", {"command": ["x"], "simulate": stated})

    assert config is not None
    assert config.simulate == simulation
