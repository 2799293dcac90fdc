"""An attempt runs in a copy of its own; what it needs is fetched once, checked, and bounded."""

import asyncio
import errno
import os
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from dtest.agents.parts import Lost, PartCache
from dtest.agents.workspaces import WorkspaceCache, WorkspacePolicy, write_tree
from dtest.errors import NotFound, Unavailable
from dtest.events.attempt import AttemptFinished, AttemptReleased, AttemptStarted
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.workspaces.manifest import File, Link, manifest_of
from dtest.workspaces.pack import encode
from tests.agents.cell import RealCell
from tests.kit.agent import MemoryTrees, Workbench, end_all
from tests.kit.nats import eventually

NOW = 1_800_000_000.0
QUICK = WorkspacePolicy(fetch_again_s=0.01)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_text("one")
    (root / "sub" / "run").write_text("#!/bin/sh\necho ran in $(pwd); cat ../a\n")
    (root / "sub" / "run").chmod(0o755)
    (root / "link").symlink_to("a")
    return root


def cache_of(tmp_path: Path, trees: MemoryTrees, **policy: float) -> WorkspaceCache:
    return WorkspaceCache(
        tmp_path / "cache",
        trees,
        policy=replace(QUICK, **policy),  # type: ignore[arg-type]
        now=lambda: NOW,
    )


