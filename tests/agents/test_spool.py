"""The spool: slots that are used again, and what a killed agent finds in them."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.agents.keeper.notes import write_json, write_line
from dtest.agents.spool import OWN_DIRECTORIES, Slot, Spool
from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import RunId, TaskId, WorkerId

LONG = {"command": ["x" * 20_000]}


def assigned(task: str = "t", attempt: int = 1, **more: Any) -> AttemptAssigned:
    more.setdefault("config", {"command": ["true"]})
    return AttemptAssigned(TaskId(task), attempt, WorkerId("w"), "i1", "cpu", "command", **more)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def give_back(spool: Spool, slot: Slot) -> None:
    """As the executor does it."""
    if not spool.give_back(slot):
        slot.remove()
        spool.reuse(slot)


def names(spool: Spool) -> list[str]:
    return sorted(path.name for path in (spool.root / "slots").iterdir())


def test_an_accepted_attempt_stands_on_disk(spool: Spool) -> None:
    full = assigned(
        run_id=RunId("r"),
        devices=("cuda:0",),
        timeout_seconds=1.5,
        idle_timeout_seconds=2.5,
        grace_seconds=0.0,
        memory_limit_gb=0.25,
        config={"command": "é\n\0", "env": {"A": "b"}},
    )
    slot = spool.take(full)

    assert Slot(slot.path).assignment() == full
    assert [(found.path, attempt) for found, attempt in Spool(spool.root).recover()] == [
        (slot.path, full)
    ]
    assert all((slot.path / name).is_dir() for name in OWN_DIRECTORIES)


def test_a_slot_is_used_again(spool: Spool) -> None:
    first = spool.take(assigned("a"))
    second = spool.take(assigned("b"))
    give_back(spool, first)

    third = spool.take(assigned("c"))

    assert third.path == first.path != second.path
    assert names(spool) == ["0000", "0001"]


@pytest.mark.parametrize(
    "leftover",
    ["output.log", "work/file", "artifacts/a.bin", "checkpoint/deep/er", "cases.jsonl", "x/y"],
)
def test_what_an_attempt_left_is_gone_for_the_next(spool: Spool, leftover: str) -> None:
    slot = spool.take(assigned("a"))
    path = slot.path / leftover
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("secret of a")
    give_back(spool, slot)

    again = spool.take(assigned("b"))

    assert again.path == slot.path
    assert not path.exists() or path.read_text() == ""
    assert all(not any((again.path / name).iterdir()) for name in OWN_DIRECTORIES)


def test_what_an_attempt_made_of_its_own_directories_is_gone_for_the_next(spool: Spool) -> None:
    slot = spool.take(assigned("a"))
    (slot.path / "work").rmdir()
    (slot.path / "artifacts").rmdir()
    (slot.path / "artifacts").symlink_to("/etc")
    give_back(spool, slot)

    again = spool.take(assigned("b"))

    assert all((again.path / name).is_dir() for name in OWN_DIRECTORIES)
    assert not (again.path / "artifacts").is_symlink()


def test_a_slot_that_an_attempt_deleted_is_made_anew(spool: Spool) -> None:
    slot = spool.take(assigned("a"))
    for name in OWN_DIRECTORIES:
        (slot.path / name).rmdir()
    (slot.path / "assignment.json").unlink()
    slot.path.rmdir()
    give_back(spool, slot)

    assert spool.take(assigned("b")).assignment() == assigned("b")


def test_a_large_output_does_not_stay_on_disk(spool: Spool) -> None:
    slot = spool.take(assigned("a"))
    with (slot.path / "output.log").open("wb") as output:
        output.truncate(80 << 20)
    give_back(spool, slot)

    assert not (slot.path / "output.log").exists()


def test_notes_about_another_attempt_are_not_this_ones(spool: Spool) -> None:
    slot = spool.take(assigned("a"))
    write_json(slot.path / "pid.json", {"key": "a.1", "pid": 7})
    write_json(slot.path / "exit.json", {"key": "a.1", "exit_code": 0})
    give_back(spool, slot)
    again = spool.take(assigned("b"))

    assert again.path == slot.path
    assert again.note("pid.json", "b.1") is None
    assert again.note("exit.json", "b.1") is None
    assert again.note("exit.json", "a.1") == {"key": "a.1", "exit_code": 0}


def test_a_shorter_note_over_a_longer_one_is_read_alone(tmp_path: Path) -> None:
    slot = Slot(tmp_path)
    write_json(tmp_path / "pid.json", {"key": "a-long-name.12", "pid": 1234567})
    write_json(tmp_path / "pid.json", {"key": "b.1", "pid": 7})

    assert slot.note("pid.json", "b.1") == {"key": "b.1", "pid": 7}


@pytest.mark.parametrize("content", [b"", b"\n", b"{", b"null\n", b"[1]\n", b"\xff\n", b'"t.1"\n'])
def test_a_torn_note_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "exit.json").write_bytes(content)
    (tmp_path / "assignment.json").write_bytes(content)

    assert Slot(tmp_path).note("exit.json", "t.1") is None
    assert Slot(tmp_path).assignment() is None


@given(written=st.integers(0, 400))
def test_an_assignment_that_was_not_fully_written_is_none_or_whole(
    tmp_path_factory: pytest.TempPathFactory, written: int
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    slot = spool.take(assigned())
    path = slot.path / "assignment.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:written])

    assert slot.assignment() == (assigned() if written >= len(whole) - 1 else None)


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_slot_that_was_not_fully_taken_is_removed_at_recovery(spool: Spool, kept: int) -> None:
    """A kill between the directories, or before the assignment stood."""
    path = spool.root / "slots" / "0004"
    path.mkdir()
    for name in OWN_DIRECTORIES[:kept]:
        (path / name).mkdir()
    after = Spool(spool.root)

    assert after.recover() == []
    assert names(after) == []
    assert after.take(assigned()).path.name == "0005"


def test_a_slot_given_back_is_not_recovered(spool: Spool) -> None:
    slot = spool.take(assigned("a"))
    spool.take(assigned("b"))
    give_back(spool, slot)

    after = Spool(spool.root)

    assert [attempt.task_id for _, attempt in after.recover()] == ["b"]
    fresh = {after.take(assigned(name)).path for name in ("c", "d", "e")}
    assert len(fresh) == 3
    assert not any("0001" in path.name for path in fresh)


def test_foreign_files_among_the_slots_do_not_stop_recovery(spool: Spool) -> None:
    spool.take(assigned("a"))
    (spool.root / "slots" / ".DS_Store").write_text("x")
    (spool.root / "slots" / "notes").mkdir()

    assert [attempt.task_id for _, attempt in Spool(spool.root).recover()] == ["a"]


def test_a_disk_that_is_full_raises_and_leaves_no_half_taken_slot(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = spool.take(assigned("a"))
    give_back(spool, first)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 10_000:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:10_000])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        spool.take(assigned("b", config=LONG))
    monkeypatch.undo()

    assert Spool(spool.root).recover() == []
    assert spool.take(assigned("c")).assignment() == assigned("c")


def test_a_line_that_the_disk_takes_in_pieces_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))

    write_line(tmp_path / "note", b"0123456789")

    assert (tmp_path / "note").read_bytes() == b"0123456789\n"


def test_the_position_is_kept_and_forgotten(spool: Spool) -> None:
    assert spool.load() is None
    spool.save(7)
    spool.save(123456)
    assert Spool(spool.root).load() == 123456

    spool.forget()

    assert Spool(spool.root).load() is None


def test_a_position_is_never_seen_half_written(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill at any moment of a save leaves the old position or the new one."""
    spool.save(41)

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        spool.save(42)

    assert Spool(spool.root).load() == 41


@pytest.mark.parametrize("content", ["", "x", "\0" * 20])
def test_an_unreadable_position_is_none(spool: Spool, content: str) -> None:
    (spool.root / "position").write_text(content)

    assert spool.load() is None


def test_every_field_of_an_assignment_survives_the_disk(tmp_path: Path) -> None:
    """A field that is added to the event must not be lost at re-adoption."""
    slot = Slot(tmp_path / "slot")
    slot.take(assigned())
    found = slot.assignment()

    assert found is not None
    assert dataclasses.asdict(found) == dataclasses.asdict(assigned())
