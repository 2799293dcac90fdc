"""The executor of real processes on a workbench: limits, launches, deaths of agent and keeper."""

import asyncio
import hashlib
import os
import signal
from pathlib import Path

import pytest

from dtest.agents import artifacts as artifacts_module
from dtest.agents import processes as module
from dtest.agents.artifacts import store_artifacts
from dtest.agents.processes import inherited_environment
from dtest.agents.spool import Slot, Spool
from dtest.errors import DtestError, Unavailable
from dtest.events import codec
from dtest.events.attempt import (
    AttemptAssigned,
    AttemptFinished,
    AttemptRefused,
    AttemptReleased,
    AttemptStarted,
)
from dtest.events.envelope import Event, Malformed
from dtest.events.fields import EventId, TaskId
from dtest.events.reasons import Reason
from dtest.events.worker import HeldAttempt
from tests.kit import facts
from tests.kit.agent import (
    PYTHON,
    WORKER,
    Keeping,
    Workbench,
    is_alive,
    keepers,
    marked,
)
from tests.kit.nats import eventually

DEAF = "trap '' TERM; echo up; while :; do sleep 60; done"
WAITS = "echo up; while ! [ -e {go} ]; do sleep 0.02; done; echo down"


def assigned(task: str = "t", attempt: int = 1, **more: object) -> AttemptAssigned:
    return AttemptAssigned(
        TaskId(task), attempt, WORKER, "i1", "cpu", "command", config={"command": ["true"], **more}
    )


def waiting_for(path: Path) -> str:
    return WAITS.format(go=path)


# --- launches -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "config", "reason", "said"),
    [
        ("command", {"command": ["no-such-program"]}, Reason.MISSING_INPUT, "no-such-program"),
        ("command", {"command": ["true"], "cwd": "/no/such"}, Reason.LAUNCH_FAILED, "/no/such"),
        ("command", {"command": ["echo", "a\0b"]}, Reason.MALFORMED_PAYLOAD, "null byte"),
        ("command", {"command": ["/dev/null"]}, Reason.MISSING_INPUT, "/dev/null"),
        ("command", {"command": []}, Reason.MALFORMED_PAYLOAD, "at least 1 item"),
        ("command", {"command": "true", "env": {"A": 1}}, Reason.MALFORMED_PAYLOAD, "env.A"),
        ("test", {"paths": ["."]}, Reason.MALFORMED_PAYLOAD, "cwd"),
        ("quantum", {}, Reason.LAUNCH_FAILED, "quantum"),
    ],
)
async def test_what_cannot_be_launched_is_a_fault_that_says_whose(
    bench: Workbench, kind: str, config: dict[str, object], reason: Reason, said: str
) -> None:
    async with bench.agent():
        attempt = AttemptAssigned(TaskId("t"), 1, WORKER, "i1", "cpu", kind, config=config)
        bench.executor.start(attempt)
        end = await bench.ended()

        assert (end.outcome, end.reason) == ("faulted", reason)
        assert said in end.detail
        assert (end.exit_code, end.signal) == (None, None)


async def test_the_output_of_the_attempt_before_is_not_this_ones(bench: Workbench) -> None:
    async with bench.agent():
        await bench.run("echo secret")
        await eventually(lambda: bench.executor.held() == ())
        await bench.run([], task="u")  # it gets the same slot and never reaches the keeper
        await bench.run("true", task="v")

        assert bench.stores.output() == b"secret\n"
        assert {"u.1", "v.1"}.isdisjoint(bench.stores.chunks)


async def test_a_disk_that_is_full_refuses_the_attempt(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.agent():

        def full(_: Slot, __: AttemptAssigned) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Slot, "take", full)
        bench.start("true")
        refused = await bench.wait(AttemptRefused)

        assert "No space left" in refused.detail
        assert bench.executor.held() == ()


async def test_an_attempt_in_hand_is_started_once(bench: Workbench) -> None:
    async with bench.agent():
        bench.start("echo x", config={})
        bench.start("echo x")
        await bench.ended()
        await eventually(lambda: bench.executor.held() == ())

        assert bench.stores.output() == b"x\n"
        assert len(await bench.journal.facts(AttemptFinished)) == 1


# --- limits -------------------------------------------------------------------------------------


