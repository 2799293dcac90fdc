"""``dtest cluster`` and ``dtest up --nodes``: servers that die and return, and their streams."""

import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from dtest.events.fields import CellId
from dtest.journal.streams import stream_names
from tests.cli.cell import CellUser, command
from tests.cli.command import Person, eventually

SIZES = ("--journal-bytes", "1000000000", "--output-bytes", "500000000")


class Operator(CellUser):
    """Somebody with a cluster of three."""

    def nodes(self) -> list[psutil.Process]:
        """The processes of the servers."""
        supervisor = psutil.Process(json.loads((self.state / "stack.json").read_text())["pid"])
        return [p for p in supervisor.children() if "nats-server" in " ".join(p.cmdline())]

    def status(self) -> dict[str, Any]:
        """How the cluster stands."""
        return dict(self.here("cluster", "status", "--json").json)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    root = tmp_path_factory.mktemp("cluster")
    someone = Operator(root / "home", root)
    try:
        up = someone.dtest("cluster", "up", "--nodes", "3", "--json").good().json
        assert up["nodes"] == 3
        yield someone
        someone.here("cluster", "down", "--purge").good()
        someone.nothing_is_left()
        assert not someone.state.exists()
    finally:
        someone.end_all()


def test_every_server_answers_and_keeps_every_stream(operator: Operator) -> None:
    ended = operator.here("cluster", "status", "--json").good()

    assert ended.json["whole"] is True
    assert [(node["server"], node["alive"]) for node in ended.json["nodes"]] == [
        ("n1", True),
        ("n2", True),
        ("n3", True),
    ]
    assert len(ended.json["streams"]) == len(stream_names(CellId("main")))
    for stream in ended.json["streams"]:
        assert stream["leader"] in {"n1", "n2", "n3"}
        assert [one["server_name"] for one in stream["replicas"]] == ["n1", "n2", "n3"]
        assert sum(one["leads"] for one in stream["replicas"]) == 1
    shown = operator.here("cluster", "status").good().out
    assert shown.startswith("server\taddress\talive\tversion\tleads\nn1\t127.0.0.1:")


def test_a_killed_server_is_seen_and_comes_back(operator: Operator) -> None:
    victim = operator.nodes()[0]
    supervisor = victim.parent()
    assert supervisor is not None
    supervisor.suspend()  # it would start the server again at once
    try:
        victim.kill()
        eventually(lambda: not operator.status()["whole"], what="the loss shows")
        ended = operator.here("cluster", "status", "--json")
        assert ended.code == 3
        assert [node["alive"] for node in ended.json["nodes"]].count(False) == 1
    finally:
        supervisor.resume()

    eventually(lambda: operator.status()["whole"], what="the server is back and holds all")
    operator.here("server", "migrate", "--check").good()


def test_the_files_of_the_servers_are_their_owners_alone(operator: Operator) -> None:
    files = sorted(operator.state.glob("nats-n*/nats.conf"))

    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert operator.state.stat().st_mode & 0o777 == 0o700


def test_streams_are_compared_changed_and_compared_again(operator: Operator) -> None:
    assert operator.here("server", "migrate", "--check", *SIZES).code == 1
    operator.here("server", "migrate", "--check").good()

    told = operator.here("server", "migrate", *SIZES, "--replicas", "1", "--json").good().json

    changed = {
        (found["stream"], one["setting"])
        for found in told["streams"]
        for one in found["differences"]
    }
    assert ("dtest-main-journal", "max_bytes") in changed
    assert ("dtest-main-telemetry", "num_replicas") in changed
    assert ("dtest-main-telemetry", "max_bytes") not in changed
    assert told["right"] is True
    operator.here("server", "migrate", "--check", *SIZES).good()
    operator.here("server", "migrate", "--replicas", "3").good()
    eventually(lambda: operator.status()["whole"], what="three copies of everything")


def test_what_cannot_be_changed_is_named_and_ends_with_two(operator: Operator) -> None:
    checked = operator.here("server", "migrate", "--check", "--replicas", "5")
    ended = operator.here("server", "migrate", "--replicas", "5")

    assert checked.code == 1
    assert ended.code == 2
    assert "no suitable peers" in ended.out
    assert "dtest-main-journal" in ended.err


def test_a_second_stack_of_the_cell_is_refused(operator: Operator) -> None:
    assert operator.here("cluster", "up").code == 2
    assert operator.here("up").code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("cluster", "up", "--nodes", "2"), "2 servers is not offered"),
        (("cluster", "up", "--replicas", "4"), "4 replicas are not offered"),
        (("up", "--nodes", "3", "--nats", "nats://127.0.0.1:1"), "--nodes 3 asks for own"),
        (("server", "migrate", "--journal-bytes", "0"), "--journal-bytes is 0"),
    ],
)
def test_a_wrong_size_is_refused(words: tuple[str, ...], told: str, person: Person) -> None:
    ended = person.dtest(*words)

    assert ended.code == 2, ended.err
    assert told in ended.err


def test_a_cell_of_three_brokers_outlasts_one_and_keeps_its_size(person: Person) -> None:
    user = CellUser(person.home, person.cwd, person.more, person.mark)
    user.dtest("up", "--nodes", "3", "--workers", "1", "--slots", "2").good()
    user.submit(command("true", task_id="before"), options=("--wait", "--timeout", "60")).good()
    supervisor = psutil.Process(json.loads((user.state / "stack.json").read_text())["pid"])
    next(p for p in supervisor.children() if "nats-server" in " ".join(p.cmdline())).kill()

    user.submit(command("true", task_id="after"), options=("--wait", "--timeout", "60")).good()
    assert user.here("event", "verify", "--json").good().json["violations"] == []
    user.here("down").good()

    refused = user.dtest("up", "--nodes", "1")
    assert refused.code == 2
    assert "was made with 3 servers" in refused.err
    user.dtest("cluster", "up").good()
    assert len(user.here("cluster", "status", "--json").json["nodes"]) == 3
    user.here("down", "--purge").good()
    user.nothing_is_left()
