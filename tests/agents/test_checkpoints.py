"""What an attempt leaves in its checkpoint directory is stored, and the next one finds it."""

import asyncio
import errno
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from dtest.errors import Unavailable
from dtest.events.attempt import (
    AttemptCheckpointed,
    AttemptCheckpointFailed,
    AttemptFinished,
    AttemptReleased,
    AttemptStarted,
    Checkpoint,
)
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from tests.kit import facts
from tests.kit.agent import PYTHON, Workbench, is_alive
from tests.kit.markdown import blocks_in
from tests.kit.nats import eventually

STEP = 'cd "$DTEST_CHECKPOINT_DIR"; echo {} > state.tmp; mv state.tmp state; echo wrote {};'
REST = "exec sleep 600"


def step(text: object) -> str:
    return STEP.format(text, text)


def content(bench: Workbench, name: str) -> dict[str, bytes | None]:
    """What a stored checkpoint holds."""
    with tarfile.open(fileobj=io.BytesIO(bench.stores.checkpoints.files[name])) as tar:
        found = ((member.name, tar.extractfile(member)) for member in tar)
        return {name: file.read() if file is not None else None for name, file in found}


async def taken(bench: Workbench, count: int = 1) -> AttemptCheckpointed:
    return await bench.wait(AttemptCheckpointed, count=count)


async def stored(bench: Workbench, text: str = "1") -> Checkpoint:
    """Have a first attempt leave a checkpoint."""
    bench.start(f"{step(text)} {REST}", task="first")
    told = await bench.wait(AttemptCheckpointed, "first")
    bench.executor.stop(TaskId("first"), 1, Reason.WORKER_LOST)
    await eventually(lambda: bench.executor.held() == ())
    where = (told.object_name, told.size_bytes, told.sha256, told.taken_at)
    return Checkpoint(told.attempt, told.number, *where)


def names_below(directory: Path) -> set[str]:
    """All names, also while some of them are being removed."""
    return {name for _, _, names in os.walk(directory) for name in names}


# --- while it runs ------------------------------------------------------------------------------


async def test_what_is_left_is_stored_while_the_process_runs(bench: Workbench) -> None:
    async with bench.agent():
        bench.start(f"{step('one')} mkdir -p d/e; echo deep > d/e/f; {REST}")
        told = await taken(bench)
        await eventually(
            lambda: (
                content(bench, f"t/1/{len(bench.stores.checkpoints.files)}").keys()
                == {"state", "d", "d/e", "d/e/f"}
            )
        )

    assert (told.attempt, told.number, told.worker_id) == (1, 1, "w")
    assert told.object_name == "t/1/1"
    assert told.size_bytes == len(bench.stores.checkpoints.files["t/1/1"])


