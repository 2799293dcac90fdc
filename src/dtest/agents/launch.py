"""Turns an assignment into what the keeper starts: arguments, directory, environment.

Starts nothing itself.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from dtest.agents.preparation import Prepared
from dtest.agents.pytest_session import FED_MODULE, SESSION_MODULE
from dtest.agents.recipe import activated
from dtest.agents.runner_session import RUNNER_MODULE
from dtest.agents.unittest_session import UNITTEST_MODULE
from dtest.events.attempt import AttemptAssigned
from dtest.events.config import CommandConfig, TestConfig, parse_config
from dtest.events.runner import Runner
from dtest.runners.registry import ADAPTERS, UNITTEST

_VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES"}
_ORDER = {"cuda": {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}}
"""CUDA numbers devices by speed unless told; the probe numbers them as the driver does."""


RUN_CHARS = 32
"""Of the id of a run, in the name that its sessions share: the end of it is the random part."""

UNPREPARED = Prepared()


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to be."""

    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    """Added to the keeper's base environment."""
    paths: tuple[str, ...] | None = None
    """For ``test``: what to write into ``paths.txt`` first."""


def launch(assigned: AttemptAssigned, directory: Path, prepared: Prepared = UNPREPARED) -> Launch:
    """Return what to start for an attempt that works in ``directory``, with what was prepared.

    Raises ValueError for a type that this agent does not run, pydantic.ValidationError for a
    config that does not have the form of its type.
    """
    config = parse_config(assigned.type, assigned.config)
    env = {
        "DTEST_TASK_ID": assigned.task_id,
        "DTEST_ATTEMPT": str(assigned.attempt),
        "DTEST_HARDWARE": assigned.hardware,
        "DTEST_ARTIFACT_DIR": str(directory / "artifacts"),
        "DTEST_CHECKPOINT_DIR": str(directory / "checkpoint"),
        **_visible_devices(assigned),
    }
    if prepared.environment is not None:
        env |= activated(str(prepared.environment), prepared.path)
    match config:
        case CommandConfig():
            line = config.command
            argv = ("/bin/sh", "-c", line) if isinstance(line, str) else line
            cwd = _place(prepared, config.cwd or ".") if prepared.tree else config.cwd
            return Launch(argv, cwd or str(directory / "work"), {**env, **config.env})
        case TestConfig():
            cwd = _place(prepared, config.cwd)
            if config.runner is None:
                of_run = _named(config, assigned) if config.queue is not None else ()
                session = _session(config, cwd, _python(prepared), directory)
                argv = (*session, *of_run, "--", *config.args)
            else:
                python = _python(prepared)
                argv = _foreign(config, config.runner, cwd, python, directory, assigned)
            return Launch(argv, cwd, {**env, **config.env}, config.paths)
        case None:
            message = f"this agent does not run tasks of type {assigned.type}"
            raise ValueError(message)


def _session(config: TestConfig, cwd: str, python: str, directory: Path) -> tuple[str, ...]:
    """Return what runs pytest: once for given paths, or for what a queue hands out."""
    options = (
        *("--python", config.python or python),
        *("--cwd", cwd),
        *("--out", str(directory / "cases.jsonl")),
        *("--paths-file", str(directory / "paths.txt")),
    )
    if config.queue is None:
        return (sys.executable, "-I", "-m", SESSION_MODULE, *options)
    limit_s = config.test_timeout_seconds
    limited = ("--test-timeout", str(limit_s)) if limit_s is not None else ()
    collecting = ("--collect",) if config.collect else ()
    fed = (sys.executable, "-I", "-m", FED_MODULE, *options)
    return (*fed, "--feed", str(directory / "feed.jsonl"), *limited, *collecting)


def _named(config: TestConfig, assigned: AttemptAssigned) -> tuple[str, ...]:
    """Return what tells a session who it is among those of its run."""
    run = (assigned.run_id or assigned.task_id).replace("-", "")[-RUN_CHARS:]
    return ("--worker", config.worker, "--workers", str(config.workers), "--run", run)


def _foreign(
    config: TestConfig,
    runner: Runner,
    cwd: str,
    python: str,
    directory: Path,
    assigned: AttemptAssigned,
) -> tuple[str, ...]:
    """Return what runs tests by another runner. Raises ValueError for one that is not known."""
    if runner.name != UNITTEST and runner.name not in ADAPTERS:
        known = ", ".join(sorted({UNITTEST, *ADAPTERS}))
        message = f"this agent knows no runner {runner.name}; it knows {known}"
        raise ValueError(message)
    limit_s = config.test_timeout_seconds
    options = (
        *("--cwd", cwd),
        *("--out", str(directory / "cases.jsonl")),
        *("--paths-file", str(directory / "paths.txt")),
        *("--feed", str(directory / "feed.jsonl")),
        *(("--test-timeout", str(limit_s)) if limit_s is not None else ()),
        *(("--collect",) if config.collect else ()),
    )
    if runner.name == UNITTEST:
        of_run = _named(config, assigned)
        named: tuple[str, ...] = ("-m", UNITTEST_MODULE, "--python", config.python or python)
        named = (*named, *of_run)
    else:
        results = ("--results", runner.results) if runner.results is not None else ()
        named = ("-m", RUNNER_MODULE, "--runner", runner.name, *results)
    return (sys.executable, "-I", *named, *options, "--", *runner.arguments)


def _place(prepared: Prepared, cwd: str) -> str:
    """Return where the process works: in its workspace, or where the task says."""
    return cwd if prepared.tree is None else str(prepared.tree / cwd)


def _python(prepared: Prepared) -> str:
    """Return the interpreter of a task that names none."""
    if prepared.environment is None:
        return sys.executable
    return str(prepared.environment / "bin" / "python")


def _visible_devices(assigned: AttemptAssigned) -> dict[str, str]:
    numbers = ",".join(name.partition(":")[2] for name in assigned.devices)
    if not numbers:
        return {}
    name = _VISIBLE.get(assigned.hardware)
    return {name: numbers, **_ORDER.get(assigned.hardware, {})} if name else {}


def write_inputs(planned: Launch, directory: Path) -> None:
    """Make the files that the attempt reads."""
    if planned.paths is not None:
        lines = "".join(f"{path}\n" for path in planned.paths)
        (directory / "paths.txt").write_text(lines, encoding="utf-8")