async def test_a_broker_that_is_away_holds_up_no_limit(bench: Workbench) -> None:
    bench.stores.flowing.clear()
    async with bench.agent():
        bench.start("echo up; exec sleep 60", timeout_seconds=0.3)
        started = await bench.wait(AttemptStarted)
        await eventually(lambda: not is_alive(started.pid or 0))
        bench.stores.flowing.set()
        end = await bench.ended()

        assert end.reason is Reason.RUN_TIMEOUT
        assert bench.stores.output() == b"up\n"


async def test_a_broker_that_is_away_fills_no_disk(bench: Workbench) -> None:
    """The middle of the output is given back although the head was not sent yet."""
    bench.stores.flowing.clear()
    async with bench.agent():
        go = bench.directory / "go"
        write = f"head -c 90000000 /dev/zero; {waiting_for(go)}"
        bench.start(write)
        output = bench.directory / "slots" / "0000" / "output.log"
        await eventually(lambda: output.exists() and output.stat().st_size > 90_000_000)
        await eventually(lambda: output.stat().st_blocks * 512 < 20 << 20)
        go.touch()
        bench.stores.flowing.set()
        end = await bench.ended()

        size = 90_000_000 + len("up\ndown\n")
        assert end.output_bytes == size
        assert end.output_bytes_dropped == size - (9 << 20)
        assert bench.stores.output().endswith(b"\0up\ndown\n")
        await eventually(lambda: not output.exists())


async def test_the_peak_is_of_the_whole_tree(bench: Workbench) -> None:
    hold = "x = bytearray(60_000_000); import time; time.sleep(600)"
    three = f"for _ in range(3): subprocess.Popen([sys.executable, '-c', {hold!r}])"
    code = f"import subprocess, sys, time\n{three}\ntime.sleep(600)"
    async with bench.agent():
        bench.start([PYTHON, "-c", code], memory_limit_gb=0.15)
        end = await bench.ended()

        assert (end.outcome, end.reason) == ("faulted", Reason.OOM_TASK)
        assert (end.memory_bytes_peak or 0) > 150e6
        assert marked(bench.directory) == []


async def test_a_stop_after_the_end_does_not_change_how_it_ended(bench: Workbench) -> None:
    bench.stores.flowing.clear()
    async with bench.agent():
        bench.start("echo x")
        await eventually(lambda: marked(bench.directory) == [] and "0000" in bench.slots())
        await eventually((bench.directory / "slots" / "0000" / "exit.json").exists)
        await eventually(lambda: bench.executor.held() != ())
        await asyncio.sleep(0)
        bench.executor.stop(TaskId("t"), 1, Reason.CANCELLED_USER)
        bench.stores.flowing.set()
        end = await bench.ended()

        assert end.exit_code == 0


async def test_an_attempt_given_to_somebody_else_is_ended_and_not_reported(
    bench: Workbench,
) -> None:
    async with bench.agent():
        bench.start("echo up; sleep 600")
        await bench.prints(b"up")
        bench.executor.stop(TaskId("t"), 1, Reason.WORKER_LOST)
        await eventually(lambda: bench.executor.held() == ())

        assert await bench.journal.facts(AttemptFinished) == []
        assert marked(bench.directory) == []


async def test_an_attempt_stopped_before_it_was_launched_never_runs(bench: Workbench) -> None:
    async with bench.agent():
        bench.start("echo x")
        bench.executor.stop(TaskId("t"), 1, Reason.CANCELLED_USER)
        end = await bench.ended()

        assert (end.outcome, end.reason) == ("cancelled", Reason.CANCELLED_USER)
        assert bench.stores.output() == b""


# --- the agent dies -----------------------------------------------------------------------------


async def test_an_agent_that_dies_at_any_line_takes_up_the_same_process_again(
    bench: Workbench,
) -> None:
    script = bench.directory / "lines.py"
    script.write_text(
        "import sys, pathlib\n"
        "for number in range(12):\n"
        "    print('line', number, flush=True)\n"
        f"    go = pathlib.Path({str(bench.directory)!r}, f'go{{number}}')\n"
        "    while not go.exists(): __import__('time').sleep(0.005)\n"
    )
    pids: set[int | None] = set()
    async with bench.agent():
        bench.start([PYTHON, str(script)])
    for number in range(12):
        async with bench.agent():
            await bench.prints(b"line %d\n" % number)
            pids.add((await bench.wait(AttemptStarted)).pid)
            assert bench.executor.held() == (HeldAttempt(TaskId("t"), 1),)
        (bench.directory / f"go{number}").touch()
    async with bench.agent():
        end = await bench.ended()

        assert (end.outcome, end.output_bytes) == ("passed", 12 * 7 + 2)
        assert bench.stores.output() == b"".join(b"line %d\n" % n for n in range(12))
        assert len(pids) == 1
        await eventually(lambda: bench.slots() == [])