async def test_each_change_is_stored_and_nothing_else(bench: Workbench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with bench.agent():
        bench.start(f"{step(1)} while ! [ -e {go} ]; do sleep 0.02; done; {step(2)} {REST}")
        first = await taken(bench)
        go.touch()
        second = await taken(bench, 2)

    assert [first.number, second.number] == [1, 2]
    assert content(bench, first.object_name) == {"state": b"1\n"}
    assert content(bench, second.object_name) == {"state": b"2\n"}
    assert sorted(bench.stores.checkpoints.files) == ["t/1/1", "t/1/2"]


async def test_who_replaces_its_state_all_the_time_is_stored_whole(bench: Workbench) -> None:
    line = "n=0; while :; do n=$((n+1)); echo $n $n > s.tmp; mv s.tmp s; done"
    async with bench.agent():
        bench.start(f'cd "$DTEST_CHECKPOINT_DIR"; {line}')
        await taken(bench, 3)

    for name in bench.stores.checkpoints.files:
        text = content(bench, name)["s"]
        assert text is not None
        first, second = text.split()
        assert first == second


async def test_a_file_that_is_being_written_to_is_waited_for_and_that_is_told(
    bench: Workbench, tmp_path: Path
) -> None:
    bench.checkpoints = replace(bench.checkpoints, torn_max=2)
    go = tmp_path / "go"
    grow = f"while ! [ -e {go} ]; do echo line >> log; sleep 0.01; done; echo end >> log"
    async with bench.agent():
        bench.start(f'cd "$DTEST_CHECKPOINT_DIR"; {grow}; {REST}')
        failed = await bench.wait(AttemptCheckpointFailed)
        assert bench.stores.checkpoints.files == {}
        go.touch()
        told = await taken(bench)

    assert "NAME.tmp" in failed.detail
    text = content(bench, told.object_name)["log"]
    assert text is not None
    assert text.endswith(b"end\n")


async def test_most_attempts_leave_nothing_and_nothing_is_said(bench: Workbench) -> None:
    async with bench.agent():
        await bench.run("sleep 0.3")
        await bench.run("exit 3", task="u")

    assert bench.stores.checkpoints.files == {}
    assert await bench.journal.facts(AttemptCheckpointed) == []
    assert await bench.journal.facts(AttemptCheckpointFailed) == []


async def test_an_emptied_directory_is_a_checkpoint_too(bench: Workbench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with bench.agent():
        bench.start(f"{step(1)} while ! [ -e {go} ]; do sleep 0.02; done; rm state; {REST}")
        await taken(bench)
        go.touch()
        second = await taken(bench, 2)

    assert content(bench, second.object_name) == {}


async def test_after_the_agent_s_death_checkpoints_go_on(bench: Workbench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with bench.agent():
        bench.start(f"{step(1)} while ! [ -e {go} ]; do sleep 0.02; done; {step(2)} {REST}")
        await taken(bench)
    async with bench.agent():
        await bench.wait(AttemptStarted)
        go.touch()
        second = await taken(bench, 2)

    assert (second.attempt, second.number) == (1, 2)
    assert content(bench, second.object_name) == {"state": b"2\n"}


async def test_a_checkpoint_that_was_stored_and_not_told_is_stored_again(bench: Workbench) -> None:
    bench.journal.flowing.clear()
    async with bench.agent():
        bench.start(f"{step(1)} {REST}")
        await eventually(lambda: "t/1/1" in bench.stores.checkpoints.files)
    bench.journal.flowing.set()
    async with bench.agent():
        told = await taken(bench)

    assert told.number == 2
    assert [fact.number for fact in await bench.journal.facts(AttemptCheckpointed)] == [2]


# --- at the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "outcome"), [("exit 3", "failed"), ("kill -SEGV $$", "faulted")], ids=["exit", "crash"]
)
async def test_the_last_state_is_stored_before_the_end_is_told(
    bench: Workbench, end: str, outcome: str
) -> None:
    bench.checkpoints = replace(bench.checkpoints, look_every_s=0.2)
    async with bench.agent():
        # A process that a signal ends has to have left its files alone for one look.
        finished = await bench.run(f"{step(1)} sleep 0.3; {end}")

    kinds = [event.data.TYPE for event in await bench.journal.events()]
    assert finished.outcome == outcome
    assert kinds.index("attempt.checkpointed") < kinds.index("attempt.finished")


async def test_the_state_of_the_last_moment_counts_if_the_process_ended_itself(
    bench: Workbench,
) -> None:
    bench.checkpoints = replace(bench.checkpoints, look_every_s=60.0)
    async with bench.agent():
        await bench.run(f"{step('last words')} exit 3")
        told = await taken(bench)

    assert content(bench, told.object_name) == {"state": b"last words\n"}


async def test_what_a_killed_process_may_have_been_writing_does_not_count(
    bench: Workbench,
) -> None:
    bench.checkpoints = replace(bench.checkpoints, look_every_s=60.0)
    async with bench.agent():
        await bench.run('echo half > "$DTEST_CHECKPOINT_DIR/state"; kill -KILL $$')

    assert bench.stores.checkpoints.files == {}


async def test_nothing_is_stored_of_what_passed_or_was_cancelled(bench: Workbench) -> None:
    bench.checkpoints = replace(bench.checkpoints, look_every_s=60.0)
    async with bench.agent():
        assert (await bench.run(step(1))).outcome == "passed"
        bench.start(f"trap 'exit 0' TERM; {step(1)} while :; do sleep 0.02; done", task="u")
        await bench.prints(b"wrote", "u.1")
        bench.executor.stop(TaskId("u"), 1, Reason.CANCELLED_USER)
        assert (await bench.ended("u")).outcome == "cancelled"

    assert bench.stores.checkpoints.files == {}


async def test_at_a_drain_what_the_process_saved_when_told_is_stored_before_it_is_released(
    bench: Workbench,
) -> None:
    bench.checkpoints = replace(bench.checkpoints, look_every_s=60.0)
    save = f"trap '{step('told')} exit 0' TERM"
    async with bench.agent():
        bench.start(f"{save}; echo up; while :; do sleep 0.02; done")
        await bench.prints(b"up")
        await bench.executor.drain(0.0)
        await bench.wait(AttemptReleased)

    kinds = [event.data.TYPE for event in await bench.journal.events()]
    assert kinds.index("attempt.checkpointed") < kinds.index("attempt.released")
    assert content(bench, "t/1/1") == {"state": b"told\n"}


async def test_a_last_checkpoint_that_takes_too_long_does_not_hold_up_the_end(
    bench: Workbench,
) -> None:
    bench.checkpoints = replace(bench.checkpoints, look_every_s=60.0, last_s_max=0.2)
    bench.stores.checkpoints.flowing.clear()
    async with bench.agent():
        finished = await bench.run(f"{step(1)} exit 3")

    (failed,) = await bench.journal.facts(AttemptCheckpointFailed)
    assert finished.outcome == "failed"
    assert "within 0.2 s" in failed.detail


# --- when it cannot be stored -------------------------------------------------------------------


async def test_an_attempt_goes_on_though_its_checkpoint_finds_no_room(bench: Workbench) -> None:
    full = "cannot store t/1/1: there is no room for more checkpoints"
    bench.stores.checkpoints.put_refusals = [Unavailable(full), Unavailable(full)]
    async with bench.agent():
        bench.start(f"{step(1)} while ! [ -e {bench.directory}/go ]; do sleep 0.02; done")
        told = await taken(bench)
        (bench.directory / "go").touch()
        assert (await bench.ended()).outcome == "passed"

    assert told.number == 3
    (failed,) = await bench.journal.facts(AttemptCheckpointFailed)  # once, though it failed twice
    assert full in failed.detail


async def test_a_full_disk_is_told_and_does_not_end_the_attempt(bench: Workbench) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    bench.stores.checkpoints.put_refusals = [full]
    async with bench.agent():
        bench.start(f"{step(1)} while ! [ -e {bench.directory}/go ]; do sleep 0.02; done")
        await taken(bench)
        (bench.directory / "go").touch()
        assert (await bench.ended()).outcome == "passed"

    (failed,) = await bench.journal.facts(AttemptCheckpointFailed)
    assert "No space left on device" in failed.detail


async def test_a_link_is_refused_by_name(bench: Workbench) -> None:
    async with bench.agent():
        bench.start(f'ln -s /etc "$DTEST_CHECKPOINT_DIR/all"; {REST}')
        failed = await bench.wait(AttemptCheckpointFailed)

    assert "'all' is neither a file nor a directory" in failed.detail
    assert bench.stores.checkpoints.files == {}


async def test_too_much_is_refused_with_the_limit(bench: Workbench) -> None:
    bench.checkpoints = replace(
        bench.checkpoints, bounds=replace(bench.checkpoints.bounds, bytes_max=1000)
    )
    async with bench.agent():
        bench.start(f'head -c 2000 /dev/zero > "$DTEST_CHECKPOINT_DIR/big"; {REST}')
        failed = await bench.wait(AttemptCheckpointFailed)

    assert "2000 bytes; at most 1000" in failed.detail


async def test_a_directory_that_the_attempt_removed_is_no_checkpoint(bench: Workbench) -> None:
    async with bench.agent():
        end = await bench.run('rm -r "$DTEST_CHECKPOINT_DIR"; sleep 0.3; exit 3')

    assert (end.outcome, end.exit_code) == ("failed", 3)
    assert bench.stores.checkpoints.files == {}


# --- what it goes on from -----------------------------------------------------------------------


async def test_the_next_attempt_finds_what_was_stored(bench: Workbench) -> None:
    async with bench.agent():
        given = await stored(bench, "seven")
        end = await bench.run('cat "$DTEST_CHECKPOINT_DIR/state"', attempt=2, checkpoint=given)

    assert end.outcome == "passed"
    assert bench.stores.output("t.2") == b"seven\n"
    await eventually(lambda: "checkpoint.tar" not in names_below(bench.directory))


async def test_the_documented_program_goes_on_where_it_stood(bench: Workbench) -> None:
    (example,) = blocks_in("tasks.md", "python")
    rest = "time.sleep(0.01 if os.environ['DTEST_ATTEMPT'] == '1' else 0)"
    slow = example.replace("done += 1", f"done += 1; print(done, flush=True); {rest}")
    slow = slow.replace("import os", "import os, time")
    async with bench.agent():
        bench.start([PYTHON, "-c", slow])
        told = await taken(bench)
        bench.executor.stop(TaskId("t"), 1, Reason.WORKER_LOST)
        where = (told.object_name, told.size_bytes, told.sha256, told.taken_at)
        given = Checkpoint(told.attempt, told.number, *where)
        end = await bench.run([PYTHON, "-c", slow], task="u", attempt=2, checkpoint=given)

    text = content(bench, told.object_name)["state"]
    assert text is not None
    assert end.outcome == "passed"
    numbers = [int(line) for line in bench.stores.output("u.2").split()]
    assert numbers == list(range(int(text) + 1, 1001))


async def test_what_was_found_is_not_stored_again(bench: Workbench) -> None:
    async with bench.agent():
        given = await stored(bench)
        await bench.run("sleep 0.4; exit 3", attempt=2, checkpoint=given)

    assert list(bench.stores.checkpoints.files) == ["first/1/1"]


async def test_it_is_accepted_before_it_is_fetched_and_starts_after(bench: Workbench) -> None:
    async with bench.agent():
        given = await stored(bench)
        bench.stores.checkpoints.flowing.clear()
        bench.start(f"echo up; {REST}", attempt=2, checkpoint=given)
        accepted = await bench.wait(AttemptStarted)
        assert accepted.pid is None
        assert "t.2" not in bench.stores.chunks
        bench.stores.checkpoints.flowing.set()
        runs = await bench.wait(AttemptStarted, count=2)

    assert runs.pid is not None
    assert is_alive(runs.pid)


async def test_a_store_that_is_away_is_asked_again(bench: Workbench) -> None:
    async with bench.agent():
        given = await stored(bench)
        bench.stores.checkpoints.fetch_refusals = [Unavailable("away"), Unavailable("away")]
        end = await bench.run('cat "$DTEST_CHECKPOINT_DIR/state"', attempt=2, checkpoint=given)

    assert end.outcome == "passed"
    assert bench.stores.output("t.2") == b"1\n"


async def test_a_store_that_stays_away_is_a_fault_of_the_service(bench: Workbench) -> None:
    bench.checkpoints = replace(bench.checkpoints, fetch_s_max=0.2)
    async with bench.agent():
        given = await stored(bench)
        bench.stores.checkpoints.flowing.clear()
        end = await bench.run("echo never", attempt=2, checkpoint=given)

    assert (end.outcome, end.reason) == ("faulted", Reason.ARTIFACT_DOWNLOAD)
    assert "checkpoint 1 of attempt 1" in end.detail
    assert "t.2" not in bench.stores.chunks


@pytest.mark.parametrize("damage", ["another", "cut", "gone"])
async def test_a_damaged_checkpoint_is_named_and_nothing_runs(
    bench: Workbench, damage: str
) -> None:
    async with bench.agent():
        given = await stored(bench)
        files, name = bench.stores.checkpoints.files, given.object_name
        if damage == "gone":
            del files[name]
        else:
            files[name] = files[name][:-1] if damage == "cut" else b"x" + files[name][1:]
        end = await bench.run("echo never", attempt=2, checkpoint=given)

    assert (end.outcome, end.reason) == ("faulted", Reason.CHECKPOINT_DAMAGED)
    assert end.detail.startswith("checkpoint 1 of attempt 1 is damaged: ")
    assert "t.2" not in bench.stores.chunks
    assert bench.stores.checkpoints.fetches == (1 if damage == "gone" else 3)


async def test_a_hostile_archive_of_the_right_digest_is_refused(bench: Workbench) -> None:
    link = tarfile.TarInfo("out")
    link.type, link.linkname = tarfile.SYMTYPE, "/"
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        tar.addfile(link)
    path = bench.directory / "hostile.tar"
    path.write_bytes(body.getvalue())
    bench.stores.checkpoints.files["t/1/1"] = body.getvalue()
    digest = facts.sha256(body.getvalue())
    given = Checkpoint(1, 1, "t/1/1", 10_240, digest, facts.instant(facts.START))
    async with bench.agent():
        end = await bench.run("echo never", attempt=2, checkpoint=given)

    assert end.reason is Reason.CHECKPOINT_DAMAGED
    assert "'out'" in end.detail


@pytest.mark.parametrize("reason", [Reason.CANCELLED_USER, Reason.WORKER_SHUTDOWN])
async def test_an_attempt_can_be_stopped_while_it_waits_for_its_checkpoint(
    bench: Workbench, reason: Reason
) -> None:
    async with bench.agent():
        given = await stored(bench)
        bench.stores.checkpoints.flowing.clear()
        bench.start("echo never", attempt=2, checkpoint=given)
        await bench.wait(AttemptStarted)
        bench.executor.stop(TaskId("t"), 2, reason)
        if reason is Reason.CANCELLED_USER:
            assert (await bench.ended()).outcome == "cancelled"
        else:
            await bench.wait(AttemptReleased)

    assert "t.2" not in bench.stores.chunks


async def test_an_agent_that_dies_while_it_fetches_fetches_again(bench: Workbench) -> None:
    async with bench.agent():
        given = await stored(bench)
        bench.stores.checkpoints.flowing.clear()
        bench.start('cat "$DTEST_CHECKPOINT_DIR/state"', attempt=2, checkpoint=given)
        await bench.wait(AttemptStarted)
    bench.stores.checkpoints.flowing.set()
    async with bench.agent():
        assert (await bench.ended()).outcome == "passed"

    assert bench.stores.output("t.2") == b"1\n"
    assert len(await bench.journal.facts(AttemptFinished)) == 1


async def test_many_attempts_do_not_wait_for_each_other_s_checkpoints(bench: Workbench) -> None:
    async with bench.agent():
        given = await stored(bench)
        bench.stores.checkpoints.flowing.clear()
        bench.start("echo later", attempt=2, checkpoint=given)
        async with asyncio.timeout(20):
            assert (await bench.run("echo now", task="u")).outcome == "passed"
        bench.stores.checkpoints.flowing.set()
        assert (await bench.ended()).outcome == "passed"
