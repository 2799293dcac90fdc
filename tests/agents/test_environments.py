"""Environments are built once, shared while they are whole, kept while they are used."""

import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from dtest.agents.environments import LOGS_MAX, STEPS_SCRIPT, EnvironmentPolicy
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


async def test_a_failed_build_is_a_fault_of_its_own_with_its_log(
    bench: Workbench, project: Path
) -> None:
    digest = bench.stores.workspaces.hold(project)
    command = ["sh", "-c", "seq 5000; echo the compiler is missing; exit 3"]
    async with bench.agent():
        end = await run(bench, digest, "true", "t", command=command)

    assert (end.outcome, end.reason) == ("faulted", Reason.ENV_SETUP_FAILED)
    assert "the compiler is missing\nexit status 3" in end.detail
    assert len(end.detail) < 3_000
    assert b"\n1\n2\n3\n" in bench.stores.output()
    assert b"the compiler is missing" in bench.stores.output()
    assert built(bench) == []


async def test_who_waited_for_a_build_that_failed_does_not_repeat_it(
    bench: Workbench, project: Path, tmp_path: Path
) -> None:
    digest = bench.stores.workspaces.hold(project)
    count, go = tmp_path / "count", tmp_path / "go"
    script = f"echo x >> {count}; while ! test -e {go}; do sleep 0.02; done; exit 1"
    config = {"workspace": digest, "environment": {"command": ["sh", "-c", script]}}
    async with bench.agent():
        for number in range(3):
            bench.start("true", task=f"t{number}", config=config)
        await eventually(count.exists, within_s=WITHIN_S)
        slots = bench.directory / "slots"
        laid_out = "all three have their trees"
        await eventually(lambda: len(list(slots.glob("*/work/other.txt"))) == 3, what=laid_out)
        go.touch()
        ends = [await bench.ended(f"t{number}") for number in range(3)]

    assert [end.reason for end in ends] == [Reason.ENV_SETUP_FAILED] * 3
    assert len(count.read_text().split()) <= 2  # one may have come a moment too late


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"files": ["missing.txt"]}, "no file missing.txt"),
        ({"project": "."}, "no file pyproject.toml"),
        ({"python": ">=9"}, "the task wants Python >=9; this worker has"),
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


async def test_a_build_that_takes_too_long_ends(bench: Workbench, project: Path) -> None:
    digest = bench.stores.workspaces.hold(project)
    policy = EnvironmentPolicy(build_s_max=1.0)
    bench.caches = replace(bench.caches, environments=policy)
    async with bench.agent():
        end = await run(bench, digest, "true", "t", command=["sleep", "600"])

    assert end.reason is Reason.ENV_SETUP_FAILED
    assert "more than 1 s" in end.detail


def number(mark: Path) -> int:
    """Read a process that was noted."""
    return int(mark.read_text())


async def building(bench: Workbench, project: Path, mark: Path) -> int:
    """Start an attempt whose environment never gets ready; return a process of the build."""
    digest = bench.stores.workspaces.hold(project)
    command = ["sh", "-c", f"echo $$ > {mark}.new; mv {mark}.new {mark}; sleep 600"]
    config = {"workspace": digest, "environment": {"command": command}}
    bench.start("true", config=config)
    await eventually(mark.exists, within_s=WITHIN_S, what="the build runs")
    return number(mark)


async def test_an_attempt_is_stopped_while_its_environment_is_built(
    bench: Workbench, project: Path, tmp_path: Path
) -> None:
    async with bench.agent():
        pid = await building(bench, project, tmp_path / "pid")
        bench.executor.stop(TaskId("t"), 1, Reason.CANCELLED_USER)
        end = await bench.ended()
        await eventually(lambda: not is_alive(pid), what="the build is killed")

    assert end.reason is Reason.CANCELLED_USER
    assert built(bench) == []


async def test_an_environment_in_use_is_never_removed(bench: Workbench, project: Path) -> None:
    trees = bench.stores.workspaces
    bench.caches = replace(bench.caches, environments=EnvironmentPolicy(cache_bytes_max=1))
    digest = trees.hold(project)
    used = {"workspace": digest, "environment": {"files": ["requirements.txt"]}}
    async with bench.agent():
        bench.start("echo up; exec sleep 600", task="user", config=used)
        await bench.prints(b"up", "user.1")
        (first,) = noted(bench)
        await run(bench, digest, "true", "b", files=["other.txt"])
        assert first in noted(bench)
        await run(bench, digest, "true", "c", requirements=["# another"])
        assert first in noted(bench)
        assert len(noted(bench)) == 2  # the one between them was used by nobody any more
        bench.executor.stop(TaskId("user"), 1, Reason.CANCELLED_USER)
        await bench.ended("user")
        await run(bench, digest, "true", "d", requirements=["# a fourth"])

    assert first not in noted(bench)
    assert [path.name for path in built(bench)] == noted(bench)


async def test_logs_of_failures_are_bounded(bench: Workbench, project: Path) -> None:
    digest = bench.stores.workspaces.hold(project)
    logs = bench.directory / "machine" / "environments" / "logs"
    logs.mkdir(parents=True)
    for number in range(LOGS_MAX + 20):
        (logs / f"{number}.log").touch()
        os.utime(logs / f"{number}.log", (number, number))
    async with bench.agent():
        await run(bench, digest, "true", "t", files=["other.txt"])

    assert len(list(logs.iterdir())) == LOGS_MAX


async def test_an_agent_that_is_killed_leaves_no_half_environment(
    cell: RealCell, project: Path, tmp_path: Path
) -> None:
    digest = await cell.ship(project)
    mark = tmp_path / "pid"
    script = f"test -e {mark} || {{ echo $$ > {mark}; sleep 600; }}"
    recipe = {"files": ["requirements.txt"], "command": ["sh", "-c", script]}
    own = cell.agent("builder", "--slots", "2", "--label", "only=builder")
    await own.start()
    try:
        task = await cell.submit(
            "",
            config={"command": SHOW, "workspace": digest, "environment": recipe},
            requirements=cell.only(own),
        )
        await eventually(lambda: mark.exists() and mark.read_text() != "", within_s=WITHIN_S)
        pid = int(mark.read_text())
        await own.kill()
        await eventually(lambda: not is_alive(pid), what="the build ends with its agent")
        await own.start()
        end = await cell.finished(task)
    finally:
        await own.end()
        end_all(own.directory)

    assert (end.outcome, end.reason) == ("passed", None)
    assert (await cell.output(task, end.attempt)).startswith(b"42 ")


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
    assert not is_alive(child)
