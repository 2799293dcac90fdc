"""Who may use a kept cell: one at a time, and nobody once it is gone."""

import os
from pathlib import Path

from dtest.runtime.kept import CallerLock, Will, identities, is_unchanged


def test_one_caller_at_a_time_has_the_right(tmp_path: Path) -> None:
    first, second = CallerLock(tmp_path / "cell"), CallerLock(tmp_path / "cell")

    assert first.take()
    assert not second.take()
    first.give_back()
    assert second.take()
    second.give_back()


def test_a_will_is_read_by_the_next_one(tmp_path: Path) -> None:
    first, second = CallerLock(tmp_path), CallerLock(tmp_path)
    assert first.will() is None
    assert first.take()
    first.leave(Will("/here"))
    assert second.will() == Will("/here")
    first.leave(Will("/here", 30.0))
    first.give_back()

    assert second.take()
    assert second.will() == Will("/here", 30.0)
    second.give_back()


def test_a_damaged_will_is_none(tmp_path: Path) -> None:
    lock = CallerLock(tmp_path)
    (tmp_path / "caller.lock").write_text('{"somebody": 1}', encoding="utf-8")

    assert lock.will() is None


def test_the_right_to_a_cell_that_was_moved_away_is_worth_nothing(tmp_path: Path) -> None:
    cell = tmp_path / "cell"
    supervisor, caller = CallerLock(cell), CallerLock(cell)
    assert supervisor.take()
    cell.rename(tmp_path / "going")

    assert caller.take(), "a new one is made"
    assert (cell / "caller.lock").exists()
    caller.give_back()
    supervisor.give_back()


def test_what_is_watched_changes_with_its_content_and_not_with_what_lies_in_a_directory(
    tmp_path: Path,
) -> None:
    file, missing = tmp_path / "settings", tmp_path / "missing"
    file.write_text("a", encoding="utf-8")
    watched = identities([tmp_path, file, missing])

    (tmp_path / "other").write_text("x", encoding="utf-8")
    assert is_unchanged(watched)
    os.utime(file, ns=(1, 1))
    assert not is_unchanged(watched)

    watched = identities([tmp_path, file, missing])
    missing.touch()
    assert not is_unchanged(watched)
    assert not is_unchanged({str(tmp_path / "gone"): [1, 2]})
