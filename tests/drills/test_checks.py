"""The books of a drill: kept from raw messages, and wrong in no way that a drill would hide."""

import json
from typing import Any

import pytest

from dtest.drills.checks import Findings, keep_books
from dtest.journal.port import Stored

CAPABILITY = {"slots": 2, "cpus": 4.0, "memory_gb": 8.0}


class Book:
    """Writes messages as the wire has them, by hand."""

    def __init__(self) -> None:
        self.messages: list[Stored] = []

    def say(self, role: str, kind: str, **data: Any) -> "Book":
        where = {
            "client": f"dtest.main.client.c.{kind}",
            "agent": f"dtest.main.agent.{data.get('worker_id', 'w')}.{kind}",
            "scheduler": "dtest.main.scheduler.decided",
            "epoch": "dtest.main.scheduler.epoch",
            "work": f"dtest.main.work.cpu.{data.get('worker_id', 'w')}",
        }[role]
        event = {"type": f"dev.dtest.{kind}.v1", "data": data}
        seq = len(self.messages) + 1
        self.messages.append(Stored(seq, where, float(seq), f"m{seq}", json.dumps(event).encode()))
        return self

    def worker(self, name: str = "w", incarnation: str = "i1", held: Any = ()) -> "Book":
        about = {"worker_id": name, "incarnation": incarnation, "capability": CAPABILITY}
        return self.say("agent", "worker.registered", **about, held=list(held))

    def queued(self, name: str = "t", **resources: Any) -> "Book":
        return self.say("client", "task.queued", task_id=name, resources=resources)

    def assigned(self, attempt: int = 1, name: str = "t", worker: str = "w") -> "Book":
        about = {"task_id": name, "attempt": attempt, "worker_id": worker, "incarnation": "i1"}
        return self.say("work", "attempt.assigned", **about)

    def finished(self, outcome: str = "passed", attempt: int = 1, name: str = "t") -> "Book":
        about = {"task_id": name, "attempt": attempt, "worker_id": "w", "outcome": outcome}
        return self.say("agent", "attempt.finished", **about)

    def ended(self, status: str, name: str = "t") -> "Book":
        return self.say("scheduler", "task.ended", task_id=name, status=status)

    def gone(self, kind: str, incarnation: str = "i1") -> "Book":
        role = "agent" if kind == "worker.left" else "scheduler"
        return self.say(role, kind, worker_id="w", incarnation=incarnation)

    @property
    def kept(self) -> Findings:
        return keep_books(self.messages)


def book() -> Book:
    return Book().worker().queued()


def test_a_task_that_passed_is_over_once() -> None:
    found = book().assigned().finished().kept

    assert found.tasks["t"].ends == ["passed"]
    assert (found.violations, found.duplicated, found.lost(["t"])) == ([], 0, [])


def test_what_a_client_was_promised_and_is_not_there_is_lost() -> None:
    assert book().kept.lost(["t", "other"]) == ["t", "other"]


@pytest.mark.parametrize("second", ["passed", "failed"])
def test_a_second_report_of_the_same_attempt_counts_for_nothing(second: str) -> None:
    found = book().assigned().finished().finished(second).kept

    assert found.tasks["t"].ends == ["passed"]
    assert found.late_reports == 1
    assert found.violations == []


def test_the_late_result_of_a_lost_worker_counts_for_nothing() -> None:
    kept = book().worker("v").assigned()
    kept.gone("worker.suspected").gone("worker.lost").assigned(2, worker="v")
    found = kept.finished(attempt=1).kept

    assert not found.tasks["t"].is_over
    assert found.late_reports == 1


def test_a_worker_that_came_back_before_its_loss_was_decided_keeps_its_attempt() -> None:
    kept = book().assigned().say("agent", "attempt.started", task_id="t", attempt=1, worker_id="w")
    kept.gone("worker.suspected")
    kept.worker(held=[{"task_id": "t", "attempt": 1}]).gone("worker.lost")

    assert kept.finished().kept.tasks["t"].ends == ["passed"]


def test_two_terminal_states_are_a_violation() -> None:
    found = book().assigned().finished().ended("errored").kept

    assert found.duplicated == 1
    assert "errored after passed" in found.violations[0]


def test_a_failure_may_be_decided_upon_and_retried() -> None:
    kept = book().assigned().finished("failed")
    assert kept.kept.tasks["t"].ends == ["failed"]
    kept.say("scheduler", "task.retry_scheduled", task_id="t", attempt=1).assigned(2)
    assert kept.finished(attempt=2).kept.tasks["t"].ends == ["passed"]
    assert kept.kept.violations == []


def test_an_assignment_after_the_end_is_a_violation() -> None:
    found = book().assigned().finished().assigned(2).kept

    assert found.duplicated == 1
    assert "assigned again" in found.violations[0]


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (book().assigned(2), "out of turn"),
        (book().assigned().assigned(), "comes twice"),
        (Book().worker().assigned(), "never queued"),
        (
            book().queued("u").queued("v").assigned().assigned(name="u").assigned(name="v"),
            "2 slots, and 3",
        ),
        (
            Book().worker().queued(cpus=3.0).queued("u", cpus=1.5).assigned().assigned(name="u"),
            "4 cpus, and 4.5",
        ),
    ],
)
def test_what_no_leader_may_do_is_named(kept: Book, words: str) -> None:
    assert any(words in text for text in kept.kept.violations), kept.kept.violations


def test_a_message_that_is_missing_is_named() -> None:
    kept = book().assigned().finished()
    del kept.messages[2]

    assert "message 4 follows 2" in kept.kept.violations


def test_what_the_leader_refused_is_no_task() -> None:
    kept = book().say("scheduler", "event.refused", refused_seq=2, index=0)

    assert kept.kept.tasks == {}


def test_what_is_no_event_is_passed_over() -> None:
    kept = book()
    for payload in (b"{", b"[1]", b'"text"', b'{"type": "dev.dtest.task.queued.v1"}'):
        seq = len(kept.messages) + 1
        kept.messages.append(Stored(seq, "dtest.main.client.c.task.queued", 0.0, "", payload))

    assert kept.kept.violations == []
