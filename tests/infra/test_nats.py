"""infra/nats: the server takes every file, and the files mean what they say."""

import asyncio
import os
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from dtest.errors import PermissionRefused, Unavailable
from dtest.events.fields import CellId
from dtest.journal.connection import NatsAddress
from dtest.journal.port import Appended
from dtest.runtime.nats_server import PAYLOAD_BYTES_MAX, server_binary
from dtest.runtime.ports import free_ports
from tests.infra.installed import INFRA, NAMES, Installed, prepare
from tests.journal.conformance import Bench
from tests.kit.nats import connected, joined

SIZES = {"one": 1, "three": 3, "five": 5}
CELL = CellId("main")
ROUTE = re.compile(r"nats://(\w+):(\d+)")


def checked(config: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """What the server says about a file."""
    command = [server_binary(), "-t", "-c", str(config)]
    return subprocess.run(
        command,
        cwd=config.parent,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_the_server_takes_the_file(
    size: str, name: str, installed: Installed, tmp_path: Path
) -> None:
    own = installed.of(name, tmp_path)

    ended = checked(own / f"{size}.conf", DTEST_NODE=name)

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("size", SIZES)
def test_a_server_without_a_name_is_refused(
    size: str, installed: Installed, tmp_path: Path
) -> None:
    own = installed.of("n1", tmp_path)

    assert checked(own / f"{size}.conf").returncode != 0


def test_a_file_names_as_many_servers_as_it_is_for() -> None:
    for size, count in SIZES.items():
        text = (INFRA / "nats" / f"{size}.conf").read_text(encoding="utf-8")
        routes = ROUTE.findall(text)

        assert [name for name, _ in routes] == list(NAMES[:count] if count > 1 else ())
        assert all(f'listen: "0.0.0.0:{port}"' in text for _, port in routes)


def test_the_shared_part_keeps_what_the_journal_relies_on() -> None:
    text = (INFRA / "nats" / "server.conf").read_text(encoding="utf-8")

    assert "sync_interval: always" in text
    assert f"max_payload: {PAYLOAD_BYTES_MAX >> 20}MB" in text
    assert PAYLOAD_BYTES_MAX % (1 << 20) == 0
    assert 'http: "127.0.0.1:8222"' in text


def test_what_is_prepared_is_private_and_kept(tmp_path: Path) -> None:
    prepare(tmp_path, "n1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    prepare(tmp_path, "n1", "n2")

    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    assert set(after) - set(before) == {"n2.pem", "n2-key.pem"}
    assert {k: v for k, v in after.items() if k in before and k != "ca.srl"} == {
        k: v for k, v in before.items() if k != "ca.srl"
    }


def test_prepare_without_names_says_how_it_is_called() -> None:
    command = [str(INFRA / "nats" / "prepare.sh"), "somewhere"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert "./prepare.sh DIRECTORY NAME..." in ended.stderr


# --- one server runs ----------------------------------------------------------------------------


@asynccontextmanager
async def serving(installed: Installed, directory: Path) -> AsyncIterator[str]:
    """The address of a server by one.conf, on free ports and a store of its own."""
    own = installed.of("n1", directory)
    port, monitor = free_ports(2)
    with (own / "one.conf").open("a", encoding="utf-8") as file:
        file.write(f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{monitor}"\n')
        file.write(f'jetstream {{ store_dir: "{directory / "store"}", sync_interval: always }}\n')
    process = await asyncio.create_subprocess_exec(
        *(server_binary(), "-c", str(own / "one.conf")),
        cwd=own,
        env={**os.environ, "DTEST_NODE": "n1"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"tls://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


async def test_roles_and_clients_speak_to_it_and_strangers_do_not(
    installed: Installed, tmp_path: Path
) -> None:
    passwords = installed.passwords
    async with serving(installed, tmp_path) as url:

        def address(user: str, trust: ssl.SSLContext | None = None) -> NatsAddress:
            return NatsAddress((url,), user, passwords[user], tls=trust or installed.trust)

        async with joined(address("dtest"), CELL) as cell, connected(address("client")) as client:
            bench = Bench(cell.journal, CELL)
            mine = bench.message()
            answer = await client.ask(
                mine.subject, mine.payload, timeout_s=5.0, headers={"Nats-Msg-Id": mine.id}
            )
            assert answer.json()["seq"] == 1
            assert await cell.journal.append(mine) == Appended(1, duplicate=True)

            for subject in (bench.epoch, bench.work("w1"), "$JS.API.STREAM.INFO." + cell.stream):
                other = await client.ask(subject, b"{}", timeout_s=5.0)
                assert other.status == 503 or "error" in other.json(), subject
            assert await bench.count() == 1

        wrong = NatsAddress((url,), "dtest", "wrong", tls=installed.trust)
        with pytest.raises(PermissionRefused):
            async with connected(wrong):
                pass
        with pytest.raises(Unavailable):
            async with connected(address("dtest", ssl.create_default_context())):
                pass


# --- the compose file ---------------------------------------------------------------------------


@pytest.fixture
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((INFRA / "nats" / "compose.yaml").read_text(encoding="utf-8")))


def test_the_compose_file_runs_the_servers_of_three_conf(compose: dict[str, Any]) -> None:
    text = (INFRA / "nats" / "three.conf").read_text(encoding="utf-8")
    routes = [name for name, _ in ROUTE.findall(text)]

    assert list(compose["services"]) == routes
    for name, service in compose["services"].items():
        assert service["hostname"] == name
        assert service["environment"] == {"DTEST_NODE": name}
        assert service["command"] == ["-c", "three.conf"]
        assert service["working_dir"] == "/etc/dtest/nats"


def test_every_server_is_given_what_its_file_includes(compose: dict[str, Any]) -> None:
    text = "".join(path.read_text("utf-8") for path in (INFRA / "nats").glob("*.conf"))
    needed = set(re.findall(r'include "(.+)"', text))
    needed |= set(re.findall(r'_file: "(.+)"', text)) | {"three.conf"}
    store = re.findall(r'store_dir: "(.+)"', text)

    for name, service in compose["services"].items():
        mounts = dict(mount.split(":")[:2] for mount in service["volumes"])
        here = service["working_dir"]
        inside = {
            path.removeprefix(f"{here}/"): source
            for source, path in mounts.items()
            if path.startswith(here)
        }

        assert needed - set(inside) == set()
        assert inside["server.pem"] == f"./secrets/{name}.pem"
        assert inside["server-key.pem"] == f"./secrets/{name}-key.pem"
        assert [mounts[name]] == store
        assert name in compose["volumes"]
        for source in mounts:
            assert source == name or "secrets" in source or (INFRA / "nats" / source).is_file()


def test_clients_reach_every_server_on_loopback(compose: dict[str, Any]) -> None:
    ports = [service["ports"] for service in compose["services"].values()]
    told = (INFRA / "nats" / "compose.yaml").read_text(encoding="utf-8")

    published = [port for each in ports for port in each]
    assert all(port.startswith("127.0.0.1:") and port.endswith(":4222") for port in published)
    assert len(set(published)) == len(compose["services"])
    for port in published:
        assert f"tls://{port.removesuffix(':4222')}" in told