async def test_output_whose_acknowledgement_was_lost_is_not_lost(bench: Workbench) -> None:
    """The stream knows a chunk by its offset: a longer one at the same place would be dropped."""
    go = bench.directory / "go"
    bench.stores.flowing.clear()
    async with bench.agent():
        bench.start(waiting_for(go))
        note = bench.directory / "slots" / "0000" / "output.json"
        await eventually(note.exists)
    bench.stores.chunks = {"t.1": {0: b"up\n"}}
    bench.stores.flowing.set()
    go.touch()
    async with bench.agent():
        await bench.ended()

    assert bench.stores.output() == b"up\ndown\n"


async def test_an_end_during_the_agent_s_absence_is_reported(bench: Workbench) -> None:
    go = bench.directory / "go"
    async with bench.agent():
        bench.start(f"{waiting_for(go)}; exit 7")
        await bench.prints(b"up")
    go.touch()
    await eventually((bench.directory / "slots" / "0000" / "exit.json").exists)
    async with bench.agent():
        end = await bench.ended()

    assert (end.outcome, end.exit_code) == ("failed", 7)
    assert bench.stores.output() == b"up\ndown\n"


async def test_a_result_that_was_not_sent_is_sent_by_the_next_agent(bench: Workbench) -> None:
    bench.journal.flowing.clear()
    async with bench.agent():
        bench.start("echo x")
        await eventually(lambda: bench.stores.output() == b"x\n")
        await eventually(lambda: bench.journal.attempts > 0)
    bench.journal.flowing.set()
    async with bench.agent():
        assert bench.executor.held() == (HeldAttempt(TaskId("t"), 1),)
        await bench.ended()
        await eventually(lambda: bench.executor.held() == ())

    assert len(await bench.journal.facts(AttemptFinished)) == 1
    assert bench.stores.output() == b"x\n"


async def test_an_accepted_attempt_that_was_not_started_is_started(bench: Workbench) -> None:
    Spool(bench.directory).take(assigned())
    async with bench.agent():
        end = await bench.ended()

    assert end.outcome == "passed"


async def test_an_assignment_read_again_before_the_keeper_is_reached_is_taken_once(
    bench: Workbench,
) -> None:
    """Killed between taking it and saving the position."""
    Spool(bench.directory).take(assigned(command="echo x"))
    async with bench.agent():
        bench.start("echo x")
        await bench.ended()
        await eventually(lambda: bench.executor.held() == ())

        assert bench.stores.output() == b"x\n"
        assert len(await bench.journal.facts(AttemptFinished)) == 1


async def test_a_stop_that_is_read_before_the_keeper_is_reached_is_not_lost(
    bench: Workbench,
) -> None:
    async with bench.agent():
        bench.start("echo up; sleep 600")
        await bench.prints(b"up")
    async with bench.agent():
        bench.executor.stop(TaskId("t"), 1, Reason.CANCELLED_USER)
        end = await bench.ended()

    assert (end.outcome, end.reason) == ("cancelled", Reason.CANCELLED_USER)
    assert marked(bench.directory) == []


async def test_why_an_attempt_was_stopped_outlives_the_agent(bench: Workbench) -> None:
    notices = "trap 'echo noticed' TERM; while :; do sleep 0.05; done"
    async with bench.agent():
        bench.start(notices, grace_seconds=0.8, timeout_seconds=0.3)
        started = await bench.wait(AttemptStarted)
        await bench.prints(b"noticed")
    await eventually(lambda: not is_alive(started.pid or 0))
    async with bench.agent():
        end = await bench.ended()

    assert (end.outcome, end.reason, end.signal) == ("faulted", Reason.RUN_TIMEOUT, signal.SIGKILL)


