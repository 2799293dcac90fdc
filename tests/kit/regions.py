"""Two servers in two regions, joined as docs/operations.md says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dtest.runtime.ports import free_port
from tests.kit.markdown import blocks_in
from tests.kit.nats import PASSWORD, USER, Server, running

ACCOUNTS = f"""
authorization {{}}
accounts {{
  DTEST {{ jetstream: enabled, users: [ {{ user: "{USER}", password: "{PASSWORD}" }} ] }}
}}
"""
"""As in infra/nats, in the place of the test servers' one user without an account."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Two servers, joined as docs/operations.md says."""

    first: Server
    second: Server


@asynccontextmanager
async def joined_regions(directory: Path) -> AsyncIterator[Regions]:
    port = free_port()
    origin, remote = blocks_in("operations.md", "conf")
    own = {
        "/var/lib/dtest/nats": "{store}",
        "0.0.0.0:7422": f"127.0.0.1:{port}",
        "n1.first:7422": f"127.0.0.1:{port}",
        "PASSWORD": "secret",
    }
    for text, value in own.items():
        assert text in origin + remote
        origin, remote = origin.replace(text, value), remote.replace(text, value)
    origin, remote = origin + ACCOUNTS, remote + ACCOUNTS
    stores = [str(directory / name / "jetstream") for name in ("first", "second")]
    async with (
        running(directory / "first", lines=origin.replace("{store}", stores[0])) as first,
        running(directory / "second", lines=remote.replace("{store}", stores[1])) as second,
    ):
        yield Regions(first, second)
