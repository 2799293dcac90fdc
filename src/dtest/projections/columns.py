"""The columns of the rows that statements take, as the schema names them. Pure but for its text."""

import re
from importlib import resources

_TABLE = re.compile(r"^CREATE TABLE (\w+) \((.*?)^\);", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r"^    ([a-z_]+) [A-Z]", re.MULTILINE)
CHANGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tasks_changed": (
        "tasks",
        (
            *("task_id", "status", "reason", "attempt", "worker_id", "hardware"),
            *("since", "flaky", "upstream"),
        ),
    ),
    "attempts_changed": (
        "attempts",
        (
            *("task_id", "attempt", "status", "reason", "detail", "started_at", "finished_at"),
            *("exit_code", "signal", "cpu_s", "memory_bytes_peak", "output_bytes"),
            *("output_bytes_dropped", "artifacts"),
        ),
    ),
    "checkpoints": (
        "attempts",
        (
            *("task_id", "attempt", "checkpoint", "checkpoint_bytes", "checkpoint_at"),
            "checkpoint_problem",
        ),
    ),
    "suites_new": ("suites", ("run_id", "document", "muted", "seq")),
    "suites": (
        "suites",
        (
            *("run_id", "phase", "divided", "tests", "planned", "predicted_s", "notes", "round"),
            *("cut", "cut_detail", "cut_hint", "exit_code", "counts"),
        ),
    ),
}
"""The table, and its columns, of each statement whose rows are only a part of it."""
TABLE_OF = {"tasks_new": "tasks", "attempts_new": "attempts"}
"""The table of each statement whose rows are whole, where the names differ."""


def schema_text() -> str:
    """Return the schema of the read model."""
    return (resources.files("dtest.projections") / "sql" / "schema.sql").read_text("utf-8")


def _columns() -> dict[str, tuple[str, ...]]:
    found = {name: tuple(_COLUMN.findall(body)) for name, body in _TABLE.findall(schema_text())}
    parts = {statement: columns for statement, (_, columns) in CHANGES.items()}
    return {**found, **{name: found[table] for name, table in TABLE_OF.items()}, **parts}


COLUMNS = _columns()
"""By statement."""
