"""Agent, keeper and broker die in a real cell: attempts go on, nothing is lost or repeated."""

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dtest.events.attempt import AttemptAssigned, AttemptFinished, AttemptStarted, TestcaseFinished
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.events.task import Requirements, TaskCancelRequested
from dtest.events.worker import WorkerRegistered
from dtest.state.task import Status
from tests.agents.cell import RealCell, real_cell
from tests.kit.agent import PYTHON, is_alive, keepers, marked
from tests.kit.nats import Server, eventually, running

NUMBERED = """
import sys, time
for number in range(120):
    print(f"line {number:03d} of 120", flush=True)
    time.sleep(0.02)
"""
LINES = [f"line {number:03d} of 120" for number in range(120)]


@pytest.fixture
async def lab(server: Server, tmp_path: Path) -> AsyncIterator[RealCell]:
    """A cell of a test's own; nobody watches who is silent, so the test says who is lost."""
    async with real_cell(server, tmp_path) as cell:
        yield cell


def ends(cell: RealCell) -> Counter[tuple[str, int]]:
    """How often the end of each attempt stands in the journal."""
    return Counter((fact.task_id, fact.attempt) for fact in cell.facts(AttemptFinished))


def counted_runs(directory: Path) -> Counter[str]:
    """How often each task really ran: each run leaves one line."""
    return Counter((directory / "runs").read_text().split())


def leaves_a_line(cell: RealCell, then: str = "true") -> str:
    return f'echo "$DTEST_TASK_ID" >> {cell.directory}/runs; {then}'


# --- the agent ----------------------------------------------------------------------------------


async def test_a_killed_agent_that_is_restarted_carries_its_attempt_on(lab: RealCell) -> None:
    agent = await lab.agent("w1").start()
    task = await lab.submit([PYTHON, "-c", NUMBERED])
    pid = await lab.running(task)
    keeper = agent.keeper_pid()
    for line in (20, 70):
        await lab.prints(task, b"line %03d" % line)
        await agent.kill()
        assert is_alive(pid)
        await agent.start()
    end = await lab.finished(task)

    assert (end.outcome, end.attempt) == ("passed", 1)
    assert (await lab.output(task)).decode().splitlines() == LINES
    assert end.output_bytes == 120 * 16
    assert {fact.pid for fact in lab.facts(AttemptStarted, task)} == {pid}
    assert agent.keeper_pid() == keeper
    assert ends(lab) == {(task, 1): 1}
    assert len({fact.incarnation for fact in lab.facts(WorkerRegistered)}) == 1
    assert lab.ignored() == {}
    await eventually(lambda: marked(lab.directory) == [])


async def test_what_ended_while_the_agent_was_dead_is_told_when_it_is_back(lab: RealCell) -> None:
    agent = await lab.agent("w1", "--slots", "4").start()
    go = lab.directory / "go"
    wait = f"echo up; while ! [ -e {go} ]; do sleep 0.02; done"
    tasks = {
        "passed": await lab.submit(f"{wait}; echo down"),
        "failed": await lab.submit(f"{wait}; exit 4"),
        "crashed": await lab.submit(f"{wait}; kill -SEGV $$"),
    }
    pids = [await lab.running(task) for task in tasks.values()]
    for task in tasks.values():
        await lab.prints(task, b"up")
    await agent.kill()
    go.touch()
    await eventually(lambda: not any(is_alive(pid) for pid in pids))
    cancelled = await lab.submit("echo not yet known to the agent")
    await agent.start()
    found = {name: await lab.finished(task) for name, task in tasks.items()}

    assert {name: (end.exit_code, end.signal) for name, end in found.items()} == {
        "passed": (0, None),
        "failed": (4, None),
        "crashed": (None, signal.SIGSEGV),
    }
    assert await lab.output(tasks["passed"]) == b"up\ndown\n"
    assert (await lab.finished(cancelled)).outcome == "passed"
    assert set(ends(lab).values()) == {1}


async def test_a_cancellation_during_the_agent_s_absence_is_carried_out(lab: RealCell) -> None:
    agent = await lab.agent("w1").start()
    task = await lab.submit(["sleep", "600"])
    pid = await lab.running(task)
    await agent.kill()
    await lab.say(TaskCancelRequested(TaskId(task)))
    await eventually(lambda: lab.leader.cell.tasks[TaskId(task)].status is Status.STOPPING)
    assert is_alive(pid)
    await agent.start()

    assert (await lab.terminal(task)).status is Status.CANCELLED
    assert not is_alive(pid)


