"""``dtest up`` and ``dtest down``: a cell that heals, keeps its journal and leaves nothing behind.

One cell serves most of these tests: each finds it up and leaves it up.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dtest.runtime.nats_server import EmbeddedServer, server_binary
from dtest.runtime.ports import free_port
from dtest.runtime.stack_file import StackFile, write_stack_file
from tests.cli.cell import CellUser, command
from tests.cli.command import Person, eventually, interrupt

UP = ("up", "--workers", "1", "--slots", "2")


class Owner(CellUser):
    """Somebody whose cell dies in many ways."""

    @property
    def file(self) -> dict[str, Any]:
        """What the stack wrote down."""
        return dict(json.loads((self.state / "stack.json").read_text(encoding="utf-8")))

    @property
    def supervisor(self) -> psutil.Process:
        """The process that owns the stack."""
        return psutil.Process(self.file["pid"])

    def child(self, words: str) -> psutil.Process:
        """One of the supervisor's children; while there is none, the supervisor."""
        found = [p for p in self.supervisor.children(recursive=True) if words in words_of(p)]
        return found[0] if found else self.supervisor

    def well(self) -> bool:
        """Whether everything answers."""
        states = [line["state"] for line in self.here("doctor", "--json").lines]
        return states == ["ok"] * 9

    def status_of(self, task: str) -> str:
        """How a task stands."""
        return str(self.here("task", "show", task, "--json").json["status"])

    def passes(self, line: str = "true", **more: Any) -> None:
        """A task runs to its end."""
        ended = self.submit(command(line, **more), options=("--wait", "--timeout", "30"))
        assert ended.code == 0, ended.err


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    root = tmp_path_factory.mktemp("stack")
    someone = Owner(root / "home", root)
    try:
        someone.dtest(*UP).good()
        yield someone
        someone.here("down", "--purge").good()
        someone.nothing_is_left()
        assert not someone.state.exists()
    finally:
        someone.end_all()


def words_of(process: psutil.Process) -> str:
    """The command line of a process, nothing for one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def kill(process: psutil.Process) -> None:
    """Let it die without a word."""
    process.kill()
    psutil.wait_procs([process], timeout=10)


def test_a_cell_goes_down_and_comes_up_with_its_journal(owner: Owner) -> None:
    owner.passes(task_id="before")
    pid = owner.file["pid"]

    assert owner.here("up").code == 2
    assert owner.file["pid"] == pid

    assert "stopped" in owner.here("down").good().err
    owner.nothing_is_left()
    assert "was not up" in owner.here("down").good().err
    assert owner.here("down", "--json").good().json == {
        "cell": "main",
        "stopped": False,
        "purged": False,
        "kept": [],
        "in_use": [],
    }

    up = owner.dtest(*UP, "--json").good().json
    assert up["pid"] != pid
    owner.passes(task_id="after")
    assert owner.status_of("before") == "passed"
    assert owner.here("event", "verify", "--json").good().json["violations"] == []


@pytest.mark.parametrize("role", ["scheduler", "roles.api", "agent_main", "nats-server"])
def test_a_killed_part_is_started_again(role: str, owner: Owner) -> None:
    victim = owner.child(role)

    kill(victim)

    eventually(
        lambda: owner.child(role) not in (victim, owner.supervisor) and owner.well(),
        what=f"{role} is back",
    )
    owner.passes()
    assert owner.here("event", "verify", "--json").good().json["violations"] == []


def test_everything_ends_with_a_killed_supervisor(owner: Owner) -> None:
    owner.submit(command("exec sleep 1000", task_id="endless"), options=()).good()
    eventually(lambda: owner.status_of("endless") == "running", what="the task runs")

    kill(owner.supervisor)

    owner.nothing_runs()
    assert owner.here("status").code == 3
    owner.dtest(*UP).good()
    owner.here("task", "cancel", "endless").good()
    eventually(lambda: owner.status_of("endless") == "cancelled", what="the task is cancelled")
    owner.passes()


def test_a_killed_supervisor_is_replaced_at_once(owner: Owner) -> None:
    before = owner.here("status", "--json").json

    kill(owner.supervisor)
    owner.dtest(*UP).good()

    after = owner.here("status", "--json").json
    assert after["journal"]["created"] == before["journal"]["created"]
    assert after["tasks"] == before["tasks"]
    assert after["epoch"] > before["epoch"]
    owner.passes()
    assert owner.here("event", "verify", "--json").good().json["violations"] == []


def test_a_supervisor_that_nobody_waited_for_is_not_up(person: Person) -> None:
    """Process 1 of many containers never waits: what was killed stays as a zombie."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, what="it ended")
    started_at, url = psutil.Process(pid).create_time(), "nats://127.0.0.1:1"
    noted = StackFile("main", pid, started_at, url, None, None, None, url, "token")
    write_stack_file(person.state / "stack.json", noted)

    try:
        assert "no cell is up here" in person.here("status").err
        assert "was not up" in person.here("down").good().err
    finally:
        os.waitpid(pid, 0)


