"""How an agent comes and goes: what an operator states, one agent a directory, draining."""

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dtest.errors import UsageError
from dtest.events.attempt import AttemptFinished, AttemptReleased
from dtest.events.reasons import Reason
from dtest.events.task import TaskRetryScheduled
from dtest.events.worker import WorkerDraining, WorkerLeft, WorkerRegistered
from dtest.roles import agent as roles_agent
from dtest.roles import agent_main
from dtest.roles.agent import default_worker_id
from dtest.roles.agent_main import parse_kinds
from dtest.settings import parse_labels
from dtest.state.worker import WorkerStatus
from dtest.suites.session import SPEAKS
from tests.agents.cell import RealCell, real_cell
from tests.kit.agent import PYTHON, WITHIN_S, is_alive, keepers, marked
from tests.kit.nats import Server, eventually

DTEST_AGENT = str(Path(PYTHON).with_name("dtest-agent"))


@pytest.fixture
async def lab(server: Server, tmp_path: Path) -> AsyncIterator[RealCell]:
    async with real_cell(server, tmp_path) as cell:
        yield cell


async def run_agent(cell: RealCell, *arguments: str) -> tuple[int, str]:
    """Run the program as an operator does, to its end; return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        DTEST_AGENT,
        *arguments,
        env={**cell.agent_env(), "NO_COLOR": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WITHIN_S):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


# --- draining -----------------------------------------------------------------------------------


async def test_sigterm_lets_a_running_attempt_finish(lab: RealCell) -> None:
    agent = await lab.agent("w1", "--drain-seconds", "20").start()
    go = lab.directory / "go"
    task = await lab.submit(f"echo up; while ! [ -e {go} ]; do sleep 0.02; done")
    await lab.prints(task, b"up")
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(agent.terminate())
        await lab.wait(WorkerDraining, "w1")
        later = await lab.submit("true")
        go.touch()
        code = await leaving

    assert code == 0
    assert (await lab.finished(task)).outcome == "passed"
    assert lab.facts(AttemptFinished, later) == []
    (left,) = lab.facts(WorkerLeft, "w1")
    kinds = [event.data.TYPE for event in lab.events()]
    assert kinds.index("attempt.finished") < kinds.index("worker.left")
    assert left.incarnation == lab.facts(WorkerRegistered, "w1")[0].incarnation
    await eventually(lambda: keepers(lab.directory) == [])


async def test_what_does_not_finish_is_handed_back_and_costs_nothing(lab: RealCell) -> None:
    first = await lab.agent("w1", "--drain-seconds", "0.2").start()
    task = await lab.submit(
        "echo up; [ $DTEST_ATTEMPT = 2 ] || { trap '' TERM; while :; do sleep 60; done; }",
        grace_seconds=0.2,
    )
    await lab.prints(task, b"up")
    assert await first.terminate() == 0
    second = await lab.agent("w2").start()
    end = await lab.finished(task)

    assert (end.outcome, end.attempt, end.worker_id) == ("passed", 2, "w2")
    assert [fact.reason for fact in lab.facts(AttemptReleased, task)] == [Reason.WORKER_SHUTDOWN]
    assert [fact.budget for fact in lab.facts(TaskRetryScheduled, task)] == ["preemption"]
    state = await lab.terminal(task)
    assert (state.retries_used, state.faults_used, state.avoid) == (0, 0, ())
    assert lab.facts(WorkerLeft, "w1") != []
    await second.terminate()
    await eventually(lambda: keepers(lab.directory) == [])
    assert marked(lab.directory) == []


async def test_an_idle_agent_leaves_at_once_and_comes_back_as_another(lab: RealCell) -> None:
    agent = await lab.agent("w1").start()
    await lab.run("true")
    assert await agent.terminate() == 0
    await eventually(lambda: lab.leader.cell.workers[agent.name].status is WorkerStatus.LEFT)
    await agent.start()

    assert (await lab.run("true")).outcome == "passed"
    assert len({fact.incarnation for fact in lab.facts(WorkerRegistered, "w1")}) == 2


async def test_a_machine_that_ends_everything_at_once_costs_no_retry(lab: RealCell) -> None:
    """At a shutdown the keeper gets its SIGTERM, too."""
    agent = await lab.agent("w1", "--drain-seconds", "5").start()
    task = await lab.submit("echo up; [ $DTEST_ATTEMPT = 2 ] || exec sleep 600")
    pid = await lab.running(task)
    os.kill(agent.keeper_pid(), 15)
    await agent.terminate()
    await lab.agent("w2").start()
    end = await lab.finished(task)

    assert (end.outcome, end.attempt) == ("passed", 2)
    assert [fact.budget for fact in lab.facts(TaskRetryScheduled, task)] == ["preemption"]
    assert not is_alive(pid)


# --- one agent a directory ----------------------------------------------------------------------


async def test_a_second_agent_on_the_same_directory_is_refused(lab: RealCell) -> None:
    agent = await lab.agent("w1").start()
    code, said = await run_agent(lab, "--name", "w1")

    assert code == 2
    assert "another agent works in" in said
    assert "--name" in said
    assert "Traceback" not in said
    assert (await lab.run("true")).worker_id == "w1"
    assert len(lab.facts(WorkerRegistered)) == 1
    assert is_alive(agent.pid)


async def test_an_agent_s_directory_is_nobody_else_s(lab: RealCell) -> None:
    directory = lab.directory / "state" / lab.id / "agents" / "w1"
    directory.mkdir(parents=True, mode=0o777)
    agent = await lab.agent("w1").start()
    await lab.run("echo private")

    assert stat.S_IMODE(agent.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((agent.directory / "keeper.sock").stat().st_mode) == 0o600


async def test_an_incarnation_that_was_torn_is_made_anew(lab: RealCell) -> None:
    agent = lab.agent("w1")
    agent.directory.mkdir(parents=True)
    (agent.directory / "incarnation").write_text("")
    await agent.start()

    assert (await lab.run("true")).outcome == "passed"


# --- what an operator states --------------------------------------------------------------------


async def test_what_is_stated_goes_over_what_is_found(lab: RealCell, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "dtest.toml").write_text(
        '[agent]\nmemory_gb = 12.5\ndevice_type = "laptop"\nlabels = { room = "1", rack = "a" }\n'
        'devices = [{ kind = "cuda", name = "A100", memory_gb = 80.0, compute = 8.0 }]\n'
    )
    options = ("--name", "stated", "--slots", "7", "--label", "rack=b", "--label", "x=y=z")
    process = await asyncio.create_subprocess_exec(
        DTEST_AGENT, *options, env=lab.agent_env(), cwd=project
    )
    try:
        await lab.wait(WorkerRegistered, "stated")
    finally:
        process.terminate()
        assert await process.wait() == 0
    (registered,) = lab.facts(WorkerRegistered, "stated")
    capability = registered.capability

    assert (capability.slots, capability.memory_gb, capability.device_type) == (7, 12.5, "laptop")
    assert capability.labels == {"room": "1", "rack": "b", "x": "y=z", **SPEAKS}
    (device,) = capability.devices
    assert (device.device_id, device.compute, device.declared) == ("cuda:0", 8.0, True)
    assert set(capability.declared) == {"slots", "memory_gb", "device_type", "labels", "devices"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--label", "novalue"), "novalue"),
        (("--slots", "0"), "slots"),
        (("--checkpoint-seconds", "0"), "--checkpoint-seconds 0"),
        (("--checkpoint-seconds", "nan"), "--checkpoint-seconds nan"),
        (("--checkpoint-seconds", "inf"), "--checkpoint-seconds inf"),
        (("--simulate", "abacus:2"), "abacus"),
        (("--simulate", "cpu:0"), "cpu:0"),
        (("--name", "a.b"), "a.b"),
        (("--name", "../other"), "../other"),
        (("--name", "x" * 101), "x" * 101),
        ((), "slotz"),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DTEST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DTEST_NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setattr(agent_main, "set_up_logs", lambda **_: None)
    monkeypatch.setattr(roles_agent, "CONNECT_S_MAX", 0.1)
    if not arguments:
        (tmp_path / "dtest.toml").write_text("[agent]\nslotz = 3\n")

    with pytest.raises(UsageError, match=re.escape(said)):
        agent_main.app([*arguments])


def test_kinds_and_labels_are_read() -> None:
    assert parse_kinds("cuda:2, cpu") == (("cuda", 2), ("cpu", 1))
    assert parse_labels(["a=b", "c=d=e", "f="]) == {"a": "b", "c": "d=e", "f": ""}


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1001", "cuda,,"])
def test_kinds_that_make_no_sense_are_refused(text: str) -> None:
    if text == "cuda:":
        assert parse_kinds(text) == (("cuda", 1),)
        return
    with pytest.raises(UsageError):
        parse_kinds(text)


def test_a_worker_is_called_like_its_host_as_a_subject_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {"Lab-1.example.org": "lab-1", "my host": "my-host", "büro²": "b-ro-", "": "worker"}
    for host, name in names.items():
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        assert default_worker_id() == name
