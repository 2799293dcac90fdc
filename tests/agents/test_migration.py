"""A program that counts is taken from worker to worker and goes on where it stood."""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dtest.events.attempt import (
    AttemptCheckpointed,
    AttemptCheckpointFailed,
    AttemptFinished,
    AttemptReleased,
)
from dtest.events.reasons import Reason
from dtest.events.task import RetryPolicy, TaskRetryScheduled
from dtest.leadership.audit import verify
from tests.agents.cell import AgentProcess, RealCell, real_cell
from tests.kit.agent import PYTHON, WITHIN_S, marked
from tests.kit.nats import LIMITS, Server, eventually

STEPS = 40
COUNT = """
import os, pathlib, signal, sys, time
here = pathlib.Path(os.environ["DTEST_CHECKPOINT_DIR"])
steps = pathlib.Path(sys.argv[1])
state = here / "state"
done = int(state.read_text()) if state.exists() else 0
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))
print("from", done, flush=True)
def save():
    (here / "state.tmp").write_text(str(done))
    (here / "state.tmp").replace(state)
while done < int(sys.argv[2]) and not told:
    done += 1
    with steps.open("a") as file:
        file.write(f"{done}\\n")
    print("step", done, flush=True)
    time.sleep(0.05)
    if sys.argv[3] == "each":
        save()
    while os.environ["DTEST_ATTEMPT"] == "1" and done == int(sys.argv[2]) // 2 and not told:
        time.sleep(0.02)
if told:
    save()
sys.exit(1 if told else 0)
"""
OFTEN = ("--checkpoint-seconds", "0.1", "--drain-seconds", "0")


@pytest.fixture
async def lab(server: Server, tmp_path: Path) -> AsyncIterator[RealCell]:
    async with real_cell(server, tmp_path, detects=True) as cell:
        yield cell


async def count(cell: RealCell, when: str = "each", **more: Any) -> str:
    """Have the program count, with a checkpoint at each step or only when it is told to stop.

    The first attempt stands still half-way.
    """
    return await cell.submit(
        [PYTHON, "-c", COUNT, str(cell.directory / "steps"), str(STEPS), when], **more
    )


def steps(cell: RealCell) -> list[int]:
    """What was counted, by all attempts together."""
    return [int(line) for line in (cell.directory / "steps").read_text().split()]


async def lose_machine(agent: AgentProcess) -> None:
    """End agent, keeper and attempts at once, as a power cut does."""
    keeper, attempts = agent.keeper_pid(), marked(agent.directory)
    assert attempts
    for pid in (keeper, *attempts):
        os.kill(pid, signal.SIGKILL)
    await agent.kill()


async def resumed(cell: RealCell, task: str, attempt: int = 2) -> int:
    """Where an attempt went on, by its own word."""
    first, *_ = (await cell.output(task, attempt)).decode().splitlines()
    return int(first.removeprefix("from "))


async def assert_sound(cell: RealCell) -> None:
    """The journal's audit reproduces every decision, and the store holds nothing any more."""
    report = await verify(cell.opened.journal, cell.id)
    assert report.violations == []

    async def swept() -> bool:
        return await cell.checkpoints.names() == []

    await eventually(swept, within_s=WITHIN_S, what="checkpoints are deleted")


async def test_after_the_loss_of_a_machine_the_count_goes_on_elsewhere(lab: RealCell) -> None:
    first = await lab.agent("w1", *OFTEN).start()
    task = await count(lab)
    await lab.wait(AttemptCheckpointed, task)
    await lose_machine(first)
    await lab.agent("w2", *OFTEN).start()
    end = await lab.finished(task)

    assert (end.outcome, end.attempt, end.worker_id) == ("passed", 2, "w2")
    at = await resumed(lab, task)
    assert 1 <= at <= STEPS // 2
    every = steps(lab)
    assert set(every) == set(range(1, STEPS + 1))
    assert len(every) < 2 * STEPS
    assert every[-(STEPS - at) :] == list(range(at + 1, STEPS + 1))
    await assert_sound(lab)


async def test_a_drain_takes_along_what_the_program_saved_when_told(lab: RealCell) -> None:
    """No checkpoint was taken before: it is the one between TERM and the release that counts."""
    first = await lab.agent("w1", *OFTEN).start()
    task = await count(lab, "told")
    await lab.prints(task, b"step 5\n")
    await lab.agent("w2", *OFTEN).start()
    assert await first.terminate() == 0
    end = await lab.finished(task)

    assert (end.outcome, end.attempt, end.worker_id) == ("passed", 2, "w2")
    assert await resumed(lab, task) >= 5
    assert steps(lab) == list(range(1, STEPS + 1))
    kinds = [
        type(event.data) for event in lab.events() if getattr(event.data, "attempt", None) == 1
    ]
    assert kinds.index(AttemptCheckpointed) < kinds.index(AttemptReleased)
    assert [fact.budget for fact in lab.facts(TaskRetryScheduled, task)] == ["preemption"]
    await assert_sound(lab)


async def test_a_retry_after_a_time_limit_goes_on(lab: RealCell) -> None:
    await lab.agent("w1", *OFTEN).start()
    task = await count(lab, timeout_seconds=1.5, retry_policy=RetryPolicy(9))
    end = await lab.finished(task)

    assert (end.outcome, end.worker_id) == ("passed", "w1")
    assert end.attempt > 1
    assert steps(lab) == list(range(1, STEPS + 1))


async def test_a_checkpoint_that_is_gone_is_named_and_the_count_begins_anew(lab: RealCell) -> None:
    first = await lab.agent("w1", *OFTEN).start()
    task = await count(lab, "told")
    await lab.prints(task, b"step 3\n")
    await first.terminate()
    stored = await lab.wait(AttemptCheckpointed, task)
    await lab.checkpoints.delete(stored.object_name)
    await lab.agent("w2", *OFTEN).start()
    end = await lab.finished(task)

    assert (end.outcome, end.attempt) == ("passed", 3)
    damaged = lab.facts(AttemptFinished, task)[0]
    assert (damaged.attempt, damaged.reason) == (2, Reason.CHECKPOINT_DAMAGED)
    assert "stored no longer" in damaged.detail
    assert await resumed(lab, task, 3) == 0
    await assert_sound(lab)


async def test_a_store_without_room_is_told_and_the_count_goes_on(
    server: Server, tmp_path: Path
) -> None:
    limits = replace(LIMITS, checkpoint_bytes=1 << 17)
    async with real_cell(server, tmp_path, limits=limits) as cell:
        agent = await cell.agent("w1", *OFTEN).start()
        task = await cell.submit(
            'head -c 400000 /dev/urandom > "$DTEST_CHECKPOINT_DIR/big"; echo up;'
            f"while ! [ -e {tmp_path}/go ]; do sleep 0.02; done"
        )
        failed = await cell.wait(AttemptCheckpointFailed, task)
        (tmp_path / "go").touch()

        assert (await cell.finished(task)).outcome == "passed"
        assert "there is no room for more checkpoints" in failed.detail
        assert "checkpoint_failed" in agent.log.read_text()
        assert cell.facts(AttemptCheckpointed, task) == []