def test_a_read_model_made_anew_is_equal(owner: Owner) -> None:
    owner.submit(command("true"), command("false"), command("true", dependencies=["none"]))
    tables = ("runs", "tasks", "attempts", "testcases", "workers", "events", "leaders")

    anew = owner.cwd / "anew.duckdb"
    built = owner.here("server", "rebuild", "--database", str(anew), "--json").good().json

    assert built["seq"] == owner.here("status", "--json").json["projected_seq"]
    shown = {table: owner.here("db", "query", all_of(table), "--json").lines for table in tables}
    second = owner.at(owner.cwd, **api_over(owner))
    with second.started("server", "api", "--database", str(anew)):
        eventually(lambda: second.here("status").code == 0, what="the second API answers")
        again = {t: second.here("db", "query", all_of(t), "--json").lines for t in tables}
    assert again == shown
    assert all(shown[table] for table in tables if table != "testcases")


def all_of(table: str) -> str:
    """A query for every row in an order that does not depend on how they came."""
    return f"SELECT * FROM {table} ORDER BY ALL"  # noqa: S608 - a name of ours


def api_over(owner: Owner) -> dict[str, str]:
    """The environment of a second API of the same cell."""
    names = ("nats_url", "nats_user", "nats_password")
    nats = {f"DTEST_{name.upper()}": owner.file[name] for name in names}
    return {**nats, "DTEST_API_URL": f"http://127.0.0.1:{free_port()}", "DTEST_TOKEN": "second"}


def test_a_cell_in_the_foreground_ends_with_ctrl_c(person: Person) -> None:
    with person.started("up", "--workers", "0", "--foreground") as call:
        eventually(lambda: person.here("status").code == 0, what="it serves")

        ended = interrupt(call)

    assert ended.code == 0
    person.nothing_is_left()
    assert person.here("status").code == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted_leaves_nothing(person: Person, number: signal.Signals) -> None:
    with person.started("up", "--workers", "1") as call:
        eventually((person.state / "nats").exists, what="it has begun")

        ended = interrupt(call, number)

    assert ended.code == 128 + number
    person.nothing_is_left()
    assert person.here("status").code == 3


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that dtest did not start."""
    server = EmbeddedServer(tmp_path / "nats", free_port(), "guest", "for tests only")
    server.write_config()
    command = [server_binary(), "-c", str(server.config_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        yield server
        process.terminate()


def test_a_cell_uses_a_broker_that_runs_already(person: Person, broker: EmbeddedServer) -> None:
    env = {"DTEST_NATS_USER": broker.user, "DTEST_NATS_PASSWORD": broker.password}
    guest = person.at(person.cwd, **env)

    up = guest.dtest("up", "--workers", "0", "--nats", broker.url, "--json").good().json

    assert up["nats_url"] == broker.url
    assert not (guest.state / "nats").exists()
    assert guest.here("event", "verify", "--json").good().json["messages"] > 0
    guest.here("down").good()
    guest.nothing_runs()
    kept = guest.here("event", "verify", "--nats", broker.url, "--json").good().json
    assert kept["violations"] == []


def test_a_wait_for_a_broker_that_is_not_there_can_be_interrupted(person: Person) -> None:
    nobody = person.at(person.cwd, DTEST_NATS_URL="nats://127.0.0.1:1")
    with nobody.started("up", "--workers", "0") as call:
        eventually((person.state / "stack.lock").exists, what="it tries")

        ended = interrupt(call)

    assert ended.code == 130
    person.nothing_is_left()


def test_a_port_that_is_taken_is_named(owner: Owner) -> None:
    port = str(owner.file["api_url"]).rpartition(":")[2]

    ended = owner.dtest("up", "--cell", "other", "--workers", "0", "--port", port)

    assert ended.code == 3
    assert "api ended with" in ended.err
    assert "api.log" in ended.err
    assert not owner.state.with_name("other").joinpath("stack.json").exists()
