"""Networks of a drill's own: parts of the cell in network namespaces, each on a cable to a switch.

The namespaces have no names. Processes hold them open that end when the drill does, however it
ends, and the kernel removes what nobody holds. The switch lies in a namespace of its own, so that
no packet filter of the machine sees what passes between the parts.
"""

import asyncio
import ipaddress
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from dtest.errors import DtestError, PermissionRefused
from dtest.runtime.ids import jitter, short_id
from dtest.runtime.lifecycle import end_with_parent

NETWORKS_TRIED_MAX = 20
"""So many private networks are drawn, before it is said that the machine uses them all."""
PARTS_MAX = 200
_TOOLS = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
"""What is needed, and the Debian packages that have it."""
_SEARCHED = "/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST_PART = 10


class NamespacesRefused(PermissionRefused):
    """No network namespaces can be made here; the message names what is missing."""


class Cable:
    """What joins one part to the switch."""

    def __init__(self, switch: "_Namespace", port: str) -> None:
        self._switch = switch
        self._port = port

    async def cut(self) -> None:
        """Pull it: what either side sends is lost, and nobody is told."""
        await self._switch.run("ip", "link", "set", self._port, "down")

    async def mend(self) -> None:
        """Put it back."""
        await self._switch.run("ip", "link", "set", self._port, "up")


class _Namespace:
    """One network namespace, and the process that holds it open until its input ends."""

    def __init__(self, holder: asyncio.subprocess.Process) -> None:
        self._holder = holder

    @property
    def pid(self) -> str:
        return str(self._holder.pid)

    @property
    def starter(self) -> tuple[str, ...]:
        """What starts a program inside."""
        return (_found("nsenter"), f"--net=/proc/{self.pid}/ns/net", "--")

    async def run(self, *command: str) -> None:
        await _run(*self.starter, _found(command[0]), *command[1:])

    async def close(self) -> None:
        if self._holder.stdin is not None:
            self._holder.stdin.close()
        with suppress(ProcessLookupError):
            self._holder.kill()
        await self._holder.wait()


class Networks:
    """A switch with the drill at one port; ``join`` adds parts of the cell."""

    def __init__(
        self, switch: _Namespace, network: ipaddress.IPv4Network, held: list[_Namespace]
    ) -> None:
        self.address = str(network[1])
        """Where parts reach what runs outside of any namespace."""
        self._switch = switch
        self._network = network
        self._held = held

    async def join(self) -> tuple[str, tuple[str, ...], Cable]:
        """Make a namespace for one part; return its address, what starts a program, its cable."""
        number = len(self._held)
        if number > PARTS_MAX:
            message = f"a switch has {PARTS_MAX} ports"
            raise ValueError(message)
        part = await _new_namespace()
        self._held.append(part)
        address, port = str(self._network[_FIRST_PART + number]), f"part{number}"
        peer = ("type", "veth", "peer", "name", "eth0", "netns", part.pid)
        await self._switch.run("ip", "link", "add", port, *peer)
        await self._switch.run("ip", "link", "set", port, "master", "switch", "up")
        await part.run(
            "ip", "address", "add", f"{address}/{self._network.prefixlen}", "dev", "eth0"
        )
        for device in ("lo", "eth0"):
            await part.run("ip", "link", "set", device, "up")
        return address, part.starter, Cable(self._switch, port)


@asynccontextmanager
async def networks() -> AsyncIterator[Networks]:
    """Make a switch with the drill at it. Raises NamespacesRefused that names what is missing.

    At the end nothing of it is left; close what runs in the namespaces before.
    """
    if not sys.platform.startswith("linux"):
        message = f"network namespaces are a thing of Linux, and this is {sys.platform}"
        raise NamespacesRefused(message)
    for tool, package in _TOOLS.items():
        if shutil.which(tool, path=_SEARCHED) is None:
            message = f"network namespaces need the program {tool!r}, which is not there"
            raise NamespacesRefused(message, hint=f"install the package {package}")
    held: list[_Namespace] = []
    device = f"dt{short_id()}"[:15]
    try:
        try:
            made = await _switched(device, held)
        except DtestError as error:
            message = f"network namespaces are not permitted here: {error.message}"
            raise NamespacesRefused(message, hint="run the drill as root on Linux") from error
        yield made
    finally:
        with suppress(DtestError):  # not made, or gone with the switch
            await _run(_found("ip"), "link", "delete", device)
        for each in held:
            await each.close()


async def _switched(device: str, held: list[_Namespace]) -> Networks:
    network = await _unused_network()
    switch = await _new_namespace()
    held.append(switch)
    ip = _found("ip")
    await switch.run("ip", "link", "add", "switch", "type", "bridge")
    await switch.run("ip", "link", "set", "switch", "up")
    peer = ("type", "veth", "peer", "name", "drill", "netns", switch.pid)
    await _run(ip, "link", "add", device, *peer)
    await switch.run("ip", "link", "set", "drill", "master", "switch", "up")
    await _run(ip, "address", "add", f"{network[1]}/{network.prefixlen}", "dev", device)
    await _run(ip, "link", "set", device, "up")
    return Networks(switch, network, held)


async def _unused_network() -> ipaddress.IPv4Network:
    """Draw a private network to which this machine has no route."""
    routes = (await _run(_found("ip"), "-4", "route", "show", "table", "all")).splitlines()
    known = [found for line in routes for word in line.split()[:2] if (found := _network_in(word))]
    for _ in range(NETWORKS_TRIED_MAX):
        drawn = ipaddress.IPv4Network(((10 << 24) + (int(jitter() * 0xFFFF) << 8), 24))
        if not any(drawn.overlaps(each) for each in known):
            return drawn
    message = f"none of {NETWORKS_TRIED_MAX} private networks is free of routes of this machine"
    raise NamespacesRefused(message, hint="see `ip route`; 10.0.0.0/8 is drawn from")


def _network_in(word: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(word, strict=False)
    except ValueError:
        return None  # a keyword, as "default" or "broadcast"


async def _new_namespace() -> _Namespace:
    """Start a process that holds a new namespace, and wait until it does."""
    holder = await asyncio.create_subprocess_exec(
        *(_found("unshare"), "--net", "--", "sh", "-c", "echo; exec cat"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    if holder.stdout is not None and await holder.stdout.readline():
        return _Namespace(holder)
    _, said = await holder.communicate()
    raise PermissionRefused(said.decode(errors="replace").strip() or "unshare ended")


def _found(tool: str) -> str:
    return shutil.which(tool, path=_SEARCHED) or tool


async def _run(*command: str) -> str:
    """Run a command and return what it printed. Raises PermissionRefused in its words."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()
    if process.returncode:
        raise PermissionRefused(f"{_shown(command)}: {said.decode(errors='replace').strip()}")
    return printed.decode(errors="replace")


def _shown(command: Sequence[str]) -> str:
    words = command[command.index("--") + 1 :] if "--" in command else command
    return " ".join(words)
