"""The voice of a worker: in order, together, repeated until the journal has it."""

import asyncio

import pytest

from dtest.agents import reporter as module
from dtest.agents.reporter import Reporter
from dtest.errors import JournalFull, PermissionRefused, Unavailable
from dtest.events.attempt import (
    AttemptAssigned,
    AttemptFinished,
    AttemptReleased,
    AttemptStarted,
)
from dtest.events.catalogue import AgentPayload
from dtest.events.fields import TaskId
from dtest.events.worker import WorkerDraining, WorkerLeft
from tests.kit import facts
from tests.kit.agent import WORKER, FickleJournal, reporting
from tests.kit.nats import eventually


@pytest.fixture
def journal() -> FickleJournal:
    return FickleJournal()


def assigned(task: str) -> AttemptAssigned:
    return AttemptAssigned(TaskId(task), 1, WORKER, "i1", "cpu", "command")


def started(task: str) -> AttemptStarted:
    return facts.started(assigned(task))


def finished(task: str) -> AttemptFinished:
    return facts.finished(assigned(task))


async def told(journal: FickleJournal, *data: AgentPayload) -> None:
    async with reporting(journal) as reporter:
        for fact in data:
            reporter.tell(fact)
        await reporter.flush()


async def kinds(journal: FickleJournal) -> list[str]:
    return [event.data.TYPE for event in await journal.events()]


async def test_facts_of_one_send_go_out_in_the_order_in_which_they_build_on_each_other(
    journal: FickleJournal,
) -> None:
    await told(
        journal,
        WorkerLeft(WORKER, "i1"),
        finished("a"),
        facts.released(assigned("b")),
        facts.testcase(assigned("a")),
        WorkerDraining(WORKER, "i1"),
        started("c"),
        facts.refused(assigned("d")),
        facts.registered("w"),
    )

    assert await kinds(journal) == [
        "worker.registered",
        "attempt.started",
        "testcase.finished",
        "attempt.refused",
        "attempt.released",
        "attempt.finished",
        "worker.draining",
        "worker.left",
    ]


async def test_a_message_that_is_repeated_is_not_overtaken(journal: FickleJournal) -> None:
    journal.lost_acknowledgements = 1
    await told(journal, finished("a"), facts.testcase(assigned("a")), WorkerLeft(WORKER, "i1"))

    assert await kinds(journal) == ["testcase.finished", "attempt.finished", "worker.left"]


async def test_what_comes_up_during_a_send_goes_together(journal: FickleJournal) -> None:
    journal.flowing.clear()
    async with reporting(journal) as reporter:
        reporter.tell(finished("first"))
        await eventually(lambda: journal.attempts == 1)
        for number in range(50):
            reporter.tell(finished(f"t{number}"))
        journal.flowing.set()
        await reporter.flush()

    first, rest = await journal.records()
    assert (len(first.events), len(rest.events)) == (1, 50)


async def test_facts_of_one_type_keep_their_order(journal: FickleJournal) -> None:
    await told(journal, *(finished(f"t{number}") for number in range(2_500)))

    ends = await journal.facts(AttemptFinished)
    assert [end.task_id for end in ends] == [f"t{number}" for number in range(2_500)]
    assert max(len(record.events) for record in await journal.records()) <= 1_000


async def test_a_start_whose_end_is_told_with_it_is_left_out(journal: FickleJournal) -> None:
    await told(journal, started("a"), started("b"), finished("a"))

    assert [fact.task_id for fact in await journal.facts(AttemptStarted)] == ["b"]
    assert [fact.task_id for fact in await journal.facts(AttemptFinished)] == ["a"]


async def test_the_start_of_another_attempt_of_the_task_is_not_left_out(
    journal: FickleJournal,
) -> None:
    second = AttemptStarted(TaskId("a"), 2, WORKER, started("a").started_at)
    await told(journal, second, finished("a"))

    assert await journal.facts(AttemptStarted) == [second]


async def test_a_start_that_somebody_waits_for_is_not_left_out(journal: FickleJournal) -> None:
    stored: list[str] = []
    async with reporting(journal) as reporter:
        reporter.tell(started("a"), stored=lambda: stored.append("a"))
        reporter.tell(finished("a"))
        await reporter.flush()

    assert stored == ["a"]
    assert len(await journal.facts(AttemptStarted)) == 1


async def test_stored_is_called_once_the_journal_has_it_and_not_before(
    journal: FickleJournal,
) -> None:
    journal.flowing.clear()
    stored: list[bool] = []
    async with reporting(journal) as reporter:
        reporter.tell(finished("a"), stored=lambda: stored.append(journal.flowing.is_set()))
        await eventually(lambda: journal.attempts == 1)
        assert stored == []
        journal.flowing.set()
        await reporter.flush()

    assert stored == [True]


@pytest.mark.parametrize("refusal", [Unavailable("away"), JournalFull("full")])
async def test_facts_wait_while_the_journal_takes_nothing(
    journal: FickleJournal, refusal: Unavailable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    journal.refusal = refusal
    async with reporting(journal) as reporter:
        reporter.tell(finished("a"))
        await eventually(lambda: journal.attempts >= 3)
        reporter.tell(finished("b"))
        journal.refusal = None
        await reporter.flush()

    assert [end.task_id for end in await journal.facts(AttemptFinished)] == ["a", "b"]


async def test_a_journal_that_refuses_at_once_is_not_pestered(journal: FickleJournal) -> None:
    journal.refusal = JournalFull("full")
    async with reporting(journal) as reporter:
        reporter.tell(finished("a"))
        await eventually(lambda: journal.attempts >= 1)
        for _ in range(500):
            await asyncio.sleep(0)

        assert journal.attempts == 1


async def test_a_lost_acknowledgement_stores_nothing_twice(
    journal: FickleJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    journal.lost_acknowledgements = 3
    await told(journal, finished("a"), started("b"))

    assert len(await journal.facts(AttemptFinished)) == 1
    assert len(await journal.facts(AttemptStarted)) == 1


async def test_a_worker_that_may_not_write_ends_with_a_reason(journal: FickleJournal) -> None:
    journal.refusal = PermissionRefused("this NATS user may not publish")
    with pytest.RaisesGroup(PermissionRefused):
        await told(journal, finished("a"))


async def test_flush_waits_for_what_was_told_and_for_nothing_else(journal: FickleJournal) -> None:
    async with reporting(journal) as reporter:
        await reporter.flush()
        reporter.tell(AttemptReleased(TaskId("a"), 1, WORKER))
        await reporter.flush()

        assert len(await journal.facts(AttemptReleased)) == 1


async def test_it_says_when_it_holds_too_much(journal: FickleJournal) -> None:
    reporter = Reporter(journal, cell=facts.CELL, worker_id=WORKER, now=_never, new_id=_no_id)
    for _ in range(module.PENDING_MAX):
        assert not reporter.is_full
        reporter.tell(started("a"))

    assert reporter.is_full


def _never() -> float:
    return 0.0


def _no_id() -> str:
    return ""