async def test_cases_are_told_once_each_by_a_restarted_agent(lab: RealCell, tmp_path: Path) -> None:
    go = tmp_path / "go"
    text = f"""
import pathlib, time
def test_1(): pass
def test_2(): pass
def test_3():
    while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)
def test_4(): pass
"""
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_some.py").write_text(text)
    agent = await lab.agent("w1").start()
    task = await lab.test(suite)
    await eventually(lambda: len(lab.facts(TestcaseFinished, task)) == 2, within_s=20)
    await agent.kill()
    go.touch()
    await agent.start()
    end = await lab.finished(task)

    cases = {case.ordinal: case.nodeid for case in lab.facts(TestcaseFinished, task)}
    assert cases == {number: f"test_some.py::test_{number}" for number in range(1, 5)}
    assert (end.outcome, end.attempt) == ("passed", 1)


async def test_an_attempt_that_was_given_away_is_ended_by_the_agent_that_comes_back(
    server: Server, tmp_path: Path
) -> None:
    """With a detector: a worker that is dead for two seconds is lost."""
    async with real_cell(server, tmp_path, detects=True) as cell:
        first = await cell.agent("w1").start()
        task = await cell.submit("echo up; [ $DTEST_ATTEMPT = 2 ] || sleep 600")
        pid = await cell.running(task)
        await first.kill()
        await cell.agent("w2").start()
        end = await cell.finished(task)
        assert (end.outcome, end.attempt, end.worker_id) == ("passed", 2, "w2")
        assert is_alive(pid)
        await first.start()
        await eventually(lambda: not is_alive(pid), within_s=20)

        assert marked(tmp_path) == []
        assert ends(cell) == {(task, 2): 1}


# --- the keeper ---------------------------------------------------------------------------------


async def test_when_a_keeper_is_killed_its_attempt_is_tried_elsewhere(lab: RealCell) -> None:
    first = await lab.agent("w1", "--label", "room=1").start()
    task = await lab.submit(
        "echo up; [ $DTEST_ATTEMPT = 2 ] || { setsid sleep 600 & trap '' TERM; sleep 600; }"
    )
    pid = await lab.running(task)
    await lab.prints(task, b"up")
    await lab.agent("w2").start()
    os.kill(first.keeper_pid(), signal.SIGKILL)
    end = await lab.finished(task)

    assert (end.outcome, end.attempt, end.worker_id) == ("passed", 2, "w2")
    fault = lab.facts(AttemptFinished, task)[0]
    assert (fault.outcome, fault.reason) == ("faulted", Reason.AGENT_CRASH)
    assert not is_alive(pid)
    assert marked(lab.directory) == []
    again = await lab.submit("true", requirements=Requirements(labels={"room": "1"}))
    assert (await lab.finished(again)).worker_id == "w1"


# --- the broker ---------------------------------------------------------------------------------


async def test_a_broker_that_dies_while_attempts_end_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "nats") as server, real_cell(server, tmp_path) as cell:
        await cell.agent("w1", "--slots", "6").start()
        tasks = [
            await cell.submit(leaves_a_line(cell, f"sleep 0.{number % 7}; echo done {number}"))
            for number in range(40)
        ]
        for share in (0.2, 0.5):
            await eventually(
                lambda share=share: len(cell.facts(AttemptFinished)) >= share * len(tasks),  # type: ignore[misc]
                within_s=20,
            )
            await server.kill()
            await eventually(lambda: marked(tmp_path) == [], what="all that ran has ended")
            await server.start()
        for number, task in enumerate(tasks):
            end = await cell.finished(task)
            assert (end.outcome, end.attempt) == ("passed", 1)
            assert await cell.output(task) == b"done %d\n" % number

        assert ends(cell) == {(task, 1): 1 for task in tasks}
        assert counted_runs(tmp_path) == dict.fromkeys(tasks, 1)
        assert cell.ignored() == {}
        assert set(_statuses(cell)) == {Status.PASSED}


def _statuses(cell: RealCell) -> list[Status]:
    return [task.status for task in cell.leader.cell.tasks.values()]


