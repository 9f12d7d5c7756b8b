"""The SQLite sink: exact with a key, what a bad row, a locked or full database does, and names that need quoting."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from connector_fakes import attached, context, tuples, write

from rainband.connectors import ConnectorError, SqliteSink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def rows(path: Path, query: str = "SELECT * FROM t") -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.db"


def test_insert_makes_the_table(path: Path) -> None:
    seen = write(SqliteSink(path, "t"), "a b c d e", (None, 1.5, "x", b"y", None), (2, 2.5, "z", b"", None))
    assert not seen.failed
    assert rows(path) == [(None, 1.5, "x", b"y", None), (2, 2.5, "z", b"", None)]
    types = [(name, kind) for _, name, kind, *_ in rows(path, "PRAGMA table_info(t)")]
    assert types == [("a", "INTEGER"), ("b", "REAL"), ("c", "TEXT"), ("d", "BLOB"), ("e", "")]
    write(SqliteSink(path, "t"), "a b c d e", (3, 0.0, "", b"", None))
    assert len(rows(path)) == 3


def test_a_key_makes_replays_harmless(path: Path) -> None:
    sink = SqliteSink(path, "t", key=["word", "day"])
    attached(sink)
    batch = tuples("word n day", ("a", 1, 1), ("b", 5, 1), ("a", 2, 1), ("a", 9, 2))
    sink.process_batch(batch)
    sink.process_batch(batch)
    sink.close()
    assert sorted(rows(path)) == [("a", 2, 1), ("a", 9, 2), ("b", 5, 1)]


def test_all_columns_are_the_key(path: Path) -> None:
    write(SqliteSink(path, "t", key="a"), "a", (1,), (1,), (2,))
    assert rows(path) == [(1,), (2,)]


def test_columns_are_chosen(path: Path) -> None:
    sink = SqliteSink(path, "t", columns=["b", "a"])
    seen = attached(sink)
    sink.process_batch([*tuples("a b c", (1, 2, 3)), *tuples("b a", (4, 5)), *tuples("a", (6,))])
    sink.close()
    assert rows(path) == [(2, 1), (4, 5)]
    assert [(reason, retry) for _, reason, retry in seen.failed] == [
        ('table "t" wants the field "b", which this tuple has not', False)
    ]


def test_names_are_quoted(path: Path) -> None:
    table = 'x"; DROP TABLE t; --'
    write(SqliteSink(path, table, key="order"), "order select", (1, 2))
    assert rows(path, 'SELECT "order", "select" FROM "x""; DROP TABLE t; --"') == [(1, 2)]
    with pytest.raises(ValueError, match="'' cannot be a name in SQLite"):
        write(SqliteSink(path, ""), "a", (1,))


def test_values_without_a_type_of_sqlite(path: Path) -> None:
    moment = datetime(2024, 2, 29, 12, tzinfo=UTC)
    write(SqliteSink(path, "t"), "a b c d", (date(2024, 2, 29), moment, Decimal("1.10"), True))
    assert rows(path) == [("2024-02-29", "2024-02-29T12:00:00+00:00", "1.10", 1)]


def test_a_bad_row_fails_alone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (n INTEGER NOT NULL CHECK (n < 100))")
    seen = write(SqliteSink(path, "t"), "n", (1,), (None,), ([],), (100,), (2**70,), (2,))
    assert rows(path) == [(1,), (2,)]
    assert [(tup["n"], retry) for tup, _, retry in seen.failed] == [
        (None, False),
        ([], False),
        (100, False),
        (2**70, False),
    ]
    assert 'table "t" cannot take this tuple: NOT NULL constraint failed: t.n' in seen.failed[0][1]


def test_a_bad_first_row_of_a_new_table(path: Path) -> None:
    seen = write(SqliteSink(path, "t"), "n", ([],), (1,))
    assert rows(path) == [(1,)]
    assert len(seen.failed) == 1


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_locked_database_fails_the_batch_and_not_the_run(path: Path) -> None:
    sink = SqliteSink(path, "t", timeout_s=0.01)
    seen = attached(sink)
    with locked(path):
        sink.process_batch(tuples("n", (1,), (2,)))
    assert [(reason, retry) for _, reason, retry in seen.failed] == [(f'"{path}" was locked for 0.01 s', True)] * 2
    sink.process_batch(tuples("n", (1,), (2,)))
    with locked(path):
        sink.process_batch(tuples("n", (3,)))
    sink.close()
    assert rows(path) == [(1,), (2,)]
    assert len(seen.failed) == 3


def test_two_tasks_write_one_table(path: Path) -> None:
    sinks = [SqliteSink(path, "t", key="n") for _ in range(2)]
    for n, sink in enumerate(sinks):
        attached(sink, context(tasks=2, index=n))
    for n in range(20):
        sinks[n % 2].process_batch(tuples("n", (n,)))
    for sink in sinks:
        sink.close()
    assert len(rows(path)) == 20


def test_full_disk(path: Path) -> None:
    sink = SqliteSink(path, "t")
    attached(sink)
    sink.process_batch(tuples("v", ("kept",)))
    assert sink._database is not None
    pages = sink._database.execute("PRAGMA page_count").fetchone()[0]
    sink._database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says on a full disk
    with pytest.raises(ConnectorError) as caught:
        sink.process_batch(tuples("v", ("x" * 100_000,), ("y",)))
    assert str(caught.value) == f'database "{path}" cannot take 2 tuples: database or disk is full'
    sink.process_batch(tuples("v", ("y",)))
    sink.close()
    assert rows(path) == [("kept",), ("y",)]


def test_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("hello" * 1000)
    with pytest.raises(ConnectorError, match=r'text.db" cannot be opened: file is not a database'):
        write(SqliteSink(path, "t"), "a", (1,))
    with pytest.raises(ConnectorError, match="cannot be opened: unable to open database file"):
        write(SqliteSink(tmp_path / "no" / "x.db", "t"), "a", (1,))


def test_an_old_table_that_does_not_fit(path: Path) -> None:
    write(SqliteSink(path, "t"), "a", (1,))
    with pytest.raises(ConnectorError, match="cannot take 1 tuples: table t has no column named b"):
        write(SqliteSink(path, "t"), "a b", (1, 2))
    with pytest.raises(ConnectorError, match="ON CONFLICT clause does not match any PRIMARY KEY"):
        write(SqliteSink(path, "t", key="a"), "a", (1,))
    with pytest.raises(ConnectorError, match='the key "k" is no column of "t"; they are a'):
        write(SqliteSink(path, "t", key="k"), "a", (1,))
    assert rows(path) == [(1,)]