async def test_limits_count_from_the_start_across_a_restart(bench: Workbench) -> None:
    async with bench.agent():
        bench.start("echo up; sleep 600", timeout_seconds=1.0)
        await bench.prints(b"up")
    async with bench.agent():
        end = await bench.ended()

    assert end.reason is Reason.RUN_TIMEOUT
    assert 1.0 <= (end.finished_at - end.started_at).total_seconds() < 10


async def test_a_process_that_nobody_waits_for_is_ended(bench: Workbench) -> None:
    async with bench.agent():
        bench.start(["sleep", "600"], "a")
        bench.start(["sleep", "600"], "b")
        await bench.wait(AttemptStarted, "a")
        await bench.wait(AttemptStarted, "b")
    Slot(bench.directory / "slots" / "0000").clear()
    async with bench.agent():
        await eventually(lambda: len(marked(bench.directory)) == 1)
        assert bench.executor.held() == (HeldAttempt(TaskId("b"), 1),)


async def test_an_agent_that_fails_leaves_its_keeper_alone(bench: Workbench) -> None:
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with bench.agent():
            bench.start("echo up; sleep 600")
            await bench.prints(b"up")
            _ = 1 // 0
    pid = bench.keeper_pid()
    async with bench.agent():
        await bench.wait(AttemptStarted, count=2)

        assert bench.keeper_pid() == pid


# --- the keeper dies ----------------------------------------------------------------------------


async def test_when_the_keeper_dies_its_attempts_are_faulted_and_their_trees_removed(
    bench: Workbench,
) -> None:
    escape = "if os.fork() == 0:\n os.setsid()\n if os.fork(): os._exit(0)\ntime.sleep(600)"
    async with bench.agent():
        bench.start([PYTHON, "-c", f"import os, time\n{escape}"])
        bench.start(DEAF, "u")
        await bench.prints(b"up", "u.1")
        await eventually(lambda: len(marked(bench.directory)) >= 4)
        first = bench.keeper_pid()
        os.kill(first, signal.SIGKILL)
        for task in ("t", "u"):
            end = await bench.ended(task)
            assert (end.outcome, end.reason) == ("faulted", Reason.AGENT_CRASH)
            assert "keeper" in end.detail
        assert marked(bench.directory) == []
        await bench.run("echo on", task="v")

        assert bench.keeper_pid() != first
        assert bench.stores.output("v.1") == b"on\n"


async def test_attempts_that_arrive_while_the_keeper_is_replaced_all_end(
    bench: Workbench,
) -> None:
    async with bench.agent():
        await bench.run("true")
        first = bench.keeper_pid()
        os.kill(first, signal.SIGKILL)
        count = 0

        def replaced() -> bool:
            nonlocal count
            bench.start("true", f"t{count}")
            count += 1
            return keepers(bench.directory) not in ([], [first])

        await eventually(replaced)
        ends = [await bench.ended(f"t{number}") for number in range(count)]

        assert {end.outcome for end in ends} <= {"passed", "faulted"}
        assert ends[-1].outcome == "passed"


async def test_when_agent_and_keeper_died_trees_are_removed_at_the_next_start(
    bench: Workbench,
) -> None:
    async with bench.agent():
        bench.start(DEAF)
        await bench.prints(b"up")
    os.kill(bench.keeper_pid(), signal.SIGKILL)
    assert marked(bench.directory) != []
    async with bench.agent():
        end = await bench.ended()

        assert (end.outcome, end.reason) == ("faulted", Reason.AGENT_CRASH)
        assert marked(bench.directory) == []


async def test_an_end_that_the_dead_keeper_had_noted_counts(bench: Workbench) -> None:
    go = bench.directory / "go"
    async with bench.agent():
        bench.start(f"{waiting_for(go)}; exit 7")
        await bench.prints(b"up")
    go.touch()
    await eventually((bench.directory / "slots" / "0000" / "exit.json").exists)
    os.kill(bench.keeper_pid(), signal.SIGKILL)
    async with bench.agent():
        assert (await bench.ended()).exit_code == 7


async def test_a_line_to_the_keeper_that_is_taken_over_is_taken_back(bench: Workbench) -> None:
    async with bench.agent():
        bench.start("echo up; sleep 600")
        await bench.prints(b"up")
        intruder = Keeping(bench.directory)
        await intruder.connect()
        async with asyncio.timeout(10):
            await intruder.client.listen()  # until the agent takes it back
        end = await bench.run("true", task="u")
        assert end.outcome == "passed"
        bench.executor.stop(TaskId("t"), 1, Reason.CANCELLED_USER)

        assert (await bench.ended()).outcome == "cancelled"


