"""Ports that are held: given to nobody, and still there for the process that they are meant for."""

import socket
import sys

import pytest

from dtest.runtime.ports import HeldPorts, free_ports

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="held on Linux only")


def listener(port: int) -> socket.socket:
    """A server's socket, as asyncio and nats-server make it."""
    return socket.create_server(("127.0.0.1", port))


def test_ports_differ() -> None:
    with HeldPorts() as ports:
        found = [ports.take(), *ports.several(3)]

    assert len(set(found)) == 4
    assert len(set(free_ports(5))) == 5


@LINUX
def test_a_held_port_can_be_listened_at_again_and_again() -> None:
    with HeldPorts() as ports:
        port = ports.take()
        for _ in range(3):
            with listener(port), socket.create_connection(("127.0.0.1", port)):
                pass


@LINUX
def test_a_held_port_is_given_to_nobody() -> None:
    with HeldPorts() as ports:
        held = set(ports.several(2_000))
        given = {port for _ in range(20) for port in free_ports(50)}

        assert not held & given


@LINUX
def test_a_held_port_answers_nobody_before_its_process_listens() -> None:
    with HeldPorts() as ports, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports.take()))


@LINUX
def test_what_is_closed_is_free_again() -> None:
    with HeldPorts() as ports:
        port = ports.take()

    with socket.socket() as other:
        other.bind(("127.0.0.1", port))


def test_an_address_of_another_machine_is_refused() -> None:
    with HeldPorts("192.0.2.1") as ports, pytest.raises(OSError, match=r"(?i)assign"):
        ports.take()
