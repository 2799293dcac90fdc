"""Subjects: what one function builds the other reads, and nothing else is in the grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.events import subject
from dtest.events.catalogue import ROLE_OF, WRITTEN_BY
from dtest.events.fields import CellId, ClientId, TaskId, WorkerId
from dtest.events.subject import Address
from dtest.journal.memory import fits
from tests.kit.payloads import TOKENS

CELLS = TOKENS.map(CellId)
WORKERS = TOKENS.map(WorkerId)
DISPATCHED = {"attempt.assigned", "attempt.stop_requested"}


@given(CELLS, TOKENS, st.sampled_from(sorted(ROLE_OF)))
def test_a_client_writes_the_events_of_clients_under_its_own_name(
    cell: CellId, name: str, event_type: str
) -> None:
    where = subject.client(cell, ClientId(name), event_type)

    types = {event_type} if ROLE_OF[event_type] == "client" else set()
    assert subject.parse(where) == Address(cell, "client", name, frozenset(types))


@given(CELLS, WORKERS, st.sampled_from(sorted(ROLE_OF)))
def test_an_agent_writes_the_events_of_agents_under_its_own_name(
    cell: CellId, name: WorkerId, event_type: str
) -> None:
    where = subject.agent(cell, name, event_type)

    types = {event_type} if ROLE_OF[event_type] == "agent" else set()
    assert subject.parse(where) == Address(cell, "agent", name, frozenset(types))


@given(CELLS, TOKENS, WORKERS)
def test_the_subjects_of_the_scheduler_share_its_events_among_them(
    cell: CellId, hardware: str, worker: WorkerId
) -> None:
    places = [
        subject.epoch(cell),
        subject.decided(cell),
        subject.observed(cell),
        subject.work(cell, hardware, worker),
    ]
    read = [subject.parse(place) for place in places]

    assert [address.role for address in read if address] == ["scheduler"] * 4
    assert [address.name for address in read if address] == ["", "", "", worker]
    types = [name for address in read if address for name in address.types]
    assert sorted(types) == sorted(payload.TYPE for payload in WRITTEN_BY["scheduler"])


def test_what_is_dispatched_stands_on_the_subjects_of_work_alone() -> None:
    for name in DISPATCHED:
        holders = [
            place
            for place in ("scheduler.epoch", "scheduler.decided", "scheduler.observed", "work.x.w")
            if name
            in (
                subject.parse(f"dtest.main.{place}") or Address("", "client", "", frozenset())
            ).types
        ]
        assert holders == ["work.x.w"]


@given(CELLS, TOKENS, WORKERS)
def test_a_worker_reads_its_work_whatever_the_hardware(
    cell: CellId, hardware: str, worker: WorkerId
) -> None:
    where = subject.work(cell, hardware, worker)

    assert fits(where, subject.work_of(cell, worker))
    assert not fits(where, subject.work_of(cell, WorkerId(f"{worker}x")))


@given(CELLS, WORKERS, st.integers(1, 9))
def test_the_journal_keeps_what_is_in_the_grammar_and_no_output_or_telemetry(
    cell: CellId, worker: WorkerId, attempt: int
) -> None:
    def kept(where: str) -> bool:
        return any(fits(where, pattern) for pattern in subject.journal_filters(cell))

    for where in (
        subject.client(cell, ClientId("c"), "task.queued"),
        subject.agent(cell, worker, "attempt.started"),
        subject.epoch(cell),
        subject.decided(cell),
        subject.observed(cell),
        subject.work(cell, "cpu", worker),
    ):
        assert kept(where)
    for where in (
        subject.output(cell, TaskId("t"), attempt),
        subject.telemetry(cell, worker),
        subject.beat(cell, worker),
        subject.ping(cell, worker),
    ):
        assert not kept(where)
        assert subject.parse(where) is None


@pytest.mark.parametrize(
    "where",
    [
        "",
        "dtest",
        "dtest.main",
        "dtest.main.client.c",
        "dtest.main.client.c.task",
        "dtest.main.client.c.task.queued.v1",
        "dtest.main.scheduler",
        "dtest.main.scheduler.elsewhere",
        "dtest.main.scheduler.epoch.more",
        "dtest.main.operator.c.task.queued",
        "dtest.main.work.cpu",
        "dtest.main.work.cpu.w.more",
        "other.main.client.c.task.queued",
        "DTEST.main.client.c.task.queued",
        "dtest..client.c.task.queued",
        "dtest.main.client..task.queued",
        "dtest.main.agent..attempt.started",
        "dtest.main.work.cpu.",
        "dtest.main.work..w",
        "dtest.main.agent.*.attempt.started",
        "dtest.main.agent.>",
        "dtest.main.client.a b.task.queued",
        "dtest.main.client.c.task.queued\n",
        "dtest.main.client." + "c" * 101 + ".task.queued",
        "dtest.main.client.ü.task.queued",
    ],
)
def test_the_grammar_refuses_the_rest(where: str) -> None:
    assert subject.parse(where) is None


@given(st.text(alphabet="dtest.main.client*>scheduler work", max_size=40))
def test_whatever_is_read_was_built_from_tokens(where: str) -> None:
    address = subject.parse(where)

    if address is not None:
        assert all(subject.TOKEN.fullmatch(token) for token in where.split("."))


@pytest.mark.parametrize(
    "event_type", ["task.exploded", "attempt.started", "leader.elected", "x.y"]
)
def test_a_client_subject_of_no_event_of_clients_holds_nothing(event_type: str) -> None:
    address = subject.parse(f"dtest.main.client.c.{event_type}")

    assert address is not None
    assert address.types == frozenset()