# --- drains -------------------------------------------------------------------------------------


async def test_a_drain_lets_attempts_end_and_ends_the_keeper(bench: Workbench) -> None:
    async with bench.agent():
        bench.start("echo up; sleep 0.3")
        await bench.prints(b"up")
        await bench.executor.drain(20.0)
        end = await bench.ended()
        await eventually(lambda: keepers(bench.directory) == [])

    assert end.outcome == "passed"
    assert await bench.journal.facts(AttemptReleased) == []


async def test_a_drain_hands_back_what_does_not_end(bench: Workbench) -> None:
    async with bench.agent():
        bench.start(DEAF, grace_seconds=0.2)
        await bench.prints(b"up")
        await bench.executor.drain(0.1)
        await bench.wait(AttemptReleased)

        assert await bench.journal.facts(AttemptFinished) == []
        assert marked(bench.directory) == []
        await eventually(lambda: bench.executor.held() == ())
        await eventually(lambda: keepers(bench.directory) == [])


async def test_a_drain_does_not_wait_for_ever_for_a_broker(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HAND_BACK_S_MAX", 0.2)
    bench.stores.flowing.clear()
    async with bench.agent():
        bench.start("echo x", grace_seconds=0.0)
        await eventually((bench.directory / "slots" / "0000" / "exit.json").exists)
        async with asyncio.timeout(10):
            await bench.executor.drain(0.1)
        assert bench.executor.held() == (HeldAttempt(TaskId("t"), 1),)
    bench.stores.flowing.set()
    async with bench.agent():
        assert (await bench.ended()).outcome == "passed"


# --- artefacts ----------------------------------------------------------------------------------


async def test_artefacts_are_stored_with_size_and_digest(bench: Workbench) -> None:
    make = 'cd "$DTEST_ARTIFACT_DIR"; mkdir -p d/e; : >nil; printf a >a.txt; printf bb >d/e/b.bin'
    async with bench.agent():
        end = await bench.run(make)

    found = {each.name: each for each in end.artifacts}
    assert {name: each.size_bytes for name, each in found.items()} == {
        "a.txt": 1,
        "d/e/b.bin": 2,
        "nil": 0,
    }
    for name, content in {"a.txt": b"a", "d/e/b.bin": b"bb", "nil": b""}.items():
        assert found[name].sha256 == hashlib.sha256(content).hexdigest()
        assert bench.stores.artifacts[found[name].object_name] == content


ODD_NAMES = [
    b"\xff\xfe not utf-8",
    b"line\nbreak and \x1b[31m",
    "é ünï 漢字".encode(),
    b"n" * 255,
    "漢".encode() * 80,
    b"/".join([b"deep" * 20] * 8),
]


def lay_out(root: Path) -> None:
    for number, name in enumerate(ODD_NAMES):
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)


@pytest.mark.parametrize("task", ["t", "t" * 100])
async def test_every_name_of_an_artefact_makes_an_event_that_readers_take(
    bench: Workbench, task: str
) -> None:
    go = bench.directory / "go"
    async with bench.agent():
        bench.start(waiting_for(go), task)
        await bench.prints(b"up", f"{task}.1")
        lay_out(bench.directory / "slots" / "0000" / "artifacts")
        go.touch()
        end = await bench.ended(task)

    assert end.outcome == "passed"
    assert len({each.object_name for each in end.artifacts}) == len(ODD_NAMES)
    assert len({each.name for each in end.artifacts}) == len(ODD_NAMES)
    contents = {bench.stores.artifacts[each.object_name] for each in end.artifacts}
    assert contents == {b"%d" % number for number in range(len(ODD_NAMES))}
    for record in await bench.journal.records():
        assert not [event for event in record.events if isinstance(event, Malformed)]


