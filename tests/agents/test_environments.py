"""Environments are built once, shared while they are whole, kept while they are used."""

import asyncio
import os
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from dtest.agents.environments import LOGS_MAX, STEPS_SCRIPT, EnvironmentPolicy
from dtest.agents.interpreters import interpreter_for
from dtest.errors import NotFound
from dtest.events.attempt import AttemptFinished
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from tests.agents.cell import RealCell
from tests.kit.agent import WITHIN_S, Workbench, end_all, is_alive
from tests.kit.nats import eventually

WHEEL = "tiny-1.0-py3-none-any.whl"


def wheel(directory: Path) -> None:
    """Make a package that needs no index to be installed."""
    about = "tiny-1.0.dist-info"
    files = {
        "tiny.py": "VALUE = 42\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(directory / WHEEL, "w") as packed:
        for name, text in {**files, f"{about}/RECORD": record}.items():
            packed.writestr(name, text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    wheel(root)
    (root / "requirements.txt").write_text(f"--no-index\n./{WHEEL}\n")
    (root / "other.txt").write_text("# nothing\n")
    return root


def built(bench: Workbench) -> list[Path]:
    """What lies among the environments, whole or not."""
    return sorted((bench.directory / "machine" / "environments" / "built").iterdir())


def noted(bench: Workbench) -> list[str]:
    notes = bench.directory / "machine" / "environments" / "notes"
    return [str(orjson.loads(path.read_bytes())["directory"]) for path in notes.iterdir()]


async def run(
    bench: Workbench, digest: str, argv: Any, task: str, /, **recipe: Any
) -> AttemptFinished:
    config = {"workspace": digest, "environment": recipe}
    return await bench.run(argv, task=task, config=config)


class Gate:
    """A requirements file that pip reads for as long as a test likes: the build stands still."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "gate"
        self.recipe = {"requirements": [f"-r {self.path}"]}
        self._writer: int | None = None
        os.mkfifo(self.path)

    async def reached(self) -> None:
        """Wait until a build reads it, and hold that up."""
        await eventually(self._is_held_open, within_s=WITHIN_S, what="a build runs")

    def _is_held_open(self) -> bool:
        if self._writer is None:
            with suppress(OSError):  # nobody reads
                self._writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        return self._writer is not None

    @property
    def is_read(self) -> bool:
        """Whether the build that reached it still runs."""
        assert self._writer is not None
        try:
            os.write(self._writer, b"#")
        except BrokenPipeError:
            return False
        return True

    def answer(self, content: bytes) -> None:
        """Let whoever reads now read this, and its end."""
        if self._is_held_open():
            assert self._writer is not None
            with suppress(BrokenPipeError):
                os.write(self._writer, content)
            os.close(self._writer)
            self._writer = None

    def open_for_all(self) -> None:
        """Hold nobody up any more."""
        self.path.unlink()
        self.path.write_text("# nothing\n")


SHOW = ["python", "-c", "import tiny, sys; print(tiny.VALUE, sys.prefix)"]


async def test_attempts_at_once_share_what_is_built_once(bench: Workbench, project: Path) -> None:
    digest = bench.stores.workspaces.hold(project)
    config = {"workspace": digest, "environment": {"files": ["requirements.txt"]}}
    async with bench.agent():
        for number in range(3):
            bench.start(SHOW, task=f"t{number}", config=config)
        ends = [await bench.ended(f"t{number}") for number in range(3)]

    assert [end.outcome for end in ends] == ["passed"] * 3
    said = {bench.stores.output(f"t{number}.1") for number in range(3)}
    (place,) = built(bench)
    assert said == {f"42 {place}\n".encode()}
    assert b"Successfully installed tiny-1.0" in (place / "build.log").read_bytes()


async def test_another_tree_with_the_same_recipe_has_the_same_environment(
    bench: Workbench, project: Path
) -> None:
    trees = bench.stores.workspaces
    async with bench.agent():
        first = await run(bench, trees.hold(project), SHOW, "a", files=["requirements.txt"])
        (project / "other.txt").write_text("changed\n")
        second = await run(bench, trees.hold(project), SHOW, "b", files=["requirements.txt"])

    assert (first.outcome, second.outcome) == ("passed", "passed")
    assert len(built(bench)) == 1


async def test_a_changed_recipe_is_another_environment(bench: Workbench, project: Path) -> None:
    trees = bench.stores.workspaces
    async with bench.agent():
        await run(bench, trees.hold(project), SHOW, "a", files=["requirements.txt"])
        (project / "requirements.txt").write_text("# nothing\n")
        end = await run(bench, trees.hold(project), SHOW, "b", files=["requirements.txt"])

    assert (end.outcome, end.reason) == ("failed", Reason.EXIT_NONZERO)
    assert b"No module named 'tiny'" in bench.stores.output("b.1")


async def test_an_environment_needs_no_workspace(bench: Workbench) -> None:
    show = ["python", "-c", "import sys; print(sys.prefix != sys.base_prefix)"]
    async with bench.agent():
        end = await bench.run(show, config={"environment": {}})

    assert (end.outcome, bench.stores.output()) == ("passed", b"True\n")


async def test_a_command_runs_in_a_copy_of_the_tree(bench: Workbench, project: Path) -> None:
    digest = bench.stores.workspaces.hold(project)
    command = ["sh", "-c", "echo built > other.txt && cp other.txt $VIRTUAL_ENV/made"]
    async with bench.agent():
        end = await run(bench, digest, "cat other.txt $VIRTUAL_ENV/made", "t", command=command)

    assert end.outcome == "passed"
    assert bench.stores.output() == b"# nothing\nbuilt\n"


async def test_a_failed_build_is_a_fault_of_its_own_with_its_log(bench: Workbench) -> None:
    recipe = {"requirements": ["./missing-1.0-py3-none-any.whl"]}
    async with bench.agent():
        end = await bench.run("true", config={"environment": recipe})

    assert (end.outcome, end.reason) == ("faulted", Reason.ENV_SETUP_FAILED)
    assert "missing-1.0-py3-none-any.whl" in end.detail
    assert end.detail.endswith("exit status 1")
    assert len(end.detail) < 3_000
    assert b" -m venv " in bench.stores.output()
    assert bench.stores.output().endswith(b"exit status 1\n")
    assert built(bench) == []


async def test_who_waited_for_a_build_that_failed_does_not_repeat_it(
    bench: Workbench, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    async with bench.agent():
        for place in range(4):
            bench.start("true", task=f"t{place}", config={"environment": gate.recipe})
        await gate.reached()

        def all_ended() -> bool:
            gate.answer(b"this is no requirement\n")
            return bench.executor.held() == ()

        await eventually(all_ended, within_s=WITHIN_S, what="all have heard of it")
        ends = [await bench.ended(f"t{place}") for place in range(4)]

    assert [end.reason for end in ends] == [Reason.ENV_SETUP_FAILED] * 4
    logs = (bench.directory / "machine" / "environments" / "logs").glob("*.log")
    assert len(list(logs)) <= 2  # somebody may have come a moment too late


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"files": ["missing.txt"]}, "no file missing.txt"),
        ({"project": "."}, "no file pyproject.toml"),
    ],
)
async def test_a_recipe_that_cannot_be_followed_here_is_told(
    bench: Workbench, project: Path, recipe: dict[str, Any], said: str
) -> None:
    digest = bench.stores.workspaces.hold(project)
    async with bench.agent():
        end = await run(bench, digest, "true", "t", **recipe)

    assert (end.outcome, end.reason) == ("faulted", Reason.ENV_SETUP_FAILED)
    assert said in end.detail


async def test_a_build_that_takes_too_long_ends(bench: Workbench, tmp_path: Path) -> None:
    bench.caches = replace(bench.caches, environments=EnvironmentPolicy(build_s_max=1.0))
    async with bench.agent():
        end = await bench.run("true", config={"environment": Gate(tmp_path).recipe})

    assert end.reason is Reason.ENV_SETUP_FAILED
    assert "more than 1 s" in end.detail


async def test_an_attempt_is_stopped_while_its_environment_is_built(
    bench: Workbench, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    async with bench.agent():
        bench.start("true", config={"environment": gate.recipe})
        await gate.reached()
        bench.executor.stop(TaskId("t"), 1, Reason.CANCELLED_USER)
        end = await bench.ended()

    assert end.reason is Reason.CANCELLED_USER
    assert built(bench) == []
    await eventually(lambda: not gate.is_read, what="what built it is gone")


async def test_an_environment_in_use_is_never_removed(bench: Workbench) -> None:
    bench.caches = replace(bench.caches, environments=EnvironmentPolicy(cache_bytes_max=1))

    async def build(task: str, python: str) -> None:
        end = await bench.run("true", task=task, config={"environment": {"python": python}})
        assert end.outcome == "passed"

    async with bench.agent():
        used = {"environment": {"python": ">=3.1"}}
        bench.start("echo up; exec sleep 600", task="user", config=used)
        await bench.prints(b"up", "user.1")
        (first,) = noted(bench)
        await build("b", ">=3.2")
        assert first in noted(bench)
        await build("c", ">=3.3")
        assert first in noted(bench)
        assert len(noted(bench)) == 2  # the one between them was used by nobody any more
        bench.executor.stop(TaskId("user"), 1, Reason.CANCELLED_USER)
        await bench.ended("user")
        await eventually(lambda: bench.executor.held() == ())
        await build("d", ">=3.4")

    assert first not in noted(bench)
    assert [path.name for path in built(bench)] == noted(bench)


async def test_logs_of_failures_are_bounded(bench: Workbench) -> None:
    logs = bench.directory / "machine" / "environments" / "logs"
    logs.mkdir(parents=True)
    for place in range(LOGS_MAX + 20):
        (logs / f"{place}.log").touch()
        os.utime(logs / f"{place}.log", (place, place))
    async with bench.agent():
        await bench.run("true", config={"environment": {}})

    assert len(list(logs.iterdir())) == LOGS_MAX


async def test_an_agent_that_is_killed_leaves_no_half_environment(
    cell: RealCell, project: Path, tmp_path: Path
) -> None:
    digest = await cell.ship(project)
    gate = Gate(tmp_path)
    recipe = {"files": ["requirements.txt"], **gate.recipe}
    own = cell.agent("builder", "--slots", "2", "--label", "only=builder")
    await own.start()
    try:
        task = await cell.submit(
            "",
            config={"command": SHOW, "workspace": digest, "environment": recipe},
            requirements=cell.only(own),
        )
        await gate.reached()
        await own.kill()
        await eventually(lambda: not gate.is_read, what="the build ends with its agent")
        gate.open_for_all()
        await own.start()
        end = await cell.finished(task)
        await own.terminate()  # nobody watches this cell for workers that are gone
    finally:
        await own.end()
        end_all(own.directory)

    assert (end.outcome, end.reason) == ("passed", None)
    assert (await cell.output(task, end.attempt)).startswith(b"42 ")


@pytest.mark.parametrize("constraint", ["", ">=3.11"])
async def test_the_agents_own_interpreter_comes_first(constraint: str, tmp_path: Path) -> None:
    found = await interpreter_for(constraint, str(tmp_path))

    assert (found.path, found.version) == (sys.executable, sys.version_info[:3])


def program(directory: Path, name: str, says: str) -> None:
    """Put a program into a directory of programs."""
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


async def test_another_interpreter_is_found_by_what_it_says(tmp_path: Path) -> None:
    program(tmp_path, "python3", "no json")
    program(tmp_path, "python3.19", '["/opt/python3.19", [3, 19, 2], "CPython", "linux-x86_64"]')
    program(tmp_path, "python3.18", '["/opt/python3.18", [3, 18, 4], "CPython", "linux-x86_64"]')

    assert (await interpreter_for(">=3.18,<3.19", str(tmp_path))).path == "/opt/python3.18"
    with pytest.raises(NotFound, match=r"wants Python >=9; this worker has 3\.\d+\.\d+, 3.18.4"):
        await interpreter_for(">=9", str(tmp_path))


def test_the_steps_end_with_whoever_started_them(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    plan = [{"argv": ["sh", "-c", f"echo $$ > {mark}; sleep 600"], "cwd": "/", "env": {}}]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", STEPS_SCRIPT], stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(orjson.dumps(plan) + b"\n")
        process.stdin.flush()
        while not mark.exists() or not mark.read_text():
            assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=WITHIN_S) == -signal.SIGKILL
        child = int(mark.read_text())
    # Killed in the same breath, but its end may be seen a moment later.
    asyncio.run(eventually(lambda: not is_alive(child), what="the step has ended"))
