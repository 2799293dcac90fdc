"""Only what the cell does not have travels; an interrupted call goes on where it was."""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dtest.errors import NotFound, Unavailable, UsageError
from dtest.workspaces.manifest import Link, parse_manifest
from dtest.workspaces.pack import PACK_BYTES_MAX, decode, unpack, verified
from dtest.workspaces.shipping import Shipped, leaves, ship
from tests.workspaces.projects import repository, write


class MemoryCell:
    """The API's side, with its rules."""

    def __init__(self) -> None:
        self.trees: set[str] = set()
        self.parts: dict[str, bytes] = {}
        self.posted_bytes = 0
        self.asked = 0
        self.before_parts: Callable[[], None] = lambda: None
        self.loses_parts = False

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Say whether a tree is stored."""
        self.asked += 1
        if path.rpartition("/")[2] not in self.trees:
            raise NotFound(path)
        return {"is_stored": True}

    def post_bytes(self, path: str, content: bytes) -> dict[str, Any]:
        """Take a manifest or a pack."""
        self.asked += 1
        if path == "/api/workspaces/parts":
            self.before_parts()
            self.posted_bytes += len(content)
            for digest, encoded in unpack(content):
                if not self.loses_parts:
                    self.parts[digest] = verified(digest, encoded)
            return {"parts": 1}
        raw = decode(content, bytes_max=1 << 20)
        missing = sorted(parse_manifest(raw).chunks - self.parts.keys())
        if not missing:
            self.trees.add(sha256(raw).hexdigest())
        return {"is_stored": not missing, "missing": missing}


@pytest.fixture
def cell() -> MemoryCell:
    return MemoryCell()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = repository(tmp_path / "project")
    write(root, a="one\n", b="two\n", sub__c="three\n", same="one\n")
    return root


def shipped(cell: MemoryCell, root: Path, *paths: str) -> Shipped:
    return ship(cell, root, paths=paths, now=time.time, cache=root.parent / "cache")


def test_a_first_call_brings_everything_once(cell: MemoryCell, project: Path) -> None:
    told = shipped(cell, project)

    assert (told.files, told.files_sent) == (4, 4)
    assert (told.bytes_total, told.bytes_sent) == (18, 14)  # two files hold the same
    assert told.digest in cell.trees
    assert told.notes == ()
    assert told.told().endswith("4 of 4 files sent (14 of 18 bytes)")


def test_a_second_call_brings_nothing_and_asks_once(cell: MemoryCell, project: Path) -> None:
    first = shipped(cell, project)
    cell.asked = cell.posted_bytes = 0
    told = shipped(cell, project)

    assert (told.digest, told.files_sent, told.bytes_sent) == (first.digest, 0, 0)
    assert (cell.asked, cell.posted_bytes) == (1, 0)


def test_a_changed_file_is_all_that_travels(cell: MemoryCell, project: Path) -> None:
    first = shipped(cell, project)
    write(project, sub__c="three and a bit\n")
    told = shipped(cell, project)

    assert told.digest != first.digest
    assert (told.files_sent, told.bytes_sent) == (1, len("three and a bit\n"))


def test_a_renamed_file_or_a_removed_one_costs_nothing(cell: MemoryCell, project: Path) -> None:
    shipped(cell, project)
    (project / "a").rename(project / "z")
    (project / "b").unlink()

    assert shipped(cell, project).bytes_sent == 0


def test_only_the_changed_part_of_a_large_file_travels(cell: MemoryCell, project: Path) -> None:
    content = bytearray(bytes(range(256)) * 8_192)
    content[0] = 1
    write(project, large=bytes(content))
    shipped(cell, project)
    content[-1] ^= 1
    write(project, large=bytes(content))
    told = shipped(cell, project)

    assert told.files_sent == 1
    assert 0 < told.bytes_sent < len(content) / 2


def test_an_interrupted_call_goes_on_where_it_was(cell: MemoryCell, project: Path) -> None:
    for number in range(3):
        noise = b"".join(
            sha256(f"{number} {count}".encode()).digest() for count in range(PACK_BYTES_MAX // 48)
        )
        write(project, **{f"large{number}": noise})
    packs = iter(range(10))

    def fail_at_the_second() -> None:
        if next(packs) == 1:
            raise Unavailable("the connection is lost")

    cell.before_parts = fail_at_the_second
    with pytest.raises(Unavailable):
        shipped(cell, project)
    arrived = sum(map(len, cell.parts.values()))
    told = shipped(cell, project)

    assert arrived > PACK_BYTES_MAX / 2
    assert told.bytes_sent + arrived == told.bytes_total - len("one\n")


def test_a_file_that_changes_meanwhile_is_shipped_as_it_became(
    cell: MemoryCell, project: Path
) -> None:
    looks = iter(range(10))
    real = cell.post_bytes

    def change_once(path: str, content: bytes) -> dict[str, Any]:
        answer = real(path, content)
        if next(looks) == 0:
            write(project, a="another\n")
        return answer

    cell.post_bytes = change_once  # type: ignore[method-assign]
    shipped(cell, project)

    assert b"another\n" in cell.parts.values()


def test_a_file_that_never_rests_is_named(cell: MemoryCell, project: Path) -> None:
    count = iter(range(100))
    real = cell.post_bytes

    def always_change(path: str, content: bytes) -> dict[str, Any]:
        answer = real(path, content)
        write(project, a=f"{next(count)}\n")
        return answer

    cell.post_bytes = always_change  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="a changed while it was shipped"):
        shipped(cell, project)


def test_a_cell_that_keeps_nothing_is_an_error(cell: MemoryCell, project: Path) -> None:
    cell.loses_parts = True

    with pytest.raises(Unavailable, match="are missing all the same"):
        shipped(cell, project)


def test_an_empty_tree_is_an_error(cell: MemoryCell, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match="there are no files to ship"):
        shipped(cell, tmp_path / "empty")
    with pytest.raises(UsageError, match="is no directory"):
        shipped(cell, tmp_path / "nowhere")


def test_the_user_hears_of_links_out_and_of_missing_git(cell: MemoryCell, tmp_path: Path) -> None:
    root = tmp_path / "plain"
    write(root, a="x")
    for number in range(7):
        (root / f"out{number}").symlink_to("/etc/hosts")
    (root / "in").symlink_to("a")
    notes = shipped(cell, root).notes

    assert "is in no git repository" in notes[0]
    assert "out0 leads out of the tree, to /etc/hosts" in notes[1]
    assert notes[-1] == "2 more links lead out of the tree"


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("a", "b", False),
        ("a", "/b", True),
        ("a", "../b", True),
        ("d/a", "../b", False),
        ("d/a", "../../b", True),
        ("d/a", "x/../../b", False),
        ("d/a", "../d/../../b", True),
    ],
)
def test_a_link_leaves_the_tree_by_its_text(path: str, target: str, out: bool) -> None:
    assert leaves(Link(path, target)) is out