async def test_results_that_were_not_sent_survive_agent_and_broker(tmp_path: Path) -> None:
    async with running(tmp_path / "nats") as server, real_cell(server, tmp_path) as cell:
        agent = await cell.agent("w1", "--slots", "3").start()
        go = tmp_path / "go"
        wait = f"echo up; while ! [ -e {go} ]; do sleep 0.02; done"
        tasks = [await cell.submit(leaves_a_line(cell, wait)) for _ in range(3)]
        for task in tasks:
            await cell.prints(task, b"up")
        await server.kill()
        go.touch()
        await eventually(lambda: marked(tmp_path) == [])
        await agent.kill()
        assert keepers(tmp_path) != []
        await server.start()
        await agent.start()
        for task in tasks:
            end = await cell.finished(task)
            assert (end.outcome, end.attempt) == ("passed", 1)

        assert ends(cell) == {(task, 1): 1 for task in tasks}
        assert counted_runs(tmp_path) == dict.fromkeys(tasks, 1)


async def test_an_attempt_s_limits_hold_while_the_broker_is_away(tmp_path: Path) -> None:
    async with running(tmp_path / "nats") as server, real_cell(server, tmp_path) as cell:
        await cell.agent("w1").start()
        task = await cell.submit(
            "echo up; while :; do echo more; sleep 0.05; done", timeout_seconds=1.0
        )
        pid = await cell.running(task)
        await server.kill()
        await eventually(lambda: not is_alive(pid))
        await server.start()

        assert (await cell.finished(task)).reason is Reason.RUN_TIMEOUT


async def test_artefacts_survive_a_broker_that_dies_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path / "nats") as server, real_cell(server, tmp_path) as cell:
        await cell.agent("w1").start()
        go = tmp_path / "go"
        make = 'head -c 3000000 /dev/urandom > "$DTEST_ARTIFACT_DIR"/large'
        task = await cell.submit(f"{make}; echo up; while ! [ -e {go} ]; do sleep 0.02; done")
        await cell.prints(task, b"up")
        await server.kill()
        go.touch()
        await eventually(lambda: marked(tmp_path) == [])
        await server.start()
        end = await cell.finished(task)

        assert (end.outcome, end.attempt) == ("passed", 1)
        (artifact,) = end.artifacts
        assert len(await cell.artifacts.get(artifact.object_name)) == 3_000_000


@pytest.mark.slow
async def test_an_agent_outlasts_a_broker_that_is_away_for_long(tmp_path: Path) -> None:
    """Longer than one append is repeated for, and longer than ids are remembered by nobody."""
    async with running(tmp_path / "nats") as server, real_cell(server, tmp_path) as cell:
        agent = await cell.agent("w1").start()
        task = await cell.submit("echo up; sleep 1")
        await cell.prints(task, b"up")
        await server.kill()
        for _ in range(3):  # it comes and goes: registrations are under way each time
            await server.start()
            await server.kill()
        await eventually(lambda: "journal_unavailable" in agent.log.read_text(), within_s=90)
        await server.start()

        assert (await cell.finished(task)).outcome == "passed"
        assert ends(cell) == {(task, 1): 1}
        assert (await cell.run("true")).outcome == "passed"


@pytest.mark.slow
async def test_a_hundred_deaths_of_the_agent_lose_nothing_and_do_nothing_twice(
    lab: RealCell,
) -> None:
    agent = await lab.agent("w1", "--slots", "4").start()
    tasks = [
        await lab.submit(leaves_a_line(lab, f"sleep 0.{number % 9}; echo {number}"))
        for number in range(150)
    ]
    deaths = 0
    while len(lab.facts(AttemptFinished)) < len(tasks) and deaths < 100:
        known = len(lab.facts(AttemptFinished))
        await eventually(
            lambda known=known: len(lab.facts(AttemptFinished)) > known,  # type: ignore[misc]
            within_s=30,
        )
        await agent.kill()
        deaths += 1
        await agent.start()
    for number, task in enumerate(tasks):
        end = await lab.finished(task)
        assert (end.outcome, end.attempt) == ("passed", 1)
        assert await lab.output(task) == b"%d\n" % number

    assert deaths > 10
    assert counted_runs(lab.directory) == dict.fromkeys(tasks, 1)
    # An end that was stored the moment before its agent died is told again, and changes nothing.
    told_again = ends(lab).total() - len(tasks)
    assert lab.ignored().get("stale_attempt", 0) >= told_again
    assert lab.ignored().keys() <= {"stale_attempt"}
    assert [fact.attempt for fact in lab.facts(AttemptAssigned)] == [1] * len(tasks)
    assert marked(lab.directory) == []
