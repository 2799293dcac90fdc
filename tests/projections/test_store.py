"""The file: what is written is whole, and a file that does not fit is made anew."""

import json
import os
import random
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dtest.errors import Conflict, InvalidDocument, TimedOut, Unavailable
from dtest.projections.store import Progress, Store, opened
from tests.projections.history import (
    STREAM,
    Delivery,
    History,
    Rows,
    in_batches,
    project,
    tables,
)

EVENT = "INSERT INTO events SELECT n, 0, 'id', 't', 's', 'x', 'e', now()::TIMESTAMP"
MANY_EVENTS = (
    f"{EVENT}, now()::TIMESTAMP, NULL, md5(n::VARCHAR), NULL FROM range(200000) AS numbers(n)"
)
FOREVER = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"


def events(start: int, count: int) -> list[tuple[Any, ...]]:
    """Rows of incompressible events."""
    luck = random.Random(start)
    return [
        (seq, 0, "id", "t", "s", "x", "e", 0, 0, None, luck.randbytes(200).hex(), None)
        for seq in range(start, start + count)
    ]


def count(store: Store) -> int:
    return int(store.query("SELECT count(*) FROM events").rows[0][0])


def seq_of(store: Store) -> int:
    progress = store.progress(STREAM)
    return progress.seq if progress is not None else 0


# -- all or nothing -------------------------------------------------------------------------------


def test_rows_and_position_are_written_together(store: Store) -> None:
    store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})

    assert (count(store), store.progress(STREAM)) == (3, Progress("c", 3))


@pytest.mark.parametrize(
    "broken",
    [
        {"leaders": [(1, None, 0, "h", 0, 1, None)]},
        {"workers": [("w", "i")]},
        {"testcases": [("t", "one", 1, "r", "w", "n", "o", "p", 0.0, "", "", "", None, 1)]},
    ],
    ids=["null", "too-short", "wrong-kind"],
)
def test_a_row_that_does_not_fit_leaves_nothing_behind(
    store: Store, broken: dict[str, Rows]
) -> None:
    store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, nothing may remain
        store.write(STREAM, Progress("c", 6), {"events": events(4, 3), **broken})

    assert (count(store), seq_of(store)) == (3, 3)
    store.write(STREAM, Progress("c", 6), {"events": events(4, 3)})
    assert (count(store), seq_of(store)) == (6, 6)


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**80])
def test_a_number_beyond_the_column_is_written_as_the_largest(store: Store, number: int) -> None:
    rows = [(1, "a", 5, "h", 0, 1, None), (2, "b", number, "h", 0, 1, None)]

    store.write(STREAM, Progress("c", 1), {"leaders": rows})

    assert store.query("SELECT previous_epoch FROM leaders ORDER BY 1").rows == [(5,), (2**63 - 1,)]


