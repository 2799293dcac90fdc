"""The only door to DuckDB: one file, one writer, rows and position in one transaction."""

import hashlib
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import structlog

from dtest.errors import Conflict, InvalidDocument, TimedOut, Unavailable
from dtest.projections.columns import CHANGES, TABLE_OF, schema_text
from dtest.projections.plain import Plain
from dtest.projections.rows import Row

log = structlog.get_logger()

ROWS_MAX = 10_000
MEMORY_MB_MAX = 200
"""Of the database; what needs more is put on the disk meanwhile."""
ROWS_AT_ONCE = 2_000
"""Of an answer that is read piece by piece."""
ANSWER_BYTES_MAX = 64 << 20
"""Of an answer to a user's query, about."""
QUERY_S_MAX = 30.0
DETAIL_CHARS_MAX = 2_000
_TYPES: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
}
_FAILED_WRITES = (
    duckdb.IOException,
    duckdb.TransactionException,
    duckdb.FatalException,
    duckdb.OutOfMemoryException,
)


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

    def __init__(self, path: Path, *, query_s_max: float = QUERY_S_MAX) -> None:
        self.path = path
        self._query_s_max = query_s_max
        self._schema = schema_text()
        self._hash = hashlib.sha256(self._schema.encode()).hexdigest()[:16]
        self._statements = dict(_named(_sql("write.sql")))
        self._connection = self._open()
        self._columns = self._read_columns()

    def _open(self) -> duckdb.DuckDBPyConnection:
        """Open the file; one of another schema, or one that is damaged, is made anew.

        Raises Conflict if another process has it, Unavailable if there can be none.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.path.exists() and (found := self._existing()) is not None:
                return found
            self.remove()
            connection = _connect(self.path)
            connection.execute(self._schema)
        except (OSError, duckdb.Error) as error:
            message = f"cannot make {self.path}: {error}"
            raise Unavailable(message, hint="free disk space, or give another place") from error
        return connection

    def _existing(self) -> duckdb.DuckDBPyConnection | None:
        """Return a connection to a sound file of this schema, none if it has to be made anew."""
        connection = None
        try:
            connection = _connect(self.path)
            if self._is_ours(connection):
                return connection
            reason = "of another schema"
        except duckdb.Error as error:
            if "Could not set lock" in str(error):
                message = f"another process has {self.path} open"
                raise Conflict(message, hint="each API needs a file of its own") from error
            reason = _brief(error)
        if connection is not None:
            connection.close()
        log.warning("read_model_made_anew", path=str(self.path), reason=reason)
        return None

    def _is_ours(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Say whether the schema is this one. Raises duckdb.Error for what cannot be read.

        Reads every block once, for otherwise damage would stop each start at the same place.
        """
        hashes = connection.execute("SELECT DISTINCT schema_hash FROM progress").fetchall()
        if hashes != [(self._hash,)]:
            return False
        tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        for (table,) in tables:
            connection.execute(f'SELECT max(hash(every)) FROM "{table}" AS every').fetchall()  # noqa: S608 - names of the catalogue
        return True

    def remove(self) -> None:
        """Delete the file and what lies beside it; the journal has everything."""
        for path in (self.path, *self.path.parent.glob(f"{self.path.name}.*")):
            if not path.is_dir() or path == self.path:
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
            self._note(stream, progress)
            connection.commit()
        except BaseException as error:
            with suppress(duckdb.Error):  # a commit that failed has rolled back by itself
                connection.rollback()
            if isinstance(error, _FAILED_WRITES) or _is_damage(error):
                raise self._unwritable(error) from error
            raise

    def _note(self, stream: str, progress: Progress) -> None:
        """Note how far a stream is projected; an update costs a third of ``INSERT OR REPLACE``."""
        row = (progress.created, progress.seq, self._hash, stream)
        changed = self._connection.execute(self._statements["progress_moved"], row).fetchone()
        if changed != (1,):
            self._connection.execute(self._statements["progress_begun"], row)

    def _unwritable(self, error: BaseException) -> Unavailable:
        message = f"cannot write {self.path}: {_brief(error)}"
        if _is_damage(error):
            self.close()
            self.remove()
            return Unavailable(message, hint="start again: the file is made anew")
        return Unavailable(message, hint="nothing is lost: free disk space and start again")

    def _load(self, statement: str, name: str, content: Sequence[Row]) -> None:
        if not content[0]:  # a statement that takes no rows
            self._connection.execute(statement)
            return
        self._connection.register("batch", self._table(name, content))
        try:
            self._connection.execute(statement)
        finally:
            self._connection.unregister("batch")

    def _table(self, name: str, content: Sequence[Row]) -> pa.Table:
        table, wanted = CHANGES.get(name, (TABLE_OF.get(name, name), ()))
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
        plain = Plain()
        return Answer(columns, [plain.row(row) for row in rows[:rows_max]], len(rows) > rows_max)

    def records(
        self, sql: str, parameters: Sequence[object] = (), *, at_once: int = ROWS_AT_ONCE
    ) -> Generator[list[dict[str, Any]], None, None]:
        """Yield all rows of a trusted statement by column name, so many at once.

        They are those of one moment, however long the reader takes.
        """
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, list(parameters))
            columns = [str(item[0]) for item in cursor.description or ()]
            while rows := cursor.fetchmany(at_once):
                plain = Plain()
                yield [dict(zip(columns, plain.row(row), strict=True)) for row in rows]
        finally:
            cursor.close()

    def query_untrusted(self, sql: str, *, rows_max: int = ROWS_MAX) -> Answer:
        """Run one SELECT that a user wrote. Raises InvalidDocument or TimedOut.

        Files and extensions are out of reach for every statement of this database. The
        transaction is read-only, for a SELECT may begin with an INSERT (``WITH … AS (INSERT``).
        """
        cursor = self._connection.cursor()
        timer = threading.Timer(self._query_s_max, cursor.interrupt)
        try:
            statements = cursor.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                message = "only a single SELECT statement is allowed"
                raise InvalidDocument(message, hint="the journal is changed by events alone")
            timer.start()
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            cursor.execute(statements[0])
            return _fetched(cursor, rows_max)
        except duckdb.InterruptException as error:
            message = f"the query took longer than {self._query_s_max:g} s"
            raise TimedOut(message, hint="narrow it by WHERE or LIMIT") from error
        except (duckdb.Error, UnicodeError) as error:
            raise InvalidDocument(_brief(error), hint="see `dtest db query --help`") from error
        finally:
            timer.cancel()
            cursor.close()

    def fingerprints(self) -> dict[str, tuple[int, int]]:
        """Return, of each table of facts, how many rows it has and a digest of them all."""
        found: dict[str, tuple[int, int]] = {}
        for table in sorted(self._columns.keys() - {"progress", "telemetry"} - self._views()):
            row = self._connection.execute(
                f'SELECT count(*), coalesce(bit_xor(hash(every)), 0) FROM "{table}" AS every'  # noqa: S608 - names of the catalogue
            ).fetchone()
            if row is not None:
                found[table] = (int(row[0]), int(row[1]))
        return found

    def _views(self) -> set[str]:
        return {name for (name,) in self.query("SELECT view_name FROM duckdb_views()").rows}

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
        f"SET memory_limit = '{MEMORY_MB_MAX}MB'",
        "SET max_temp_directory_size = '4GB'",
        "SET threads = 2",
        "SET lock_configuration = true",
    ):
        connection.execute(setting)
    return connection


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    try:
        return pa.array(values, kind)
    except (OverflowError, pa.ArrowInvalid):
        if not pa.types.is_integer(kind):
            raise
    bound = 1 << (kind.bit_width - 1)  # JSON has larger numbers than columns have room for
    held = [None if value is None else max(-bound, min(bound - 1, value)) for value in values]
    return pa.array(held, kind)


def _fetched(cursor: duckdb.DuckDBPyConnection, rows_max: int) -> Answer:
    columns = cursor.description or ()
    for name, kind, *_ in columns:
        if "WITH TIME ZONE" in str(kind):
            message = f"the column {name} has a time zone"
            raise InvalidDocument(message, hint="all is UTC here: write `now()::TIMESTAMP`")
    plain = Plain()
    rows: list[tuple[Any, ...]] = []
    row = cursor.fetchone()
    while row is not None and len(rows) < rows_max and plain.bytes < ANSWER_BYTES_MAX:
        rows.append(plain.row(row))
        row = cursor.fetchone()
    return Answer(tuple(str(item[0]) for item in columns), rows, truncated=row is not None)


def _is_damage(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, duckdb.Error) and (
        isinstance(error, duckdb.SerializationException)
        or "orrupt database file" in text
        or "Could not read enough bytes" in text
    )


def _brief(error: BaseException) -> str:
    return str(error).strip()[:DETAIL_CHARS_MAX]


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
