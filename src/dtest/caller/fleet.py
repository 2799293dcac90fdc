"""The workers of a cell as the scheduler knows them, for whoever has to know what they have."""

import socket
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from dtest.caller.api_client import ApiClient
from dtest.events.fields import WorkerId
from dtest.events.worker import Capability
from dtest.state.worker import Worker, WorkerStatus, whole
from dtest.suites.session import speaks

PAGE_ITEMS = 1_000
_HERE = frozenset({WorkerStatus.ACTIVE, WorkerStatus.SUSPECTED})
_CAPABILITY: TypeAdapter[Capability] = TypeAdapter(Capability)


def fleet_of(api: ApiClient) -> list[Worker]:
    """Return the workers that take work, or may again soon; simulated ones too."""
    found: list[Worker] = []
    cursor: str | None = None
    while True:
        page = api.get("/api/workers", limit=PAGE_ITEMS, cursor=cursor)
        found += (_worker(item) for item in page["items"] if item["status"] in _HERE)
        cursor = page["next"]
        if cursor is None:
            return found


def _worker(item: dict[str, Any]) -> Worker:
    capability = _CAPABILITY.validate_python(item["capability"])
    return Worker(
        WorkerId(item["worker_id"]),
        item["incarnation"],
        item["host"],
        capability,
        bool(item["simulated"]),
        whole(capability),
        registered_at=0.0,
        registered_seq=0,
        pid=None,
        status=WorkerStatus(item["status"]),
    )


def ready(fleet: list[Worker]) -> list[Worker]:
    """Return those that run what is real, and take new work."""
    return [each for each in fleet if each.takes_work and not each.simulated]


def is_remote(fleet: list[Worker]) -> bool:
    """Say whether some worker is on another machine, which does not see the files of this one."""
    here = socket.gethostname()
    return any(worker.host != here for worker in ready(fleet))


def tell_old(fleet: list[Worker], tell: Callable[[str], None]) -> None:
    """Tell which workers cannot run sessions of suites."""
    for worker in ready(fleet):
        if not speaks(worker.capability.labels):
            said = f"{worker.id} runs an older dtest, which knows tests by their node ids alone"
            tell(f"{said}: it takes no part; install this version there")