@contextmanager
def no_room_after(path: Path, more_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond that: writes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_the_writer_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "read-model.duckdb"
    store = Store(path)
    written = 0

    def fill() -> None:
        nonlocal written
        while True:
            store.write(STREAM, Progress("c", written + 100), {"events": events(written + 1, 100)})
            written += 100

    with no_room_after(path, 300_000), pytest.raises(Unavailable) as refused:
        fill()

    assert "too large" in refused.value.message.lower(), "the reason is told, not its consequence"
    assert refused.value.hint
    assert written > 0
    assert (count(store), seq_of(store)) == (written, written)
    store.close()
    with opened(path) as again:
        assert (count(again), seq_of(again)) == (written, written)
        again.write(STREAM, Progress("c", written + 100), {"events": events(written + 1, 100)})
        assert (count(again), seq_of(again)) == (written + 100, written + 100)


async def test_a_projector_whose_write_failed_ends_and_the_next_one_goes_on(
    tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.queue("t1", "t2")
    history.assign("t1", 1, "w1")
    history.start("t1", 1, "w1")
    history.finish("t1", 1, "w1")
    whole = Delivery(in_batches(history.stored, 2))
    with opened(tmp_path / "expected.duckdb") as store:
        await project(store, whole)
        expected = tables(store)
    load = Store._load  # noqa: SLF001
    note = Store._note  # noqa: SLF001
    for failing in ("events", "tasks_new", "attempts_changed", "workers", "progress"):
        with opened(tmp_path / f"{failing}.duckdb") as store:
            await project(store, whole, until=2)

            def broken(
                self: Store, statement: str, name: str, content: Any, failing: str = failing
            ) -> None:
                load(self, statement, name, content)
                if name == failing:
                    raise OSError(28, "No space left on device")

            def noted(self: Store, stream: str, progress: Progress, failing: str = failing) -> None:
                note(self, stream, progress)
                if failing == "progress":
                    raise OSError(28, "No space left on device")

            with monkeypatch.context() as patched:
                patched.setattr(Store, "_load", broken)
                patched.setattr(Store, "_note", noted)
                with pytest.raises(OSError, match="No space left"):
                    await project(store, whole)
            held = seq_of(store)
            assert store.query("SELECT max(seq) FROM events").rows == [(held,)]

            await project(store, whole)
            assert tables(store) == expected, failing


# -- files that do not fit ------------------------------------------------------------------------


def test_a_file_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "read-model.duckdb"
    with opened(path) as store:
        store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})

    with opened(path) as store:
        assert (count(store), seq_of(store)) == (3, 3)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE progress SET schema_hash = 'another'",
        "DROP TABLE progress",
        "ALTER TABLE progress DROP COLUMN schema_hash",
        "DROP TABLE progress; CREATE VIEW progress AS SELECT 1 AS one",
        "DELETE FROM progress",
    ],
    ids=["another-schema", "no-progress", "older-progress", "progress-is-a-view", "no-position"],
)
def test_a_file_of_another_schema_is_made_anew(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "read-model.duckdb"
    with opened(path) as store:
        store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql)

    with opened(path) as store:
        assert (count(store), store.progress(STREAM)) == (0, None)
        store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})


def test_a_file_of_somebody_else_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "read-model.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE events (a INTEGER)")

    with opened(path) as store:
        store.write(STREAM, Progress("c", 1), {"events": events(1, 1)})
        assert count(store) == 1


def damaged(path: Path, where: float, size: int = 64) -> None:
    """Overwrite bytes at an offset, or at a part (below 1) of the file."""
    content = bytearray(path.read_bytes())
    start = int(len(content) * where if 0 < where < 1 else where)
    content[start : start + size] = random.Random(7).randbytes(size)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with enough in it to be damaged anywhere."""
    path = tmp_path_factory.mktemp("filled") / "read-model.duckdb"
    with opened(path) as store:
        store.write(STREAM, Progress("c", 3), {})
    with duckdb.connect(str(path)) as connection:
        connection.execute(MANY_EVENTS)
    return path.read_bytes()


@pytest.mark.parametrize("where", [0, 8, 100, 4096, 8192, 12_288, 0.3, 0.5, 0.7, 0.9])
def test_a_damaged_file_is_made_anew(tmp_path: Path, filled: bytes, where: float) -> None:
    path = tmp_path / "read-model.duckdb"
    path.write_bytes(filled)
    damaged(path, where)

    with opened(path) as store:
        assert (count(store), store.progress(STREAM)) == (0, None)
        store.write(STREAM, Progress("c", 1), {"events": events(1, 1)})


@pytest.mark.parametrize("part", [0.0, 0.001, 0.02, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_made_anew(tmp_path: Path, filled: bytes, part: float) -> None:
    path = tmp_path / "read-model.duckdb"
    path.write_bytes(filled[: int(len(filled) * part)])

    with opened(path) as store:
        assert (count(store), store.progress(STREAM)) == (0, None)


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_a_file_beside_a_damaged_log_opens(tmp_path: Path, filled: bytes, size: int) -> None:
    """Whether the log's rows are lost or the file is, rows and position stay together."""
    path = tmp_path / "read-model.duckdb"
    path.write_bytes(filled)
    path.with_name("read-model.duckdb.wal").write_bytes(random.Random(7).randbytes(size))

    with opened(path) as store:
        assert (count(store), seq_of(store)) in {(200_000, 3), (0, 0)}
        store.write(STREAM, Progress("c", 4), {"events": events(4, 1)})


