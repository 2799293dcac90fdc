"""A directory packed and unpacked is the same; nothing else is packed, nothing else unpacked."""

import contextlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.agents import archive
from dtest.agents.archive import Bounds, Changed, Packed, digest, look, sha256_of, unpack
from dtest.errors import InvalidDocument

BOUNDS = Bounds(bytes_max=1 << 20, files_max=50)
PARTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8
).filter(lambda part: part not in {".", ".."} and not part.endswith(".tmp"))
TREES = st.recursive(
    st.tuples(st.binary(max_size=2_000), st.integers(0, 0o777), st.integers(0, 2**32)),
    lambda inner: st.dictionaries(PARTS, inner, max_size=4),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint"
    made.mkdir()
    return made


def grow(root: Path, tree: object) -> None:
    root.mkdir(exist_ok=True)
    assert isinstance(tree, dict)
    for name, content in tree.items():
        path = root / name
        if isinstance(content, dict):
            grow(path, content)
        else:
            data, mode, modified_s = content
            path.write_bytes(data)
            path.chmod(mode | 0o400)
            os.utime(path, (modified_s, modified_s))


def seen(root: Path) -> dict[str, tuple[bytes | None, int, int]]:
    found: dict[str, tuple[bytes | None, int, int]] = {}
    for path in sorted(root.rglob("*")):
        about = path.stat()
        content = path.read_bytes() if path.is_file() else None
        modified_ns = about.st_mtime_ns if path.is_file() else 0
        found[str(path.relative_to(root))] = (content, about.st_mode, modified_ns)
    return found


def pack(root: Path, target: Path) -> Packed:
    packed = Packed(root, target, look(root, BOUNDS))
    packed.fill()
    return packed


@given(tree=TREES)
def test_what_is_unpacked_is_what_was_packed(
    tree: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("trees")
    grow(base / "here", tree)
    packed = pack(base / "here", base / "a.tar")
    assert packed.is_whole()
    unpack(packed.path, base / "there", BOUNDS)

    assert seen(base / "there") == seen(base / "here")
    again = pack(base / "there", base / "b.tar")
    assert (again.sha256, again.size_bytes) == (packed.sha256, packed.size_bytes)
    packed.close()
    again.close()
    assert not packed.path.exists()


def test_a_name_that_is_no_text_is_kept(root: Path, tmp_path: Path) -> None:
    (root / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")
    packed = pack(root, tmp_path / "a.tar")
    unpack(packed.path, tmp_path / "there", BOUNDS)

    (found,) = (tmp_path / "there").iterdir()
    assert os.fsencode(found.name) == b"\xff\xfe"
    packed.close()


def test_what_is_being_written_is_left_out_and_is_no_change(root: Path) -> None:
    (root / "state").write_text("1")
    before = digest(look(root, BOUNDS))
    (root / "state.tmp").write_text("half of 2")
    (root / "dir.tmp").mkdir()
    (root / "dir.tmp" / "x").touch()

    assert digest(look(root, BOUNDS)) == before
    (root / "state.tmp").replace(root / "state")
    assert digest(look(root, BOUNDS)) != before


@pytest.mark.parametrize("kind", ["symlink", "dangling", "fifo", "socket_like_directory_link"])
def test_what_is_no_file_is_refused_by_name(kind: str, root: Path) -> None:
    if kind == "fifo":
        os.mkfifo(root / "odd")
    else:
        target = {"symlink": "/etc/passwd", "dangling": "nowhere"}.get(kind, "/")
        (root / "odd").symlink_to(target)

    with pytest.raises(InvalidDocument, match="'odd' is neither a file nor a directory"):
        look(root, BOUNDS)


def test_a_hard_link_is_a_file_of_its_own(root: Path, tmp_path: Path) -> None:
    (root / "a").write_text("same")
    os.link(root / "a", root / "b")
    packed = pack(root, tmp_path / "a.tar")
    unpack(packed.path, tmp_path / "there", BOUNDS)

    assert {path.name: path.read_text() for path in (tmp_path / "there").iterdir()} == {
        "a": "same",
        "b": "same",
    }
    packed.close()


def test_too_much_is_refused_with_the_limit_before_a_byte_is_read(root: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(BOUNDS.bytes_max + 1)

    with pytest.raises(InvalidDocument, match=f"{BOUNDS.bytes_max + 1} bytes; at most 1048576"):
        look(root, BOUNDS)


def test_too_many_are_refused_with_the_limit(root: Path) -> None:
    for number in range(BOUNDS.files_max + 1):
        (root / str(number)).touch()

    with pytest.raises(InvalidDocument, match="more than 50 files"):
        look(root, BOUNDS)


# --- changes meanwhile --------------------------------------------------------------------------


def test_a_file_that_is_written_to_afterwards_was_not_complete(root: Path, tmp_path: Path) -> None:
    (root / "state").write_text("half")
    packed = pack(root, tmp_path / "a.tar")
    with (root / "state").open("a") as file:
        file.write(" and half")

    assert not packed.is_whole()
    packed.close()


def test_a_file_that_is_replaced_or_removed_afterwards_was_complete(
    root: Path, tmp_path: Path
) -> None:
    (root / "state").write_text("1")
    (root / "old").write_text("0")
    packed = pack(root, tmp_path / "a.tar")
    (root / "state.tmp").write_text("2")
    (root / "state.tmp").replace(root / "state")
    (root / "old").unlink()

    assert packed.is_whole()
    packed.close()


def test_files_beyond_those_held_open_have_to_stay_in_place(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "HELD_FILES_MAX", 1)
    for name in "ab":
        (root / name).write_text(name)
    packed = pack(root, tmp_path / "a.tar")
    assert packed.is_whole()
    (root / "a").unlink()
    assert packed.is_whole()
    (root / "b").unlink()
    assert not packed.is_whole()
    packed.close()


@pytest.mark.parametrize("change", ["grown", "shrunk", "gone", "replaced"])
def test_a_file_that_changed_since_it_was_seen_is_not_packed(
    change: str, root: Path, tmp_path: Path
) -> None:
    path = root / "state"
    path.write_text("12345")
    packed = Packed(root, tmp_path / "a.tar", look(root, BOUNDS))
    if change == "gone":
        path.unlink()
    elif change == "replaced":
        (root / "new").write_text("12345")
        (root / "new").replace(path)
    else:
        path.write_text("123456" if change == "grown" else "1")

    with pytest.raises(Changed):
        packed.fill()
    packed.close()


# --- archives of unknown origin ------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in more.items():
        setattr(made, field, value)
    return made


def written(path: Path, *members: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for each in members:
            each.size = len(content) if each.type == tarfile.REGTYPE else 0
            tar.addfile(each, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "hostile",
    [
        member("/etc/cron.d/x"),
        member("../x"),
        member("a/../../x"),
        member(".."),
        member("."),
        member("link", tarfile.SYMTYPE, linkname="/etc"),
        member("link", tarfile.LNKTYPE, linkname="../../x"),
        member("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("disk", tarfile.BLKTYPE, devmajor=8, devminor=0),
        member("pipe", tarfile.FIFOTYPE),
        member("thin", tarfile.CONTTYPE),
        member(
            "thin",
            pax_headers={
                "GNU.sparse.major": "0",
                "GNU.sparse.minor": "1",
                "GNU.sparse.map": "0,1",
                "GNU.sparse.size": str(1 << 40),
            },
        ),
    ],
    ids=lambda each: f"{each.name}-{each.type.decode()}",
)
def test_what_we_would_not_pack_is_not_unpacked(hostile: tarfile.TarInfo, tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", member("good"), hostile)
    outside = tmp_path / "outside"
    outside.mkdir()

    with pytest.raises(InvalidDocument):
        unpack(path, outside / "there", BOUNDS)
    assert [each.name for each in outside.iterdir()] == ["there"]
    assert {each.name for each in (outside / "there").iterdir()} <= {"good"}


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """The link is refused itself; that it stood in the way before does not matter either."""
    outside = tmp_path / "outside"
    outside.mkdir()
    there = tmp_path / "there"
    there.symlink_to(outside)
    unpack(written(tmp_path / "a.tar", member("x"), content=b"y"), there, BOUNDS)

    assert list(outside.iterdir()) == []
    assert (there / "x").read_bytes() == b"y"
    assert not there.is_symlink()


@pytest.mark.parametrize("names", [("x", "x"), ("x", "x/y"), ("x/y", "x")], ids=" then ".join)
def test_a_name_that_comes_twice_is_refused(names: tuple[str, str], tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", *map(member, names), content=b"y")

    with pytest.raises(InvalidDocument, match="twice"):
        unpack(path, tmp_path / "there", BOUNDS)


def test_a_huge_member_is_refused_before_it_is_written(tmp_path: Path) -> None:
    huge = member("huge", size=1 << 40)
    (tmp_path / "a.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT))

    with pytest.raises(InvalidDocument, match="1048576 bytes"):
        unpack(tmp_path / "a.tar", tmp_path / "there", BOUNDS)
    assert list((tmp_path / "there").iterdir()) == []


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    members = [member(str(number)) for number in range(BOUNDS.files_max + 1)]

    with pytest.raises(InvalidDocument, match="50 files"):
        unpack(written(tmp_path / "a.tar", *members), tmp_path / "there", BOUNDS)


def test_no_privilege_comes_out_of_an_archive(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", member("x", mode=0o6777, uid=0, gid=0))
    unpack(path, tmp_path / "there", BOUNDS)

    assert (tmp_path / "there" / "x").stat().st_mode & 0o7777 == 0o777


@given(data=st.binary(max_size=3_000))
def test_any_bytes_are_refused_or_unpacked_inside(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("bytes")
    (base / "a.tar").write_bytes(data)
    with contextlib.suppress(InvalidDocument):
        unpack(base / "a.tar", base / "there", BOUNDS)
    assert {each.name for each in base.iterdir()} == {"a.tar", "there"}


@given(place=st.integers(0, 20_479), value=st.integers(0, 255))
def test_a_damaged_byte_is_refused_or_unpacked_inside(
    place: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("damaged")
    path = written(base / "a.tar", member("a/b"), member("c"), content=b"x" * 600)
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(InvalidDocument):
        unpack(path, base / "there", BOUNDS)
    assert {each.name for each in base.iterdir()} == {"a.tar", "there"}


def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", member("x"), content=b"y" * 5_000)
    os.truncate(path, 2_000)

    with pytest.raises(InvalidDocument, match="cannot be read"):
        unpack(path, tmp_path / "there", BOUNDS)


def test_the_digest_is_that_of_the_archive(root: Path, tmp_path: Path) -> None:
    (root / "x").write_text("y")
    packed = pack(root, tmp_path / "a.tar")

    assert packed.sha256 == sha256_of(packed.path)
    packed.close()