async def test_the_most_artefacts_with_the_longest_names_fit_into_one_event(
    tmp_path: Path,
) -> None:
    for number in range(artifacts_module.ARTIFACTS_MAX + 1):
        (tmp_path / f'{number:04d}{"漢" * 60}"').touch()

    async def put(_: str, __: Path) -> None:
        return

    stored, problem = await store_artifacts(tmp_path, f"{'t' * 100}/1", put)
    end = facts.finished(assigned("t" * 100))
    event = Event(
        EventId("e"),
        facts.source(end),
        0.0,
        AttemptFinished(
            end.task_id, 1, WORKER, "passed", end.started_at, end.finished_at, artifacts=stored
        ),
    )
    (again,) = codec.decode(
        codec.encode([event]), subject=facts.where(end), seq=1, stored_at=0.0
    ).events

    assert again == event
    assert "1001 artefacts; at most 1000 are kept" in problem


async def test_files_that_are_none_and_files_that_are_gone_do_no_harm(bench: Workbench) -> None:
    odd = (
        'cd "$DTEST_ARTIFACT_DIR"; mkfifo pipe; ln -s nowhere dangling; ln -s loop loop; '
        "printf x > real; ln -s real link"
    )
    async with bench.agent():
        end = await bench.run(odd)
        gone = await bench.run('rm -r "$DTEST_ARTIFACT_DIR"', task="u")
        again = await bench.run('printf y > "$DTEST_ARTIFACT_DIR"/y', task="v")

    assert {each.name for each in end.artifacts} == {"real", "link"}
    assert (gone.outcome, gone.artifacts) == ("passed", ())
    assert [each.name for each in again.artifacts] == ["y"]


async def test_a_store_that_is_away_for_a_while_costs_nothing(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts_module, "STORE_AGAIN_S", 0.01)
    bench.stores.artifact_refusals = [Unavailable("away"), Unavailable("away")]
    async with bench.agent():
        end = await bench.run('printf x > "$DTEST_ARTIFACT_DIR"/x')

    assert (end.outcome, len(end.artifacts)) == ("passed", 1)


@pytest.mark.parametrize(
    ("command", "outcome", "reason"),
    [
        ("true", "faulted", Reason.UPLOAD_FAILED),
        ("exit 3", "failed", Reason.EXIT_NONZERO),
    ],
)
async def test_an_artefact_that_cannot_be_stored_is_never_left_out_silently(
    bench: Workbench, command: str, outcome: str, reason: Reason
) -> None:
    bench.stores.artifact_refusals = [DtestError("the store is odd")]
    async with bench.agent():
        end = await bench.run(f'cd "$DTEST_ARTIFACT_DIR"; touch a b; {command}')

    assert (end.outcome, end.reason) == (outcome, reason)
    assert [each.name for each in end.artifacts] == ["b"]
    if outcome == "faulted":
        assert end.detail == "artefact a: the store is odd"


async def test_an_artefact_that_is_too_large_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts_module, "ARTIFACT_BYTES_MAX", 10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "small").write_bytes(b"x")
    put: list[str] = []

    async def noted(name: str, _: Path) -> None:
        put.append(name)

    stored, problem = await store_artifacts(tmp_path, "t/1", noted)

    assert ([each.name for each in stored], put) == (["small"], ["t/1/small"])
    assert problem == "artefact large: 11 bytes; at most 10 are kept"


# --- the environment ----------------------------------------------------------------------------


def test_attempts_inherit_the_environment_without_dtest_s_own_settings() -> None:
    own = {"HOME": "/root", "DTEST_NATS_PASSWORD": "x", "DTEST_TOKEN": "y", "DTESTS": "kept"}

    assert inherited_environment(own) == {"HOME": "/root", "DTESTS": "kept", "PATH": os.defpath}
    assert inherited_environment({"PATH": "/bin"}) == {"PATH": "/bin"}


async def test_two_hundred_attempts_at_once_end_once_each(bench: Workbench) -> None:
    async with bench.agent():
        for number in range(200):
            bench.start(["/bin/sh", "-c", f"echo {number}; exit {number % 3}"], f"t{number}")

        async def all_ended() -> bool:
            return len(await bench.journal.facts(AttemptFinished)) >= 200

        await eventually(all_ended, within_s=60)
        ends = await bench.journal.facts(AttemptFinished)

        assert {end.task_id: end.exit_code for end in ends} == {
            f"t{number}": number % 3 for number in range(200)
        }
        assert len(ends) == 200
        for number in range(200):
            assert bench.stores.output(f"t{number}.1") == b"%d\n" % number
        await eventually(lambda: bench.executor.held() == ())
        assert bench.slots() == []