def test_damage_that_shows_while_writing_makes_the_next_start_rebuild(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "read-model.duckdb"
    store = Store(path)
    store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})

    def broken(*_: object) -> None:
        raise duckdb.Error("Corrupt database file: computed checksum 1 does not match 2")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "_load", broken)
        with pytest.raises(Unavailable, match="Corrupt"):
            store.write(STREAM, Progress("c", 4), {"events": events(4, 1)})
    store.close()

    with opened(path) as again:
        assert (count(again), again.progress(STREAM)) == (0, None)


HOLD = """
import sys
from pathlib import Path
from dtest.projections.store import opened

with opened(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_file_in_use_by_another_process_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "read-model.duckdb"
    with opened(path) as store:
        store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        inode = path.stat().st_ino

        with pytest.raises(Conflict, match=r"read-model\.duckdb"):
            Store(path)

        assert path.stat().st_ino == inode
        other.stdin.close()
        assert other.wait(60) == 0
    with opened(path) as store:
        assert (count(store), seq_of(store)) == (3, 3)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "read-model.duckdb"
    path.mkdir()

    with pytest.raises(Unavailable, match=r"read-model\.duckdb"):
        Store(path)

    assert path.is_dir()


def test_a_reset_store_is_empty_and_usable(store: Store) -> None:
    store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})

    store.reset()

    assert (count(store), store.progress(STREAM)) == (0, None)
    store.write(STREAM, Progress("c", 1), {"events": events(1, 1)})
    assert count(store) == 1


# -- questions of users ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that survives one attack after the other."""
    with opened(tmp_path_factory.mktemp("attacked") / "read-model.duckdb") as store:
        store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})
        yield store


def test_a_users_select_is_answered(store: Store) -> None:
    store.write(STREAM, Progress("c", 3), {"events": events(1, 3)})

    answer = store.query_untrusted("SELECT seq, time FROM events ORDER BY 1", rows_max=2)

    assert answer.columns == ("seq", "time")
    assert answer.rows == [(1, "1970-01-01T00:00:00.000000Z"), (2, "1970-01-01T00:00:00.000000Z")]
    assert answer.truncated


@pytest.mark.parametrize(
    "sql",
    [
        "COPY events TO '{out}'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_json('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM read_duckdb('{out}')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT getenv('HOME')",
        "ATTACH '{out}' AS other",
        "ATTACH ':memory:' AS other",
        "DETACH read-model",
        "USE memory",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "PRAGMA enable_external_access",
        "SET enable_external_access = true",
        "SET threads = 64",
        "RESET memory_limit",
        "CALL enable_logging()",
        "SELECT * FROM enable_logging()",
        "SELECT * FROM force_checkpoint()",
        "EXPORT DATABASE '{out}'",
        "IMPORT DATABASE '{out}'",
        "VACUUM",
        "CHECKPOINT",
        "BEGIN",
        "COMMIT",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE events",
        "DROP TABLE events",
        "CREATE TABLE mine (a INTEGER)",
        "CREATE OR REPLACE MACRO count(x) AS 1",
        "INSERT INTO progress VALUES ('x', 'y', 1, 'z')",
        "UPDATE progress SET seq = 1000",
        "DELETE FROM events",
        "TRUNCATE events",
        "ALTER TABLE events DROP COLUMN data",
        "WITH gone AS (DELETE FROM events RETURNING *) SELECT * FROM gone",
        "WITH more AS (INSERT INTO progress VALUES ('x', 'y', 1, 'z') RETURNING *) FROM more",
        "WITH moved AS (UPDATE progress SET seq = 9 RETURNING *) SELECT * FROM moved",
        "WITH out AS (COPY events TO '{out}') SELECT 1",
        "SELECT * FROM query('DELETE FROM events')",
        "SELECT * FROM query('COPY events TO ''{out}''')",
        "PREPARE mine AS SELECT 1",
        "EXECUTE mine",
        "EXPLAIN ANALYZE DELETE FROM events",
        "SELECT ?",
        "SELECT $1",
        "",
        ";",
        "-- nothing",
        "SELEC 1",
        "SELECT * FROM nothing",
        "SELECT 1/0::BLOB",
    ],
)
def test_whatever_else_a_user_writes_is_refused_and_does_nothing(
    tmp_path: Path, attacked: Store, sql: str
) -> None:
    before = tables(attacked)
    settings = attacked.query("SELECT * FROM duckdb_settings() ORDER BY 1").rows
    out = tmp_path / "out"

    with pytest.raises(InvalidDocument):
        attacked.query_untrusted(sql.format(out=out))

    assert tables(attacked) == before
    assert attacked.query("SELECT * FROM duckdb_settings() ORDER BY 1").rows == settings
    assert not out.exists()
    last = seq_of(attacked) + 1
    attacked.write(STREAM, Progress("c", last), {"events": events(last, 1)})
    assert count(attacked) == last


