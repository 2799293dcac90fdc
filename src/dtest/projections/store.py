"""The only door to DuckDB: one file, one writer, rows and position in one transaction."""

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from dtest.errors import InvalidDocument, TimedOut
from dtest.projections.rows import Row

ROWS_MAX = 10_000
QUERY_S_MAX = 30.0
_TYPES: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
}
_CHANGE_COLUMNS = {
    "tasks_changed": (
        "tasks",
        ("task_id", "status", "reason", "attempt", "worker_id", "hardware", "since", "flaky")
        + ("upstream",),
    ),
    "attempts_changed": (
        "attempts",
        ("task_id", "attempt", "status", "reason", "detail", "started_at", "finished_at")
        + ("exit_code", "signal", "cpu_s", "memory_bytes_peak", "output_bytes")
        + ("output_bytes_dropped", "artifacts"),
    ),
}
_TABLE_OF = {"tasks_new": "tasks", "attempts_new": "attempts"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stream is projected."""

    created: str
    seq: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool

    def records(self) -> list[dict[str, Any]]:
        """Return the rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Store:
    """One database file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._schema = _sql("schema.sql")
        self._hash = hashlib.sha256(self._schema.encode()).hexdigest()[:16]
        self._statements = dict(_named(_sql("write.sql")))
        self._connection = self._open()
        self._columns = self._read_columns()

    def _open(self) -> duckdb.DuckDBPyConnection:
        """Open the file; one of another schema, or one that is damaged, is replaced."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = _connect(self.path)
            found = connection.execute(
                "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'progress'"
            ).fetchone()
            if found == (1,):
                stale = connection.execute(
                    "SELECT count(*) FROM progress WHERE schema_hash <> ?", [self._hash]
                ).fetchone()
                if stale == (0,):
                    return connection
            elif found == (0,):
                connection.execute(self._schema)
                return connection
            connection.close()
        except (duckdb.CatalogException, duckdb.SerializationException, duckdb.FatalException):
            pass
        self.remove()
        connection = _connect(self.path)
        connection.execute(self._schema)
        return connection

    def remove(self) -> None:
        """Delete the file; the journal has everything."""
        for path in (self.path, self.path.with_name(f"{self.path.name}.wal")):
            path.unlink(missing_ok=True)

    def reset(self) -> None:
        """Start from nothing."""
        self._connection.close()
        self.remove()
        self._connection = self._open()

    def _read_columns(self) -> dict[str, list[tuple[str, str]]]:
        columns: dict[str, list[tuple[str, str]]] = {}
        listing = self._connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE schema_name = 'main' ORDER BY table_name, column_index"
        )
        for table, column, kind in listing.fetchall():
            columns.setdefault(table, []).append((column, kind))
        return columns

    def progress(self, stream: str) -> Progress | None:
        """Return how far a stream is projected."""
        found = self._connection.execute(
            "SELECT created, seq FROM progress WHERE stream = ?", [stream]
        ).fetchone()
        return Progress(*found) if found is not None else None

    def write(self, stream: str, progress: Progress, rows: Mapping[str, Sequence[Row]]) -> None:
        """Write rows and the position they lead to, all or nothing."""
        connection = self._connection
        connection.begin()
        try:
            for name, statement in self._statements.items():
                content = rows.get(name)
                if content:
                    self._load(statement, name, content)
            row = (stream, progress.created, progress.seq, self._hash)
            self._load(self._statements["progress"], "progress", [row])
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

    def _load(self, statement: str, name: str, content: Sequence[Row]) -> None:
        if name == "forget_telemetry":
            self._connection.execute(statement)
            return
        self._connection.register("batch", self._table(name, content))
        try:
            self._connection.execute(statement)
        finally:
            self._connection.unregister("batch")

    def _table(self, name: str, content: Sequence[Row]) -> pa.Table:
        table, wanted = _CHANGE_COLUMNS.get(name, (_TABLE_OF.get(name, name), ()))
        kinds = dict(self._columns[table])
        names = wanted or tuple(kinds)
        arrays = [
            _array(values, _TYPES[kinds[column]])
            for column, values in zip(names, zip(*content, strict=True), strict=True)
        ]
        return pa.table(arrays, names=list(names))

    def query(
        self, sql: str, parameters: Sequence[object] = (), *, rows_max: int = ROWS_MAX
    ) -> Answer:
        """Run one trusted statement on a cursor of its own."""
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, list(parameters))
            columns = tuple(str(item[0]) for item in cursor.description or ())
            rows = cursor.fetchmany(rows_max + 1)
        finally:
            cursor.close()
        plain = [tuple(map(_plain, row)) for row in rows[:rows_max]]
        return Answer(columns, plain, truncated=len(rows) > rows_max)

    def query_untrusted(self, sql: str, *, rows_max: int = ROWS_MAX) -> Answer:
        """Run one SELECT that a user wrote. Raises InvalidDocument or TimedOut.

        Files and extensions are out of reach for every statement of this database.
        """
        cursor = self._connection.cursor()
        timer = threading.Timer(QUERY_S_MAX, cursor.interrupt)
        try:
            statements = cursor.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                message = "only a single SELECT statement is allowed"
                raise InvalidDocument(message, hint="the journal is changed by events alone")
            timer.start()
            cursor.execute(statements[0])
            columns = tuple(str(item[0]) for item in cursor.description or ())
            rows = cursor.fetchmany(rows_max + 1)
        except duckdb.InterruptException as error:
            message = f"the query took longer than {QUERY_S_MAX:g} s"
            raise TimedOut(message, hint="narrow it by WHERE or LIMIT") from error
        except duckdb.Error as error:
            raise InvalidDocument(str(error).strip(), hint="see `dtest db query --help`") from error
        finally:
            timer.cancel()
            cursor.close()
        plain = [tuple(map(_plain, row)) for row in rows[:rows_max]]
        return Answer(columns, plain, truncated=len(rows) > rows_max)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path))
    for setting in (
        "SET enable_external_access = false",
        "SET autoload_known_extensions = false",
        "SET autoinstall_known_extensions = false",
        "SET TimeZone = 'UTC'",
        "SET memory_limit = '1GB'",
        "SET threads = 2",
        "SET lock_configuration = true",
    ):
        connection.execute(setting)
    return connection


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


def _plain(value: object) -> object:
    """Return what JSON can hold; instants as RFC 3339 in UTC."""
    if isinstance(value, datetime):
        return f"{value.isoformat(timespec='microseconds')}Z"
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return value
    return str(value)


def _sql(name: str) -> str:
    return resources.files("dtest.projections").joinpath("sql", name).read_text(encoding="utf-8")


def _named(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split("-- name: ")[1:]:
        name, _, statement = part.partition("\n")
        yield name.strip(), statement.strip()


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    """Open a store for the length of a block."""
    store = Store(path)
    try:
        yield store
    finally:
        store.close()
