"""Installs infra/nats the way that its files say."""

import re
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

INFRA = Path(__file__).parents[2] / "infra"
NAMES = ("n1", "n2", "n3", "n4", "n5")
_PASSWORD = re.compile(r'^([A-Z]+)_PASSWORD: "(.+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Installed:
    """A directory with the configuration files and what prepare.sh made."""

    directory: Path

    @property
    def passwords(self) -> dict[str, str]:
        """The password of each user."""
        text = (self.directory / "users.conf").read_text(encoding="utf-8")
        return {name.lower(): password for name, password in _PASSWORD.findall(text)}

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client trusts."""
        return ssl.create_default_context(cafile=self.directory / "ca.pem")

    def of(self, name: str, parent: Path) -> Path:
        """The directory of one host: the configuration and its own certificate."""
        own = parent / name
        shutil.copytree(self.directory, own)
        shutil.copy(own / f"{name}.pem", own / "server.pem")
        shutil.copy(own / f"{name}-key.pem", own / "server-key.pem")
        return own


def install(directory: Path) -> Installed:
    """Copy the files and have prepare.sh make the rest."""
    nats = directory / "nats"
    shutil.copytree(INFRA / "nats", nats, ignore=shutil.ignore_patterns("secrets", "nats-server"))
    prepare(nats, *NAMES)
    return Installed(nats)


def prepare(directory: Path, *names: str) -> None:
    """Call prepare.sh."""
    command = [str(INFRA / "nats" / "prepare.sh"), str(directory), *names]
    subprocess.run(command, check=True, capture_output=True, text=True)
