"""Brings the streams of a cell to the form that they have as data: creates, compares, changes.

A change that could cost messages is not made: neither one that the server refuses nor one that it
would carry out by forgetting. What is not asked for stays as it is: an operator's sizes above all.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from dtest.errors import Unavailable, UsageError
from dtest.events import subject
from dtest.events.fields import CellId
from dtest.journal.api import ask_api, get_info
from dtest.journal.connection import Connection
from dtest.journal.streams import Limits, all_configs, journal_name

REPLICAS = (1, 3, 5)
CLUSTER_REPLICAS = 3
"""What a new cell gets on a cluster if nobody says otherwise."""
CREATE_S_MAX = 20.0
_NAME_IN_USE = 10058
_NO_PEERS = 10005
_OFFLINE = "peer offline"
OFFLINE_AGAIN_S = 0.5
_STREAM_NOT_FOUND = 10059
_DURABLE: Mapping[str, Any] = {
    "max_msgs": -1,
    "max_msgs_per_subject": -1,
    "max_age": 0,
    "mirror": None,
    "sources": None,
    "sealed": False,
}
"""Settings that no stream states: what makes it forget, or fill itself from elsewhere."""
_FIXED: Mapping[str, str] = {
    "storage": "the server cannot move a stream between disk and memory",
    "deny_delete": "the server never takes this promise back",
    "deny_purge": "the server never takes this promise back",
    "mirror": "the stream is a copy: `dtest server promote` ends that",
    "sealed": "the server never opens a sealed stream again",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operator asks for; none: as it is, and the usual for what is missing."""

    replicas: int | None = None
    journal_bytes: int | None = None
    output_bytes: int | None = None
    telemetry_bytes: int | None = None
    artifact_bytes: int | None = None
    checkpoint_bytes: int | None = None
    queue_bytes: int | None = None
    workspace_bytes: int | None = None

    def limits(self, usual: Limits) -> Limits:
        """Return limits in which what is asked for stands before the usual."""
        return Limits(
            self.replicas or usual.replicas,
            self.journal_bytes or usual.journal_bytes,
            self.output_bytes or usual.output_bytes,
            self.telemetry_bytes or usual.telemetry_bytes,
            self.artifact_bytes or usual.artifact_bytes,
            self.checkpoint_bytes or usual.checkpoint_bytes,
            self.queue_bytes or usual.queue_bytes,
            self.workspace_bytes or usual.workspace_bytes,
        )

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """The sizes, in the order of the streams."""
        return (
            self.journal_bytes,
            self.output_bytes,
            self.telemetry_bytes,
            self.artifact_bytes,
            self.checkpoint_bytes,
            self.queue_bytes,
            self.workspace_bytes,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of a stream that is not as it should be."""

    setting: str
    found: Any
    wanted: Any
    obstacle: str = ""
    """Why it cannot be changed in place; empty if it can."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How a stream compares."""

    stream: str
    state: Literal["right", "missing", "different"]
    config: Mapping[str, Any]
    """What it should be."""
    differences: tuple[Difference, ...] = ()

    @property
    def obstacles(self) -> tuple[Difference, ...]:
        """What cannot be changed in place."""
        return tuple(one for one in self.differences if one.obstacle)


async def create_streams(connection: Connection, cell: CellId, limits: Limits) -> None:
    """Create the streams of a cell where they do not exist; existing ones are left as they are."""
    for config in all_configs(cell, limits):
        await _create(connection, config)


async def keep_all_subjects(connection: Connection, cell: CellId) -> None:
    """Have the journal of an earlier version keep what later ones write, too. Raises Unavailable.

    Nothing that is stored changes.
    """
    info = await get_info(connection, journal_name(cell))
    config = info["config"]
    missing = set(subject.journal_filters(cell)) - set(config.get("subjects") or ())
    if not missing or config.get("mirror"):
        return
    subjects = [*config["subjects"], *sorted(missing)]
    reply = await _update(connection, journal_name(cell), {**config, "subjects": subjects})
    if "error" in reply:
        message = f"{journal_name(cell)} cannot keep {', '.join(sorted(missing))}"
        raise Unavailable(message, hint="compare with `dtest server migrate --check`")


async def _create(connection: Connection, config: Mapping[str, Any]) -> None:
    reply = await ask_api(
        connection,
        f"STREAM.CREATE.{config['name']}",
        dict(config),
        wait_s=CREATE_S_MAX,
        again=frozenset(
            {_NO_PEERS}
        ),  # servers of a cluster that just started do not know each other
    )
    error = reply.get("error")
    if error is None or error.get("err_code") == _NAME_IN_USE:
        return
    message = f"cannot create {config['name']}: {error.get('description')}"
    if error.get("err_code") == _NO_PEERS:
        hint = f"{config['num_replicas']} servers must be up, or ask for fewer replicas"
        raise Unavailable(message, hint=hint)
    raise Unavailable(message, hint="compare with `dtest server migrate --check`")


async def usual_replicas(connection: Connection, cell: CellId, asked: int | None) -> int:
    """Return how many servers shall keep the streams.

    At a server that stands alone that is one. On a cluster it is what is asked for, else what the
    journal has, else ``CLUSTER_REPLICAS``. Raises UsageError for a number that makes no sense.
    """
    if asked is not None and asked not in REPLICAS:
        message = f"{asked} replicas are not offered"
        raise UsageError(message, hint="1 survives no death of a server, 3 survive one, 5 two")
    if not connection.is_clustered:
        return 1
    if asked is not None:
        return asked
    found = await find_stream(connection, journal_name(cell))
    return int(found["config"]["num_replicas"]) if found is not None else CLUSTER_REPLICAS


async def compare(connection: Connection, cell: CellId, wanted: Wanted) -> list[Finding]:
    """Compare each stream of a cell with what it should be."""
    replicas = await usual_replicas(connection, cell, wanted.replicas)
    limits = replace(wanted.limits(Limits()), replicas=replicas)
    findings = []
    for config, size in zip(all_configs(cell, limits), wanted.sizes, strict=True):
        name = str(config["name"])
        info = await find_stream(connection, name)
        if info is None:
            findings.append(Finding(name, "missing", config))
            continue
        if size is None:
            config["max_bytes"] = info["config"]["max_bytes"]
        differences = tuple(_differences(info, config))
        findings.append(Finding(name, "different" if differences else "right", config, differences))
    return findings


def _differences(info: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Difference]:
    found = info["config"]
    every = {"allow_rollup_hdrs": False, "allow_direct": False, "max_age": 0, **_DURABLE, **wanted}
    return [
        Difference(name, found.get(name), value, _obstacle(name, value, info))
        for name, value in every.items()
        if (found.get(name) or None) != (value or None)
    ]


def _obstacle(name: str, value: Any, info: Mapping[str, Any]) -> str:  # noqa: ANN401 - as JSON has it
    if name == "max_bytes" and 0 < value < int(info["state"]["bytes"]):
        return f"it holds {info['state']['bytes']} bytes, and would forget the oldest"
    if name in ("deny_delete", "deny_purge") and value:
        return ""
    return _FIXED.get(name, "")


async def find_stream(connection: Connection, name: str) -> dict[str, Any] | None:
    """Return what the server says about a stream, none if there is no such stream."""
    reply = await ask_api(connection, f"STREAM.INFO.{name}", {})
    if reply.get("error", {}).get("err_code") == _STREAM_NOT_FOUND:
        return None
    return await get_info(connection, name) if "error" in reply else reply


async def _update(
    connection: Connection, stream: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """Ask for a change; a server that has just come back may count as offline for a while."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CREATE_S_MAX
    while True:
        reply = await ask_api(connection, f"STREAM.UPDATE.{stream}", dict(request))
        said = str(reply.get("error", {}).get("description"))
        if _OFFLINE not in said or loop.time() > deadline:
            return reply
        await asyncio.sleep(OFFLINE_AGAIN_S)


async def apply(connection: Connection, finding: Finding) -> Finding:
    """Create or change a stream as found necessary; return what stays different."""
    if finding.state == "missing":
        await _create(connection, finding.config)
        return replace(finding, state="right")
    changes = {one.setting: one.wanted for one in finding.differences if not one.obstacle}
    if not changes:
        return finding
    info = await get_info(connection, finding.stream)
    request = {**info["config"], **changes}
    reply = await _update(connection, finding.stream, request)
    if "error" not in reply:
        left = finding.obstacles
        return replace(finding, state="different" if left else "right", differences=left)
    refused = str(reply["error"].get("description"))
    differences = tuple(
        one if one.obstacle else replace(one, obstacle=f"the server refuses: {refused}")
        for one in finding.differences
    )
    return replace(finding, differences=differences)
