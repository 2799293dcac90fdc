"""A manifest has one form for one tree, and takes nothing that would leave the tree."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.errors import InvalidDocument
from dtest.workspaces.manifest import (
    CHUNK_BYTES,
    FILE_BYTES_MAX,
    FILES_MAX,
    Entry,
    File,
    Link,
    manifest_of,
    parse_manifest,
)

A = "a" * 64
NAMES = st.text(
    st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
RAW_NAMES = st.binary(min_size=1, max_size=6).map(
    lambda raw: raw.replace(b"/", b"x").replace(b"\0", b"y").decode("utf-8", "surrogateescape")
)
PATHS = st.lists(
    st.one_of(NAMES, RAW_NAMES.filter(lambda name: name not in (".", ".."))), min_size=1, max_size=3
).map("/".join)
DIGESTS = st.integers(0, 5).map(lambda number: f"{number:064x}")


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """Entries none of which lies below another."""
    paths = draw(st.sets(PATHS, max_size=8))
    kept = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
    entries: list[Entry] = []
    for path in kept:
        if draw(st.booleans()):
            entries.append(Link(path, draw(PATHS)))
        else:
            size = draw(st.integers(0, 2 * CHUNK_BYTES))
            chunks = tuple(draw(DIGESTS) for _ in range(-(-size // CHUNK_BYTES)))
            entries.append(File(path, size, chunks, draw(st.booleans())))
    return entries


@given(trees(), st.randoms(use_true_random=False))
def test_the_order_of_entries_plays_no_part(entries: list[Entry], luck: random.Random) -> None:
    shuffled = list(entries)
    luck.shuffle(shuffled)

    assert manifest_of(shuffled).encoded() == manifest_of(entries).encoded()


@given(trees())
def test_what_is_read_is_what_was_written(entries: list[Entry]) -> None:
    manifest = manifest_of(entries)

    assert parse_manifest(manifest.encoded()) == manifest
    assert parse_manifest(manifest.encoded()).digest == manifest.digest


@given(trees(), trees())
def test_different_trees_have_different_names(one: list[Entry], other: list[Entry]) -> None:
    is_same = set(one) == set(other)

    assert (manifest_of(one).digest == manifest_of(other).digest) == is_same


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_other_bytes_are_refused_and_break_nothing(content: bytes) -> None:
    with pytest.raises(InvalidDocument):
        parse_manifest(content)


def written(*rows: Any) -> bytes:
    return json.dumps({"dtest_workspace": 1, "entries": rows}, separators=(",", ":")).encode()


HOSTILE: list[tuple[bytes, str]] = [
    (written(["f", "../x", 0, []]), "no plain path"),
    (written(["f", "/etc/passwd", 0, []]), "no plain path"),
    (written(["f", "a/../../x", 0, []]), "no plain path"),
    (written(["f", "a//b", 0, []]), "no plain path"),
    (written(["f", "a/./b", 0, []]), "no plain path"),
    (written(["f", "", 0, []]), "no plain path"),
    (written(["f", "a/", 0, []]), "no plain path"),
    (written(["f", "a\0b", 0, []]), "no plain path"),
    (written(["f", "\ud800", 0, []]), "cannot be the name"),
    (written(["f", "x" * 300, 0, []]), "too long"),
    (written(["f", "/".join(["x" * 200] * 6), 0, []]), "too long"),
    (written(["l", "a", "/etc"], ["f", "a/passwd", 0, []]), "below 'a'"),
    (written(["f", "a", 0, []], ["f", "a/b/c", 0, []]), "below 'a'"),
    (written(["f", "a", 0, []], ["l", "a", "b"]), "twice"),
    (written(["l", "a", ""]), "cannot lead"),
    (written(["l", "a", "x" * 5_000]), "cannot lead"),
    (written(["f", "a", 1, []]), "0 parts do not make 1"),
    (written(["f", "a", 0, [A]]), "1 parts do not make 0"),
    (written(["f", "a", -1, []]), "has -1 bytes"),
    (written(["f", "a", FILE_BYTES_MAX + 1, []]), "a file may have"),
    (written(["f", "a", 1, ["../../x"]]), "no SHA-256"),
    (written(["f", "a", 1, [A.upper()]]), "no SHA-256"),
    (written(["f", "a", True, [A]]), "no entry"),
    (written(["f", "a", 1.0, [A]]), "no entry"),
    (written(["b", "a", 1, [A]]), "no entry"),
    (written(["f", "b", 0, []], ["f", "a", 0, []]), "canonical"),
    (b" " + written(["f", "a", 0, []]), "canonical"),
    (b'{"dtest_workspace":2,"entries":[]}', "format 1"),
    (b"[" * 100_000, "JSON"),
]


@pytest.mark.parametrize(("content", "said"), HOSTILE)
def test_a_manifest_that_would_leave_its_tree_or_lies_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        parse_manifest(content)


def test_a_tree_of_too_many_files_is_refused() -> None:
    with pytest.raises(InvalidDocument, match=f"at most {FILES_MAX}"):
        manifest_of(File(str(number), 0, ()) for number in range(FILES_MAX + 1))


def test_a_tree_of_too_many_bytes_is_refused() -> None:
    chunks = (A,) * (FILE_BYTES_MAX // CHUNK_BYTES)

    with pytest.raises(InvalidDocument, match="the tree has"):
        manifest_of(File(str(number), FILE_BYTES_MAX, chunks) for number in range(5))
