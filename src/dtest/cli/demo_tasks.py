"""The demo's run: a graph of tasks, its suites, and how each task has to end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN_ID = "demo"

GOOD = """
import pytest

@pytest.mark.parametrize("n", range(5))
def test_squares(n):
    assert n * n == n ** 2

@pytest.mark.skip(reason="shows a skip")
def test_skipped():
    raise AssertionError
"""
FAILING = """
def test_passes():
    assert True

def test_arithmetic_is_wrong_here():
    assert 2 + 2 == 5
"""
CRASHING = """
import os, signal

def test_before():
    assert 1

def test_takes_the_process_down():
    os.kill(os.getpid(), signal.SIGSEGV)

def test_after():
    assert 1
"""
HANGING = """
import threading

def test_quick():
    assert 1

def test_never_ends():
    threading.Event().wait()
"""
SUITES = {"good": GOOD, "failing": FAILING, "crashing": CRASHING, "hanging": HANGING}


@dataclass(frozen=True, slots=True)
class Expected:
    """How a task has to end."""

    status: str
    reason: str | None = None
    attempts_min: int = 1
    flaky: bool = False
    hardware: tuple[str, ...] | None = None


def write_suites(directory: Path) -> dict[str, Path]:
    """Write the suites; return their files."""
    files: dict[str, Path] = {}
    for name, text in SUITES.items():
        home = directory / name
        home.mkdir(parents=True)
        (home / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        files[name] = home / f"test_{name}.py"
        files[name].write_text(text.lstrip(), encoding="utf-8")
    return files


def _command(name: str, line: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - a document
    return {"task_id": name, "type": "command", "config": {"command": line}, **more}


def _suite(name: str, file: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - a document
    config = {"paths": [file.name], "cwd": str(file.parent)}
    return {"task_id": name, "type": "test", "config": config, **more}


def _simulated(name: str, hardware: list[str], **needs: Any) -> dict[str, Any]:  # noqa: ANN401 - a document
    config = {"command": ["train"], "simulate": {"seconds": 0.5}}
    return {
        "task_id": name,
        "type": "command",
        "config": config,
        "requirements": {"hardware": hardware, **needs},
        "dependencies": ["prepare"],
    }


def documents(suites: dict[str, Path]) -> list[dict[str, Any]]:
    """Return the tasks of the run."""
    flaky = 'test "$DTEST_ATTEMPT" -gt 1 || { echo "fails at first"; exit 1; }'
    return [
        _command("prepare", 'echo prepared > "$DTEST_ARTIFACT_DIR/prepared.txt"', priority=1),
        _command("compile", "echo compiled on $DTEST_HARDWARE", dependencies=["prepare"]),
        _simulated("train-on-cuda", ["cuda"], min_cuda_compute=7.5),
        _simulated("train-on-rocm", ["rocm"]),
        _simulated("train-on-any-gpu", ["cuda", "rocm"]),
        _suite("suite-good", suites["good"], dependencies=["compile"]),
        _suite("suite-failing", suites["failing"]),
        _suite("suite-crashing", suites["crashing"]),
        _suite("suite-hanging", suites["hanging"], timeout_seconds=3.0, grace_seconds=1.0),
        _command("flaky", flaky, retry_policy={"max_retries": 2, "retry_delay_seconds": 0.2}),
        _command("to-be-cancelled", "sleep 600", grace_seconds=1.0, priority=1),
        _command("survives-its-worker", "sleep 2; echo survived", priority=1),
        _command("after-the-failure", "echo never", dependencies=["suite-failing"]),
        _command(
            "report",
            "echo all known",
            dependencies=["suite-good", "suite-failing", "train-on-cuda", "train-on-rocm"],
            dependency_rule="all_finished",
        ),
    ]


def expectations() -> dict[str, Expected]:
    """Return how each task has to end."""
    return {
        "prepare": Expected("passed"),
        "compile": Expected("passed"),
        "train-on-cuda": Expected("passed", hardware=("cuda",)),
        "train-on-rocm": Expected("passed", hardware=("rocm",)),
        "train-on-any-gpu": Expected("passed", hardware=("cuda", "rocm")),
        "suite-good": Expected("passed"),
        "suite-failing": Expected("failed", "assertion_failed"),
        "suite-crashing": Expected("errored", "crash_signal"),
        "suite-hanging": Expected("errored", "run_timeout"),
        "flaky": Expected("passed", attempts_min=2, flaky=True),
        "to-be-cancelled": Expected("cancelled", "cancelled_user"),
        "survives-its-worker": Expected("passed", attempts_min=2),
        "after-the-failure": Expected("skipped", "dependency_never", attempts_min=0),
        "report": Expected("passed"),
    }