def test_a_python_object_of_the_process_is_no_table(store: Store) -> None:
    secret = store.query("SELECT 1")

    with pytest.raises(InvalidDocument):
        store.query_untrusted("SELECT * FROM secret")

    assert secret.rows == [(1,)]


def test_a_query_without_end_is_ended(tmp_path: Path) -> None:
    store = Store(tmp_path / "read-model.duckdb", query_s_max=0.2)
    try:
        with pytest.raises(TimedOut, match=r"0\.2 s"):
            store.query_untrusted(FOREVER)

        assert store.query_untrusted("SELECT 1").rows == [(1,)], "the next one is not affected"
    finally:
        store.close()


def test_a_slow_query_of_a_user_holds_up_no_writer(tmp_path: Path) -> None:
    store = Store(tmp_path / "read-model.duckdb", query_s_max=30.0)
    found: list[Exception] = []

    def ask() -> None:
        try:
            store.query_untrusted("SELECT sum(a.range) FROM range(400000) a, range(2000) b")
        except (InvalidDocument, TimedOut) as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for seq in range(1, 6):
            store.write(STREAM, Progress("c", seq), {"events": events(seq, 1)})
        assert count(store) == 5
    finally:
        thread.join()
        store.close()
    assert found == []


AT = "TIMESTAMP '2026-11-01 10:00:00'"
AT_TEXT = "2026-11-01T10:00:00.000000Z"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "'nan'::DOUBLE, 'infinity'::DOUBLE, '-infinity'::FLOAT, 0.5::FLOAT",
            [None, None, None, 0.5],
        ),
        (f"DATE '2026-11-01', {AT}, TIME '10:00:00'", ["2026-11-01", AT_TEXT, "10:00:00"]),
        ("'99999-01-01'::TIMESTAMP, INTERVAL 1 DAY", ["99999-01-01 00:00:00", "1 day, 0:00:00"]),
        ("'a\\xFF'::BLOB, 1.5::DECIMAL(9, 2)", ["a\\xff", "1.50"]),
        (f"[1, 2], {{'a': [{AT}]}}", [[1, 2], {"a": [AT_TEXT]}]),
        (f"MAP {{'k': 'nan'::DOUBLE}}, MAP {{{AT}: 1}}", [{"k": None}, {AT_TEXT: 1}]),
        ("MAP {1: 2}, MAP {[1]: 2}", [{"1": 2}, {"key": [[1]], "value": [2]}]),
        ("1::HUGEINT << 100, 1::BIGINT << 60", [str(1 << 100), 1 << 60]),
        ("'x' || chr(0), '', NULL, true", ["x\0", "", None, True]),
    ],
)
def test_an_answer_can_always_be_written_as_json(
    store: Store, sql: str, expected: list[object]
) -> None:
    answer = store.query_untrusted(f"SELECT {sql}")

    (row,) = answer.rows
    assert list(row) == expected
    assert json.loads(json.dumps(row, allow_nan=False)) == expected


def test_an_instant_with_a_zone_is_refused_with_the_way_to_write_it(store: Store) -> None:
    with pytest.raises(InvalidDocument) as refused:
        store.query_untrusted("SELECT now() AS at")

    assert "TIMESTAMP" in refused.value.hint


def test_an_answer_has_a_limit_in_bytes(store: Store) -> None:
    answer = store.query_untrusted("SELECT repeat('x', 10000000) FROM range(40)")

    assert answer.truncated
    assert 0 < len(answer.rows) < 40


def test_a_directory_that_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        with opened(tmp_path / "made" / "read-model.duckdb") as store:
            assert store.path.parent.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(mask)
