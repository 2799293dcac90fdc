"""The streams of a cell as data, and their creation.

The journal forgets nothing: it refuses new messages when it is full. Output and telemetry are
bounded by age and size and lose their oldest.
"""

from dataclasses import dataclass
from typing import Any

from dtest.events import subject
from dtest.events.fields import CellId

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
QUEUE_DAYS_MAX = 2
"""A queue whose run was given up is forgotten."""
CHECKPOINT_DAYS_MAX = 7
"""A task that stood still for longer begins anew."""
WORKSPACE_DAYS_MAX = 21
"""Three times what a part of a tree may be old for a client to leave it out."""

COMPRESSION = "none"
"""Of what brokers store. A server that is killed while it stores compressed blocks may not be able
to read its copy any more (ADR 21)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that an operator chooses."""

    replicas: int = 1
    journal_bytes: int = 16 << 30
    output_bytes: int = 4 << 30
    telemetry_bytes: int = 512 << 20
    artifact_bytes: int = 16 << 30
    checkpoint_bytes: int = 8 << 30
    queue_bytes: int = 512 << 20
    workspace_bytes: int = 8 << 30

    @property
    def total_bytes(self) -> int:
        """What the server reserves for all of them."""
        return (
            self.journal_bytes
            + self.output_bytes
            + self.telemetry_bytes
            + self.artifact_bytes
            + self.checkpoint_bytes
            + self.queue_bytes
            + self.workspace_bytes
        )

    def within(self, room_bytes: int) -> "Limits":
        """Return limits in the same proportions that take at most so much room."""
        part = min(1.0, room_bytes / self.total_bytes)
        return Limits(
            self.replicas,
            int(self.journal_bytes * part),
            int(self.output_bytes * part),
            int(self.telemetry_bytes * part),
            int(self.artifact_bytes * part),
            int(self.checkpoint_bytes * part),
            int(self.queue_bytes * part),
            int(self.workspace_bytes * part),
        )


def journal_name(cell: CellId) -> str:
    """Name of the journal's stream."""
    return f"dtest-{cell}-journal"


def output_name(cell: CellId) -> str:
    """Name of the output's stream."""
    return f"dtest-{cell}-output"


def telemetry_name(cell: CellId) -> str:
    """Name of the telemetry's stream."""
    return f"dtest-{cell}-telemetry"


def queue_name(cell: CellId) -> str:
    """Name of the stream of queues."""
    return f"dtest-{cell}-queues"


def artifact_bucket(cell: CellId) -> str:
    """Name of the object store of artefacts."""
    return f"dtest-{cell}-artifacts"


def checkpoint_bucket(cell: CellId) -> str:
    """Name of the object store of checkpoints."""
    return f"dtest-{cell}-checkpoints"


def workspace_name(cell: CellId) -> str:
    """Name of the stream of trees that clients shipped."""
    return f"dtest-{cell}-workspaces"


def bucket_stream(bucket: str) -> str:
    """Name of the stream below an object store."""
    return f"OBJ_{bucket}"


def stream_names(cell: CellId) -> list[str]:
    """Name all streams of a cell, those below the object stores included."""
    own = [journal_name(cell), output_name(cell), telemetry_name(cell)]
    buckets = map(bucket_stream, (artifact_bucket(cell), checkpoint_bucket(cell)))
    return [*own, *buckets, queue_name(cell), workspace_name(cell)]


def all_configs(cell: CellId, limits: Limits) -> list[dict[str, Any]]:
    """Return the configuration of each of them."""
    buckets = (artifact_config(cell, limits), checkpoint_config(cell, limits))
    beside = [queue_config(cell, limits), workspace_config(cell, limits)]
    return [*stream_configs(cell, limits), *buckets, *beside]


def stream_configs(cell: CellId, limits: Limits) -> list[dict[str, Any]]:
    """Return the configuration of each stream, as JetStream's API takes it."""
    return [
        {
            "name": journal_name(cell),
            "subjects": subject.journal_filters(cell),
            "retention": "limits",
            "storage": "file",
            "num_replicas": limits.replicas,
            "discard": "new",
            "max_bytes": limits.journal_bytes,
            "max_consumers": 20_000,
            "duplicate_window": 900 * SECOND_NS,
            "compression": COMPRESSION,
            "deny_delete": True,
            "deny_purge": True,
            "allow_atomic": True,
            "allow_direct": True,
        },
        {
            "name": output_name(cell),
            "subjects": [f"{subject.ROOT}.{cell}.output.>"],
            "retention": "limits",
            "storage": "file",
            "num_replicas": limits.replicas,
            "discard": "old",
            "max_bytes": limits.output_bytes,
            "max_age": 7 * DAY_NS,
            "max_consumers": 20_000,
            "duplicate_window": 120 * SECOND_NS,
            "compression": COMPRESSION,
        },
        {
            "name": telemetry_name(cell),
            "subjects": [f"{subject.ROOT}.{cell}.telemetry.>"],
            "retention": "limits",
            "storage": "file",
            "num_replicas": limits.replicas,
            "discard": "old",
            "max_bytes": limits.telemetry_bytes,
            "max_age": DAY_NS,
            "max_consumers": 1_000,
            "compression": COMPRESSION,
        },
    ]


def artifact_config(cell: CellId, limits: Limits) -> dict[str, Any]:
    """Return the configuration of the stream below the object store of artefacts."""
    return _bucket_config(artifact_bucket(cell), limits.replicas, limits.artifact_bytes)


def checkpoint_config(cell: CellId, limits: Limits) -> dict[str, Any]:
    """Return the configuration of the stream below the object store of checkpoints.

    They have a bucket of their own, so that they cannot take the room of results, and an age
    limit, for those that nobody came to delete.
    """
    config = _bucket_config(checkpoint_bucket(cell), limits.replicas, limits.checkpoint_bytes)
    return {**config, "max_age": CHECKPOINT_DAYS_MAX * DAY_NS}


def queue_config(cell: CellId, limits: Limits) -> dict[str, Any]:
    """Return the configuration of the stream of queues: what is acknowledged leaves it."""
    return {
        "name": queue_name(cell),
        "subjects": [f"{subject.ROOT}.{cell}.queue.>"],
        "retention": "workqueue",
        "storage": "file",
        "num_replicas": limits.replicas,
        "discard": "new",
        "max_bytes": limits.queue_bytes,
        "max_age": QUEUE_DAYS_MAX * DAY_NS,
        "max_consumers": 10_000,
        "duplicate_window": 900 * SECOND_NS,
        "compression": COMPRESSION,
        "allow_direct": True,
    }


def workspace_config(cell: CellId, limits: Limits) -> dict[str, Any]:
    """Return the configuration of the stream of shipped trees.

    One message for each part, which storing it again makes young again; the oldest go with age, and
    what comes beyond the size is refused.
    """
    return {
        "name": workspace_name(cell),
        "subjects": [f"{subject.workspace(cell)}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": limits.replicas,
        "discard": "new",
        "max_bytes": limits.workspace_bytes,
        "max_msgs_per_subject": 1,
        "max_age": WORKSPACE_DAYS_MAX * DAY_NS,
        "max_consumers": 1_000,
        "duplicate_window": 120 * SECOND_NS,
        "allow_direct": True,
    }


def _bucket_config(bucket: str, replicas: int, bytes_max: int) -> dict[str, Any]:
    return {
        "name": bucket_stream(bucket),
        "subjects": [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "new",
        "max_bytes": bytes_max,
        "max_consumers": 20_000,
        "duplicate_window": 120 * SECOND_NS,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }
