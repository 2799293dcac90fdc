"""``dtest task logs -f``: output as it comes, each byte once, whatever goes away meanwhile."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.cli.cell import CellUser, command, impossible
from tests.cli.command import DTEST, eventually

CALL_S_MAX = 90


class Follower:
    """A call that follows, with what it wrote so far."""

    def __init__(self, call: "subprocess.Popen[bytes]") -> None:
        self.call = call
        self.out = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.call.stdout is not None
        while chunk := self.call.stdout.read1():  # type: ignore[attr-defined]
            self.out += chunk

    def has(self, words: bytes) -> None:
        """Wait until it wrote something."""
        eventually(lambda: words in self.out, what=f"{words!r} is shown", within_s=60)

    def ended(self) -> tuple[int, bytes, str]:
        """Wait for its end."""
        code = self.call.wait(CALL_S_MAX)
        self._reader.join(10)
        assert self.call.stderr is not None
        return code, self.out, self.call.stderr.read().decode()


@contextmanager
def following(cell: CellUser, task: str, *options: str) -> Iterator[Follower]:
    with subprocess.Popen(
        [DTEST, "task", "logs", task, "-f", *options],
        env=cell.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as call:
        try:
            yield Follower(call)
        finally:
            call.kill()


def test_output_is_followed_over_attempts_to_the_end(
    cell: CellUser, tmp_path: Path, new_id: Callable[[str], str]
) -> None:
    task, gate = new_id("tries"), tmp_path / "gate"
    line = (
        f"printf 'try %s\\0' $DTEST_ATTEMPT; until test -e {gate}; do sleep 0.05; done;"
        " printf '\\377 done %s\\n' $DTEST_ATTEMPT; [ $DTEST_ATTEMPT = 2 ]"
    )
    cell.run_of(command(line, task_id=task, retry_policy={"max_retries": 1}))

    with following(cell, task) as follower:
        follower.has(b"try 1")
        gate.touch()
        code, out, err = follower.ended()

    assert code == 0, err
    assert out == b"try 1\0\xff done 1\ntry 2\0\xff done 2\n"
    assert err == "attempt 2 starts\n"


def test_no_byte_is_lost_or_told_twice_while_api_and_broker_go_away(
    cell: CellUser, tmp_path: Path, new_id: Callable[[str], str]
) -> None:
    task = new_id("lasts")
    gates = [tmp_path / name for name in ("first", "second")]
    waits = [f"until test -e {gate}; do sleep 0.05; done; " for gate in gates]
    part = "for i in $(seq 2000); do printf '%s %05d\\n' {0} $i; done; "
    cell.run_of(
        command(
            part.format("a") + waits[0] + part.format("b") + waits[1] + "echo end", task_id=task
        )
    )

    with following(cell, task) as follower:
        follower.has(b"a 02000")
        killed(cell, "dtest.roles.api")
        gates[0].touch()
        follower.has(b"b 02000")
        killed(cell, "nats-server")
        gates[1].touch()
        code, out, err = follower.ended()

    expected = "".join(f"{name} {number:05}\n" for name in "ab" for number in range(1, 2001))
    assert code == 0, err
    assert out.decode() == f"{expected}end\n"
    assert "asking again" in err


def killed(cell: CellUser, words: str) -> None:
    """A part of the cell dies; who looks after it starts it again."""
    found = [process for process in cell.processes() if words in " ".join(words_of(process))]
    assert found
    found[0].kill()


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_an_interrupt_ends_the_following_alone(
    cell: CellUser, tmp_path: Path, new_id: Callable[[str], str]
) -> None:
    task, gate = new_id("goes-on"), tmp_path / "gate"
    line = f"echo begun; until test -e {gate}; do sleep 0.05; done"
    run = cell.run_of(command(line, task_id=task))
    with following(cell, task) as follower:
        follower.has(b"begun")
        follower.call.send_signal(2)
        code, _, _ = follower.ended()

    assert code == 130
    assert cell.here("task", "show", task, "--json").json["status"] == "running"
    gate.touch()
    assert cell.here("run", "watch", run).code == 0


def test_what_has_ended_is_shown_and_what_never_began_is_not_waited_for(
    cell: CellUser, new_id: Callable[[str], str]
) -> None:
    task, never = new_id("ended"), new_id("never")
    cell.submit(command("echo all of it", task_id=task)).good()
    cell.run_of(impossible(task_id=never))
    cell.here("task", "cancel", never).good()

    assert cell.here("task", "logs", task, "--follow").good().out == "all of it\n"
    assert cell.here("task", "logs", never, "--follow").good().out == ""
    assert cell.here("task", "logs", "no-such-task", "-f").code == 2