def content(root: Path) -> dict[str, str]:
    """What a tree holds."""
    return {
        str(path.relative_to(root)): (
            f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        )
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


# --- attempts -----------------------------------------------------------------------------------


async def test_a_command_runs_in_its_tree(bench: Workbench, project: Path) -> None:
    digest = bench.stores.workspaces.hold(project)
    async with bench.agent():
        end = await bench.run(["./run"], config={"workspace": digest, "cwd": "sub"})

    assert end.outcome == "passed"
    assert b"work/sub\none" in bench.stores.output()


async def test_a_tree_is_gone_after_its_attempt(bench: Workbench, project: Path) -> None:
    digest = bench.stores.workspaces.hold(project)
    async with bench.agent():
        await bench.run("pwd", config={"workspace": digest})
        place = Path(bench.stores.output().decode().strip())
        await eventually(lambda: not (place / "a").exists(), what="the tree is removed")
        end = await bench.run("ls -A", task="next")

    assert end.outcome == "passed"
    assert bench.stores.output("next.1") == b""


async def test_an_attempt_that_writes_changes_no_other_tree(
    bench: Workbench, project: Path
) -> None:
    digest = bench.stores.workspaces.hold(project)
    spoil = "test $(cat a) = one && echo spoilt > a && chmod 600 a && rm sub/run && sleep 600"
    async with bench.agent():
        bench.start(f"echo up; {spoil}", task="spoiler", config={"workspace": digest})
        await bench.prints(b"up", "spoiler.1")
        for name in ("second", "third"):
            end = await bench.run(
                "test $(cat a) = one && test -x sub/run && echo spoilt > a",
                task=name,
                config={"workspace": digest},
            )
            assert end.outcome == "passed", name
        bench.executor.stop(TaskId("spoiler"), 1, Reason.CANCELLED_USER)
        await bench.ended("spoiler")

    fetched = bench.stores.workspaces.fetched
    assert len(fetched) == len(set(fetched))


async def test_attempts_at_once_fetch_each_part_once(bench: Workbench, project: Path) -> None:
    trees = bench.stores.workspaces
    digest = trees.hold(project)
    trees.flowing.clear()
    async with bench.agent():
        for number in range(4):
            bench.start("cat a", task=f"t{number}", config={"workspace": digest})
        await eventually(lambda: bool(trees.fetched), what="one of them asks")
        trees.flowing.set()
        ends = [await bench.ended(f"t{number}") for number in range(4)]

    assert [end.outcome for end in ends] == ["passed"] * 4
    assert sorted(trees.fetched) == sorted(trees.parts)


async def test_a_tree_that_is_not_stored_is_a_missing_input(bench: Workbench) -> None:
    async with bench.agent():
        end = await bench.run("true", config={"workspace": "0" * 64})

    assert (end.outcome, end.reason) == ("faulted", Reason.MISSING_INPUT)
    assert "is not stored" in end.detail


async def test_a_directory_that_the_tree_lacks_is_a_missing_input(
    bench: Workbench, project: Path
) -> None:
    digest = bench.stores.workspaces.hold(project)
    async with bench.agent():
        end = await bench.run("true", config={"workspace": digest, "cwd": "elsewhere"})

    assert (end.outcome, end.reason) == ("faulted", Reason.MISSING_INPUT)
    assert "no directory elsewhere" in end.detail


@pytest.mark.parametrize("damage", ["gone", "wrong", "torn"])
async def test_a_part_that_cannot_be_had_is_a_fault_of_the_service(
    bench: Workbench, project: Path, damage: str
) -> None:
    trees = bench.stores.workspaces
    digest = trees.hold(project)
    broken = min(trees.parts)
    match damage:
        case "gone":
            del trees.parts[broken]
        case "wrong":
            trees.parts[broken] = encode(b"something else")
        case "torn":
            trees.parts[broken] = b"z" + trees.parts[broken]
    async with bench.agent():
        end = await bench.run("true", config={"workspace": digest})

    assert (end.outcome, end.reason) == ("faulted", Reason.ARTIFACT_DOWNLOAD)
    assert broken[:12] in end.detail
    assert trees.fetched.count(broken) == 3


async def test_a_store_that_is_away_is_a_fault_of_the_service(
    bench: Workbench, project: Path
) -> None:
    digest = bench.stores.workspaces.hold(project)
    bench.stores.workspaces.refusals = [Unavailable("no answer")]
    async with bench.agent():
        end = await bench.run("true", config={"workspace": digest})

    assert (end.outcome, end.reason) == ("faulted", Reason.ARTIFACT_DOWNLOAD)


async def test_a_full_disk_is_told_as_such(
    bench: Workbench, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = bench.stores.workspaces.hold(project)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PartCache, "add", full)
    async with bench.agent():
        end = await bench.run("true", config={"workspace": digest})

    assert (end.outcome, end.reason) == ("faulted", Reason.DISK_FULL)


async def test_an_attempt_is_stopped_while_its_tree_is_fetched(
    bench: Workbench, project: Path
) -> None:
    trees = bench.stores.workspaces
    digest = trees.hold(project)
    trees.flowing.clear()
    async with bench.agent():
        bench.start("true", config={"workspace": digest})
        started = await bench.wait(AttemptStarted)
        await eventually(lambda: bool(trees.fetched))
        bench.executor.stop(TaskId("t"), 1, Reason.CANCELLED_USER)
        end = await bench.ended()

    assert started.pid is None
    assert end.reason is Reason.CANCELLED_USER


async def test_a_drain_hands_back_what_is_being_fetched(bench: Workbench, project: Path) -> None:
    trees = bench.stores.workspaces
    digest = trees.hold(project)
    trees.flowing.clear()
    async with bench.agent():
        bench.start("true", config={"workspace": digest})
        await eventually(lambda: bool(trees.fetched))
        await bench.executor.drain(0.0)

        assert (await bench.wait(AttemptReleased)).attempt == 1


async def test_an_agent_that_dies_while_it_lays_out_a_tree_begins_again(
    bench: Workbench, project: Path
) -> None:
    trees = bench.stores.workspaces
    digest = trees.hold(project)
    trees.flowing.clear()
    async with bench.agent():
        bench.start("cat a link sub/run", config={"workspace": digest})
        await eventually(lambda: bool(trees.fetched))
    (slot,) = (bench.directory / "slots").iterdir()
    (slot / "work" / "half").write_text("written by the dead")
    (slot / "work" / "a").write_text("half")
    trees.flowing.set()
    async with bench.agent():
        end = await bench.ended()

    assert end.outcome == "passed"
    assert bench.stores.output().startswith(b"oneone#!/bin/sh")


async def test_an_agent_that_dies_while_the_attempt_runs_leaves_it_its_tree(
    bench: Workbench, project: Path
) -> None:
    digest = bench.stores.workspaces.hold(project)
    go = bench.directory / "go"
    wait = f"echo up; while ! test -e {go}; do sleep 0.02; done; cat a"
    async with bench.agent():
        bench.start(wait, config={"workspace": digest})
        await bench.prints(b"up")
    go.touch()
    async with bench.agent():
        end = await bench.wait(AttemptFinished)

    assert end.outcome == "passed"
    assert bench.stores.output() == b"up\none"


# --- the cache ----------------------------------------------------------------------------------


async def test_a_tree_is_laid_out_as_it_was(tmp_path: Path, project: Path) -> None:
    trees = MemoryTrees()
    digest = trees.hold(project)
    target = tmp_path / "target"
    target.mkdir()
    (target / "left").write_text("by somebody")
    await cache_of(tmp_path, trees).lay_out(digest, target)

    assert content(target) == content(project)
    assert os.access(target / "sub" / "run", os.X_OK)
    assert not os.access(target / "a", os.X_OK)


async def test_what_is_damaged_on_disk_is_fetched_again(tmp_path: Path, project: Path) -> None:
    trees = MemoryTrees()
    digest = trees.hold(project)
    cache = cache_of(tmp_path, trees)
    await cache.lay_out(digest, tmp_path / "first")
    for path in (tmp_path / "cache" / "parts").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    await cache.lay_out(digest, tmp_path / "second")

    assert content(tmp_path / "second") == content(project)


async def test_a_disk_that_keeps_nothing_right_is_a_fault(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = MemoryTrees()
    digest = trees.hold(project)

    def lost(_: PartCache, part: str) -> bytes:
        raise Lost(part)

    monkeypatch.setattr(PartCache, "read", lost)
    with pytest.raises(Unavailable, match="get lost on this worker's disk"):
        await cache_of(tmp_path, trees).lay_out(digest, tmp_path / "target")


async def test_a_fetch_that_takes_too_long_ends(tmp_path: Path, project: Path) -> None:
    trees = MemoryTrees()
    digest = trees.hold(project)
    trees.flowing.clear()

    with pytest.raises(Unavailable, match="was not fetched in"):
        await cache_of(tmp_path, trees, fetch_s_max=0.05).lay_out(digest, tmp_path / "target")


async def test_two_agents_of_a_machine_fetch_once(tmp_path: Path, project: Path) -> None:
    trees = MemoryTrees()
    digest = trees.hold(project)
    trees.flowing.clear()
    async with asyncio.TaskGroup() as group:
        for name in ("one", "other"):
            cache = cache_of(tmp_path, trees)
            group.create_task(cache.lay_out(digest, tmp_path / name))
        await eventually(lambda: bool(trees.fetched))
        trees.flowing.set()

    assert sorted(trees.fetched) == sorted(trees.parts)
    assert content(tmp_path / "one") == content(tmp_path / "other") == content(project)


async def test_the_cache_stays_within_its_bound(tmp_path: Path) -> None:
    trees = MemoryTrees()
    cache = cache_of(tmp_path, trees, cache_bytes_max=100_000)
    sizes = []
    for number in range(20):
        root = tmp_path / "project"
        root.mkdir(exist_ok=True)
        (root / "file").write_bytes(os.urandom(20_000))
        await cache.lay_out(trees.hold(root), tmp_path / f"target{number}")
        parts = (tmp_path / "cache" / "parts").iterdir()
        sizes.append(sum(path.stat().st_size for path in parts))

    assert max(sizes) <= 100_000
    assert max(sizes) > 60_000


async def test_a_tree_larger_than_the_cache_is_laid_out_all_the_same(tmp_path: Path) -> None:
    trees = MemoryTrees()
    root = tmp_path / "project"
    root.mkdir()
    for number in range(10):
        (root / f"file{number}").write_bytes(os.urandom(20_000))
    digest = trees.hold(root)
    await cache_of(tmp_path, trees, cache_bytes_max=50_000).lay_out(digest, tmp_path / "target")

    assert len(list((tmp_path / "target").iterdir())) == 10


def test_the_least_recently_used_goes_first_and_never_what_is_in_use(tmp_path: Path) -> None:
    cache = PartCache(tmp_path, bytes_max=100, now=lambda: NOW)
    for number, name in enumerate(["aa", "bb", "cc", "dd"]):
        cache.add(name, bytes(30))
        path = tmp_path / "parts" / name
        os.utime(path, (number, number))
    with cache.using(["aa"]):
        removed = cache.shrink()

    assert removed == 30
    assert [cache.has(name) for name in ("aa", "bb", "cc", "dd")] == [True, False, True, True]
    assert cache.shrink() == 0


def test_a_use_is_noted_where_the_last_one_is_long_ago(tmp_path: Path) -> None:
    cache = PartCache(tmp_path, bytes_max=100, now=lambda: NOW)
    name = sha256(b"x").hexdigest()
    cache.add(name, b"x")
    path = tmp_path / "parts" / name
    os.utime(path, (NOW - 300, NOW - 300))
    cache.read(name)
    assert path.stat().st_mtime == NOW - 300
    os.utime(path, (NOW - 3_000, NOW - 3_000))
    cache.read(name)
    assert path.stat().st_mtime != NOW - 3_000


async def test_what_the_dead_left_half_written_is_fetched_again(
    tmp_path: Path, project: Path
) -> None:
    for number in range(20):
        (project / f"more{number}").write_text(str(number))
    trees = MemoryTrees()
    digest = trees.hold(project)
    parts = tmp_path / "cache" / "parts"
    parts.mkdir(parents=True)
    for name in [*trees.parts, digest]:
        (parts / name).write_bytes(b"half")
    await cache_of(tmp_path, trees).lay_out(digest, tmp_path / "target")

    assert content(tmp_path / "target") == content(project)


async def test_a_manifest_that_would_write_outside_is_not_laid_out(tmp_path: Path) -> None:
    trees = MemoryTrees()
    hostile = b'{"dtest_workspace":1,"entries":[["l","a","/tmp"],["f","a/x",0,[]]]}'
    digest = sha256(hostile).hexdigest()
    trees.manifests[digest] = hostile

    with pytest.raises(NotFound, match="below 'a'"):
        await cache_of(tmp_path, trees).lay_out(digest, tmp_path / "target")


def test_links_are_made_last_and_lead_nothing_astray(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    manifest = manifest_of([Link("out", str(outside)), File("zz/file", 0, ())])
    target = tmp_path / "target"
    target.symlink_to(outside)
    write_tree(manifest, target, lambda _: b"", threading.Event())

    assert list(outside.iterdir()) == []
    assert not target.is_symlink()
    assert (target / "out").readlink() == outside


def test_a_layout_that_is_to_stop_stops(tmp_path: Path) -> None:
    stop = threading.Event()
    written: list[str] = []

    def read(digest: str) -> bytes:
        written.append(digest)
        stop.set()
        return b"x"

    files = [File(str(number), 1, (f"{number:064x}",)) for number in range(9)]
    write_tree(manifest_of(files), tmp_path / "target", read, stop)

    assert len(written) == 1


# --- real agents --------------------------------------------------------------------------------


async def test_an_agent_killed_while_it_lays_out_a_tree_does_it_again_whole(
    cell: RealCell, tmp_path: Path
) -> None:
    root = tmp_path / "large"
    root.mkdir()
    for number in range(1_500):
        (root / f"{number:04d}").write_text(f"file {number}\n")
    digest = await cell.ship(root)
    whole = sha256("".join(f"file {number}\n" for number in range(1_500)).encode()).hexdigest()
    own = cell.agent("layer", "--label", "only=layer")
    await own.start()
    try:
        config = {"command": "cat * | sha256sum; ls -A | wc -l", "workspace": digest}
        task = await cell.submit("", config=config, requirements=cell.only(own))
        await eventually(lambda: half_done(own.directory), what="the tree is half there")
        await own.kill()
        (left,) = (own.directory / "slots").iterdir()
        files_left = len(list((left / "work").iterdir()))
        await own.start()
        end = await cell.finished(task)
        await own.terminate()  # nobody watches this cell for workers that are gone
    finally:
        await own.end()
        end_all(own.directory)

    assert files_left > 0
    assert (end.outcome, end.attempt) == ("passed", 1)
    assert (await cell.output(task)).split() == [whole.encode(), b"-", b"1500"]


def half_done(directory: Path) -> bool:
    """Say whether some files of the tree are there."""
    trees = (slot / "work" for slot in (directory / "slots").iterdir())
    return any(found.name[0] == "0" for tree in trees if tree.is_dir() for found in tree.iterdir())
