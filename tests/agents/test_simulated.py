"""Simulated workers: the protocol of real ones, a wait instead of work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from dtest.agents.simulated import SimulatedExecutor
from dtest.events.attempt import (
    AttemptAssigned,
    AttemptFinished,
    AttemptReleased,
    AttemptStarted,
)
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.events.worker import Device, HeldAttempt
from tests.kit.agent import WORKER, FickleJournal, reporting
from tests.kit.nats import eventually

LONG_S = 600.0


def assigned(task: str = "t", attempt: int = 1, **plan: Any) -> AttemptAssigned:
    config = {"command": ["x"], **({"simulate": plan} if plan else {})}
    return AttemptAssigned(TaskId(task), attempt, WORKER, "i1", "cpu", "command", config=config)


class Simulation:
    """A simulated executor, and the journal that it reports to."""

    def __init__(self, journal: FickleJournal, executor: SimulatedExecutor) -> None:
        self.journal = journal
        self.executor = executor

    async def ended(self, count: int = 1) -> list[AttemptFinished]:
        async def enough() -> bool:
            return len(await self.journal.facts(AttemptFinished)) >= count

        await eventually(enough)
        return await self.journal.facts(AttemptFinished)


@asynccontextmanager
async def simulation(default_s: float = 0.0, *devices: Device) -> AsyncIterator[Simulation]:
    journal = FickleJournal()
    async with reporting(journal) as reporter:
        executor = SimulatedExecutor(
            reporter,
            worker_id=WORKER,
            now=lambda: 1_750_000_000.0,
            default_s=default_s,
            devices=devices,
        )
        yield Simulation(journal, executor)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("passed", None),
        ("failed", Reason.EXIT_NONZERO),
        ("faulted", Reason.ENV_SETUP_FAILED),
    ],
)
@pytest.mark.parametrize("seconds", [0.0, 0.01])
async def test_an_attempt_ends_as_its_task_says_and_is_called_simulated(
    outcome: str, reason: Reason | None, seconds: float
) -> None:
    async with simulation(LONG_S) as cell:
        cell.executor.start(assigned(seconds=seconds, outcome=outcome))
        (end,) = await cell.ended()

    assert (end.outcome, end.reason) == (outcome, reason)
    assert end.detail == ("" if outcome == "passed" else "simulated")


async def test_a_task_that_says_nothing_takes_as_long_as_the_worker_says() -> None:
    async with simulation(0.01) as cell:
        cell.executor.start(assigned())
        await cell.ended()

        assert len(await cell.journal.facts(AttemptStarted)) == 1


async def test_an_attempt_in_hand_is_taken_once() -> None:
    async with simulation() as cell:
        cell.executor.start(assigned(seconds=LONG_S))
        cell.executor.start(assigned(seconds=0.0))
        cell.executor.start(assigned("u", seconds=0.0))
        ends = await cell.ended()

        assert [end.task_id for end in ends] == ["u"]


async def test_an_attempt_is_in_hand_until_the_journal_has_its_end() -> None:
    """A worker that registers again must not say that it no longer holds it."""
    async with simulation() as cell:
        cell.journal.flowing.clear()
        cell.executor.start(assigned("a", seconds=LONG_S))
        cell.executor.start(assigned("b", 2, seconds=0.0))
        assert cell.executor.held() == (
            HeldAttempt(TaskId("a"), 1),
            HeldAttempt(TaskId("b"), 2),
        )
        cell.executor.start(assigned("b", 2, seconds=0.0))  # read again
        cell.journal.flowing.set()
        await eventually(lambda: cell.executor.held() == (HeldAttempt(TaskId("a"), 1),))

        assert len(await cell.ended()) == 1


async def test_a_stopped_attempt_is_cancelled_and_one_given_away_is_not_reported() -> None:
    async with simulation() as cell:
        for name in ("a", "b"):
            cell.executor.start(assigned(name, seconds=LONG_S))
        cell.executor.stop(TaskId("a"), 1, Reason.CANCELLED_USER)
        cell.executor.stop(TaskId("b"), 1, Reason.WORKER_LOST)
        cell.executor.stop(TaskId("unknown"), 1, Reason.CANCELLED_USER)
        cell.executor.start(assigned("c", seconds=0.0))
        ends = await cell.ended(2)

        assert [(end.task_id, end.outcome) for end in ends] == [("a", "cancelled"), ("c", "passed")]
        assert ends[0].reason is Reason.CANCELLED_USER


async def test_draining_lets_attempts_end_and_hands_the_rest_back() -> None:
    async with simulation() as cell:
        cell.executor.start(assigned("short", seconds=0.02))
        cell.executor.start(assigned("long", seconds=LONG_S))
        await cell.executor.drain(0.2)
        await cell.ended()

        async def handed_back() -> bool:
            released = await cell.journal.facts(AttemptReleased)
            return [fact.task_id for fact in released] == ["long"]

        await eventually(handed_back)
        await eventually(lambda: cell.executor.held() == ())


async def test_an_idle_worker_drains_at_once() -> None:
    async with simulation() as cell, asyncio.timeout(5):
        await cell.executor.drain(LONG_S)


@pytest.mark.parametrize(
    ("plan", "limits", "reason", "peak_bytes"),
    [
        ({"outcome": "faulted", "fault": "gpu_hang"}, {}, Reason.GPU_HANG, None),
        ({"outcome": "faulted", "fault": "oom_task"}, {}, Reason.OOM_TASK, None),
        (
            {"outcome": "faulted", "fault": "oom_task"},
            {"memory_limit_gb": 2.0},
            Reason.OOM_TASK,
            2_000_000_000,
        ),
        ({"device_memory_gb": 16.0}, {"devices": ("cuda:0",)}, Reason.OOM_DEVICE, None),
        ({"device_memory_gb": 16.0}, {"devices": ("cuda:0", "cuda:1")}, Reason.OOM_DEVICE, None),
        ({"device_memory_gb": 16.0}, {"devices": ("cuda:1",)}, None, None),
        ({"device_memory_gb": 16.0}, {"devices": ("cuda:2",)}, None, None),
        ({"device_memory_gb": 16.0}, {}, None, None),
        ({"seconds": LONG_S}, {"timeout_seconds": 0.01}, Reason.RUN_TIMEOUT, None),
        ({"seconds": 0.01}, {"timeout_seconds": LONG_S}, None, None),
    ],
)
async def test_its_hardware_is_as_large_as_it_says(
    plan: dict[str, Any], limits: dict[str, Any], reason: Reason | None, peak_bytes: int | None
) -> None:
    """The size of the third device is not known."""
    devices = (Device("cuda", 0, "", 8.0), Device("cuda", 1, "", 24.0), Device("cuda", 2))
    async with simulation(0.0, *devices) as running:
        running.executor.start(replace(assigned(**plan), **limits))
        (end,) = await running.ended()

    assert (end.outcome, end.reason) == ("passed" if reason is None else "faulted", reason)
    assert end.memory_bytes_peak == peak_bytes
