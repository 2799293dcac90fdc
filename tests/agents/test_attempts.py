"""Attempts in a real cell: what becomes of a process stands in the journal and the streams."""

import hashlib
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dtest.agents.output import FILE_BYTES_MAX, HEAD_BYTES_MAX, TAIL_BYTES_MAX
from dtest.events.attempt import AttemptFinished
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.events.task import TaskCancelRequested
from dtest.events.worker import WorkerRegistered
from dtest.state.task import Status
from tests.agents.cell import RealCell
from tests.kit.agent import PYTHON, is_alive, marked
from tests.kit.nats import eventually

DEAF_TREE = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(3):
    if os.fork() == 0:
        if number == 2:
            os.setsid()
            os.fork()
        time.sleep(600)
print("up", flush=True)
time.sleep(600)
"""
PEAK = "x = bytearray(100_000_000); t = __import__('time')\nwhile t.process_time() < 0.4: pass"


@pytest.mark.parametrize(
    ("command", "status", "outcome", "reason", "code", "number"),
    [
        ("true", Status.PASSED, "passed", None, 0, None),
        ("exit 3", Status.FAILED, "failed", Reason.EXIT_NONZERO, 3, None),
        ("kill -ABRT $$", Status.ERRORED, "faulted", Reason.CRASH_SIGNAL, None, signal.SIGABRT),
        ("kill -TERM $$", Status.ERRORED, "faulted", Reason.CRASH_SIGNAL, None, signal.SIGTERM),
    ],
)
async def test_an_attempt_is_told_as_its_process_ended(
    cell: RealCell,
    command: str,
    status: Status,
    outcome: str,
    reason: Reason | None,
    code: int | None,
    number: int | None,
) -> None:
    before = datetime.now(UTC)
    task = await cell.submit(command)
    end = await cell.finished(task)

    assert (end.outcome, end.reason, end.exit_code, end.signal) == (outcome, reason, code, number)
    assert (await cell.terminal(task)).status is status
    assert before <= end.started_at <= end.finished_at <= datetime.now(UTC)
    assert len(cell.facts(AttemptFinished, task)) == 1


async def test_a_running_attempt_is_told_with_its_process(cell: RealCell) -> None:
    task = await cell.submit(["sleep", "600"])
    pid = await cell.running(task)

    assert marked(cell.directory) == [pid]
    await cell.say(TaskCancelRequested(TaskId(task)))
    await cell.terminal(task)


async def test_cancelling_ends_the_whole_tree(cell: RealCell) -> None:
    task = await cell.submit([PYTHON, "-c", DEAF_TREE], grace_seconds=0.2)
    await cell.prints(task, b"up")
    await eventually(lambda: len(marked(cell.directory)) == 5)
    await cell.say(TaskCancelRequested(TaskId(task)))
    end = await cell.finished(task)

    assert (end.outcome, end.reason) == ("cancelled", Reason.CANCELLED_USER)
    assert end.signal == signal.SIGKILL
    assert (await cell.terminal(task)).status is Status.CANCELLED
    assert marked(cell.directory) == []


async def test_the_wall_time_limit_ends_a_tree_that_ignores_it(cell: RealCell) -> None:
    task = await cell.submit([PYTHON, "-c", DEAF_TREE], timeout_seconds=0.7, grace_seconds=0.3)
    end = await cell.finished(task)

    assert (end.outcome, end.reason) == ("faulted", Reason.RUN_TIMEOUT)
    assert (end.exit_code, end.signal) == (None, signal.SIGKILL)
    assert 1.0 <= (end.finished_at - end.started_at).total_seconds() < 10
    assert marked(cell.directory) == []
    assert (await cell.terminal(task)).status is Status.ERRORED


async def test_a_process_may_use_its_grace_to_clean_up(cell: RealCell) -> None:
    script = "trap 'echo cleaned; exit 0' TERM; sleep 600 & wait"
    task = await cell.submit(script, timeout_seconds=0.3, grace_seconds=30.0)
    end = await cell.finished(task)

    assert (end.outcome, end.reason, end.exit_code) == ("faulted", Reason.RUN_TIMEOUT, 0)
    assert await cell.output(task) == b"cleaned\n"


async def test_silence_that_lasts_too_long_ends_an_attempt_and_output_does_not(
    cell: RealCell,
) -> None:
    talks = await cell.submit(
        "for n in 1 2 3 4 5 6; do echo $n; sleep 0.3; done", idle_timeout_seconds=1.2
    )
    silent = await cell.submit("echo up; exec sleep 600", idle_timeout_seconds=0.5)
    end = await cell.finished(silent)

    assert (end.outcome, end.reason) == ("faulted", Reason.IDLE_OUTPUT_TIMEOUT)
    assert (await cell.finished(talks)).outcome == "passed"


async def test_an_attempt_beyond_its_memory_is_killed(cell: RealCell) -> None:
    hog = "x = b'x' * 300_000_000; import time; time.sleep(600)"
    end = await cell.run([PYTHON, "-c", hog], memory_limit_gb=0.1)

    assert (end.outcome, end.reason, end.exit_code) == ("faulted", Reason.OOM_TASK, None)
    assert (end.memory_bytes_peak or 0) > 100_000_000


async def test_an_attempt_within_its_memory_is_not(cell: RealCell) -> None:
    end = await cell.run([PYTHON, "-c", PEAK], memory_limit_gb=1.0)

    assert end.outcome == "passed"


async def test_the_peak_of_memory_and_the_processor_time_are_plausible(cell: RealCell) -> None:
    end = await cell.run([PYTHON, "-c", PEAK])

    assert 100e6 <= (end.memory_bytes_peak or 0) <= 250e6
    assert 0.35 <= (end.cpu_s or 0) <= 3.0


async def test_processor_time_is_of_the_whole_tree(cell: RealCell) -> None:
    burn = f"{PYTHON} -c 'import time\nwhile time.process_time() < 0.3: pass'"
    end = await cell.run(f"{burn}; {burn}")

    assert 0.55 <= (end.cpu_s or 0) <= 4.0


# --- output -------------------------------------------------------------------------------------


async def test_output_is_stored_byte_for_byte(cell: RealCell) -> None:
    write = "import os; [os.write(1, bytes(range(256)) * 400) for _ in range(10)]"
    task = await cell.submit([PYTHON, "-c", write])
    end = await cell.finished(task)

    assert await cell.output(task) == bytes(range(256)) * 4_000
    assert (end.output_bytes, end.output_bytes_dropped) == (1_024_000, None)


async def test_errors_and_output_are_one_stream_in_order(cell: RealCell) -> None:
    task = await cell.submit("echo 1; echo 2 >&2; echo 3")
    await cell.finished(task)

    assert await cell.output(task) == b"1\n2\n3\n"


async def test_output_is_there_while_the_attempt_runs(cell: RealCell) -> None:
    task = await cell.submit("echo early; exec sleep 600")
    await cell.prints(task, b"early\n")
    assert cell.facts(AttemptFinished, task) == []

    await cell.say(TaskCancelRequested(TaskId(task)))
    await cell.terminal(task)


async def test_an_attempt_without_output_stores_none(cell: RealCell) -> None:
    task = await cell.submit("true")
    end = await cell.finished(task)

    assert (end.output_bytes, await cell.chunks(task)) == (0, {})


async def test_a_hundred_megabytes_of_output_are_bounded_and_counted(cell: RealCell) -> None:
    size = 100_000_000
    write = (
        "import os, sys, time\n"
        "for number in range(100):\n"
        "    os.write(1, (b'%015d\\n' % number) * 62_500)\n"
        "    time.sleep(0.01)\n"
        "time.sleep(0.6)\n"
        "os.write(1, b'the very end\\n')"
    )
    task = await cell.submit([PYTHON, "-c", write])
    await cell.running(task)
    largest = 0

    def ended() -> bool:
        nonlocal largest
        paths = (cell.directory / "state").glob("*/agents/w1/slots/*/output.log")
        largest = max([largest, *(path.stat().st_blocks * 512 for path in paths)])
        return cell.facts(AttemptFinished, task) != []

    await eventually(ended, within_s=30)
    end = cell.facts(AttemptFinished, task)[0]
    chunks = await cell.chunks(task)
    stored = await cell.output(task)

    assert end.output_bytes == size + 13
    assert end.output_bytes_dropped == size + 13 - HEAD_BYTES_MAX - TAIL_BYTES_MAX
    assert len(stored) == HEAD_BYTES_MAX + TAIL_BYTES_MAX
    assert stored.startswith(b"000000000000000\n" * 62_500 + b"000000000000001\n")
    assert stored.endswith(b"000000000000099\nthe very end\n")
    tail_at = min(offset for offset in chunks if offset >= HEAD_BYTES_MAX)
    assert tail_at == size + 13 - TAIL_BYTES_MAX
    assert largest < FILE_BYTES_MAX + 60_000_000
    agent = cell.directory / "state" / cell.id / "agents" / "w1"
    await eventually(lambda: sum(p.stat().st_size for p in agent.rglob("output.log")) < 3 << 20)


async def test_a_script_that_opens_standard_output_anew_does_not_hang_its_agent(
    cell: RealCell,
) -> None:
    task = await cell.submit("echo one; sleep 0.6; echo two > /dev/stdout; echo three")
    end = await cell.finished(task)

    assert end.outcome == "passed"
    assert b"three\n" in await cell.output(task)


# --- what a process finds -----------------------------------------------------------------------


async def test_a_process_finds_what_it_needs_and_none_of_the_agent_s_secrets(
    cell: RealCell,
) -> None:
    task = await cell.submit("env; pwd; ls -A; ls -d $DTEST_ARTIFACT_DIR $DTEST_CHECKPOINT_DIR")
    await cell.finished(task)
    lines = (await cell.output(task)).decode().splitlines()
    own = dict(line.split("=", 1) for line in lines if line.startswith("DTEST_"))
    slot = Path(own["DTEST_ARTIFACT_DIR"]).parent

    assert own == {
        "DTEST_TASK_ID": task,
        "DTEST_ATTEMPT": "1",
        "DTEST_HARDWARE": "cpu",
        "DTEST_ARTIFACT_DIR": str(slot / "artifacts"),
        "DTEST_CHECKPOINT_DIR": str(slot / "checkpoint"),
        "DTEST_ATTEMPT_KEY": f"{task}.1@{slot}",
    }
    assert not [line for line in lines if "for tests only" in line or "a token" in line]
    assert lines[-3:] == [str(slot / "work"), str(slot / "artifacts"), str(slot / "checkpoint")]
    assert slot.is_relative_to(cell.directory)


async def test_a_task_s_own_variables_and_directory_are_used(
    cell: RealCell, tmp_path: Path
) -> None:
    config = {"command": 'echo "$MODE"; pwd', "env": {"MODE": "a b"}, "cwd": str(tmp_path)}
    task = await cell.submit("", config=config)
    await cell.finished(task)

    assert await cell.output(task) == f"a b\n{tmp_path}\n".encode()


async def test_an_attempt_finds_nothing_of_the_one_before(cell: RealCell) -> None:
    leave = "touch a $DTEST_ARTIFACT_DIR/b $DTEST_CHECKPOINT_DIR/c ../d; echo printed"
    look = 'ls -A . .. "$DTEST_ARTIFACT_DIR" "$DTEST_CHECKPOINT_DIR" | grep -E "^[abcd]$"'
    for _ in range(4):  # it has four slots
        await cell.run(leave)
    for _ in range(4):
        task = await cell.submit(look)
        await cell.finished(task)
        assert await cell.output(task) == b""


async def test_artefacts_are_in_the_object_store_with_their_digest(cell: RealCell) -> None:
    make = (
        "import os, pathlib; root = pathlib.Path(os.environ['DTEST_ARTIFACT_DIR'])\n"
        "(root / 'deep').mkdir()\n"
        "(root / 'deep' / 'binary').write_bytes(bytes(range(256)) * 4_000)\n"
        "(root / 'é.txt').write_text('text')"
    )
    end = await cell.run([PYTHON, "-c", make])
    contents = {"deep/binary": bytes(range(256)) * 4_000, "é.txt": b"text"}

    assert {each.name for each in end.artifacts} == set(contents)
    for artifact in end.artifacts:
        content = await cell.artifacts.get(artifact.object_name)
        assert content == contents[artifact.name]
        assert artifact.sha256 == hashlib.sha256(content).hexdigest()
        assert artifact.size_bytes == len(content)


async def test_a_failed_attempt_s_artefacts_are_kept_too(cell: RealCell) -> None:
    end = await cell.run('echo core > "$DTEST_ARTIFACT_DIR"/core; exit 1')

    assert (end.outcome, [each.name for each in end.artifacts]) == ("failed", ["core"])


async def test_a_program_that_does_not_exist_is_the_fault_of_its_task(cell: RealCell) -> None:
    task = await cell.submit(["no-such-program"])
    first = await cell.wait(AttemptFinished, task)
    await cell.terminal(task)

    assert (first.outcome, first.reason) == ("faulted", Reason.MISSING_INPUT)
    assert "no-such-program" in first.detail
    assert first.attempt == 1, "nobody tries it again elsewhere"


async def test_many_short_attempts_each_end_once(cell: RealCell) -> None:
    tasks = [await cell.submit(["/bin/echo", str(number)]) for number in range(100)]
    for number, task in enumerate(tasks):
        assert (await cell.finished(task)).outcome == "passed"
        assert await cell.output(task) == b"%d\n" % number

    ends = [fact.task_id for fact in cell.facts(AttemptFinished) if fact.task_id in set(tasks)]
    assert sorted(ends) == sorted(tasks)


async def test_an_agent_says_what_it_has(cell: RealCell) -> None:
    (registered, *_) = cell.facts(WorkerRegistered, "w1")

    assert registered.capability.slots == 4
    assert "slots" in registered.capability.declared
    assert registered.capability.memory_gb > 0
    assert not registered.simulated
    assert is_alive(registered.pid or 0)
