"""A tree is what git would take; what did not change is not read again."""

import os
import socket
import time
from pathlib import Path

import pytest

from dtest.errors import UsageError
from dtest.workspaces.listing import list_files
from dtest.workspaces.manifest import CHUNK_BYTES, FILE_BYTES_MAX, File, Link
from dtest.workspaces.tree import Changed, Snapshot, read_tree
from tests.workspaces.projects import age, git, repository, write

LATER_S = 10.0
"""When the changes that tests make are no longer of this very moment."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return repository(tmp_path / "project")


def read(root: Path, cache: Path | None = None, *, later_s: float = LATER_S) -> Snapshot:
    return read_tree(root, list_files(root).paths, now=time.time() + later_s, cache=cache)


def names(root: Path, *paths: str) -> list[str]:
    return sorted(list_files(root, paths).paths)


def test_tracked_and_untracked_files_count_and_ignored_ones_do_not(project: Path) -> None:
    write(project, _dot_gitignore="*.log\nbuilt/\n", a__tracked="1", untracked="2")
    write(project, noise_dot_log="3", built__x="4", forced_dot_log="5")
    git(project, "add", "-f", "a", "forced.log")

    assert names(project) == [".gitignore", "a/tracked", "forced.log", "untracked"]


def test_a_deleted_file_does_not_count_though_git_knows_it(project: Path) -> None:
    write(project, kept="1", gone="2", directory__gone="3")
    git(project, "add", ".")
    (project / "gone").unlink()
    (project / "directory" / "gone").unlink()
    (project / "directory").rmdir()
    write(project, directory="now a file")

    assert names(project) == ["directory", "kept"]


def test_a_part_of_a_repository_is_a_tree_of_its_own(project: Path) -> None:
    write(project, a__x="1", b__y="2")

    assert names(project / "a") == ["x"]


def test_submodules_and_repositories_inside_count(project: Path, tmp_path: Path) -> None:
    other = repository(tmp_path / "other")
    write(other, inner="1")
    git(other, "add", ".")
    git(other, "commit", "-qm", "x")
    git(project, "submodule", "add", "-q", str(other), "sub")
    nested = repository(project / "nested")
    write(nested, own="2", _dot_gitignore="junk\n", junk="3")

    assert names(project) == [".gitmodules", "nested/.gitignore", "nested/own", "sub/inner"]


@pytest.mark.parametrize("name", ["*", "a b", "ü", "-x", "quote'\"", "new\nline", "\udcff"])
def test_a_file_may_have_any_name(project: Path, name: str) -> None:
    (project / name).write_text("x")

    assert [entry.path for entry in read(project).manifest.entries] == [name]


def test_paths_choose_a_part(project: Path) -> None:
    write(project, a__x="1", b__y="2", c="3")

    assert names(project, "b", "c") == ["b/y", "c"]
    assert names(project, str(project / "a")) == ["a/x"]


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "missing"])
def test_a_path_outside_or_nowhere_is_an_error(project: Path, path: str) -> None:
    with pytest.raises(UsageError, match="is no file or directory below"):
        list_files(project, [path])


def test_without_git_all_counts_but_what_tools_leave(tmp_path: Path) -> None:
    write(tmp_path, a="1", _dot_venv__x="2", sub__b="4")
    (tmp_path / "p" / "__pycache__").mkdir(parents=True, exist_ok=True)
    (tmp_path / "p" / "__pycache__" / "c.pyc").write_text("5")
    listing = list_files(tmp_path)

    assert not listing.by_git
    assert {"a", "sub/b"} <= set(listing.paths)
    assert not [path for path in listing.paths if ".venv" in path or "c.pyc" in path]


def test_a_repository_that_git_refuses_is_an_error_with_its_words(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("nonsense")

    with pytest.raises(UsageError, match="git cannot list the files"):
        list_files(tmp_path)


def test_modes_links_and_content_are_read(project: Path) -> None:
    large = bytes(range(256)) * (CHUNK_BYTES // 256) + b"end"
    write(project, plain="x", script="#!/bin/sh", empty="", large=large)
    (project / "script").chmod(0o755)
    (project / "link").symlink_to("plain")
    entries = {entry.path: entry for entry in read(project).manifest.entries}

    assert entries["link"] == Link("link", "plain")
    assert [entries[name].is_executable for name in ("plain", "script")] == [False, True]  # type: ignore[union-attr]
    assert entries["empty"] == File("empty", 0, ())
    file = entries["large"]
    assert isinstance(file, File)
    assert (file.size_bytes, len(file.chunks)) == (CHUNK_BYTES + 3, 2)


def test_a_link_to_a_directory_is_a_link_and_not_entered(project: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside", secret="x")
    (project / "out").symlink_to(tmp_path / "outside")

    assert read(project).manifest.entries == (Link("out", str(tmp_path / "outside")),)


def test_a_socket_or_a_pipe_is_an_error_that_names_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe is neither a file nor a link"):
        read(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        previous = Path.cwd()
        os.chdir(tmp_path)
        try:
            listener.bind("socket")
        finally:
            os.chdir(previous)
        with pytest.raises(UsageError, match="socket is neither"):
            read(tmp_path)


def test_a_file_that_is_too_large_is_an_error_that_names_it(project: Path) -> None:
    with (project / "huge").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)

    with pytest.raises(UsageError, match=r"huge has \d+ bytes"):
        read(project)


def test_an_unchanged_tree_is_not_read_again(project: Path, tmp_path: Path) -> None:
    write(project, a="1", b="2", link="3")
    cache = tmp_path / "cache.json"
    first = read(project, cache)
    second = read(project, cache)

    assert (first.files_read, second.files_read) == (3, 0)
    assert second.manifest == first.manifest


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_changed_file_is_read_again(project: Path, tmp_path: Path, keep_time: bool) -> None:
    write(project, a="1", b="2")
    cache = tmp_path / "cache.json"
    first = read(project, cache)
    seen = (project / "a").stat()
    (project / "a").write_text("9")
    if keep_time:  # whoever sets times back cannot set back when that was
        os.utime(project / "a", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    second = read(project, cache)

    assert second.files_read == 1
    assert second.manifest.digest != first.manifest.digest


def test_a_file_changed_at_this_very_moment_is_not_believed_next_time(
    project: Path, tmp_path: Path
) -> None:
    write(project, a="1")
    cache = tmp_path / "cache.json"
    (project / "a").write_text("2")
    read(project, cache, later_s=0.0)

    assert read(project, cache).files_read == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format":1,"files":[[1]]}'])
def test_a_damaged_cache_only_costs_time(project: Path, tmp_path: Path, content: bytes) -> None:
    write(project, a="1")
    cache = tmp_path / "cache.json"
    cache.write_bytes(content)

    assert read(project, cache).files_read == 1
    assert read(project, cache).files_read == 0


def test_parts_are_read_as_they_were_or_not_at_all(project: Path) -> None:
    write(project, a="1", b="2", twin="1")
    snapshot = read(project)
    (one,) = snapshot.manifest.file("a").chunks  # type: ignore[union-attr]

    assert list(snapshot.parts([one])) == [(one, b"1")]
    (project / "a").write_text("3")
    age(project / "a")
    with pytest.raises(Changed):
        list(snapshot.parts([one]))
    (project / "a").unlink()
    with pytest.raises(Changed):
        list(snapshot.parts([one]))
