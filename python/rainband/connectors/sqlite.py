"""`SqliteSink`: rows of a SQLite table, a transaction a batch.

The last stage of a tuple's path, a `BatchBolt`, on its own thread; the connection is made in `prepare`, because it
belongs to the thread that made it. A batch is one transaction and its tuples are acked after the commit. With `key` a
row is written over the row of the same key, so that a tuple which comes again changes nothing: what is in the table
is exact. Without it such a tuple is a second row.

    what goes wrong                                  what happens
    a value SQLite cannot hold, a broken constraint  that tuple goes to the dead letters, the others are written
    the database stays locked for `timeout_s`        the batch fails and its tuples come again
    disk full, not a database, no such column        the run stops, nothing of the batch is in the table
"""

from __future__ import annotations

import os
import sqlite3
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rainband.component import BatchBolt, TaskContext
from rainband.errors import ConnectorError

from .paths import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rainband._core import Tuple

__all__ = ["SqliteSink"]

_TYPES = {bool: "INTEGER", int: "INTEGER", float: "REAL", bytes: "BLOB", str: "TEXT"}
_ADAPTERS: dict[type, Callable[[Any], str]] = {  # the module's own are deprecated
    date: date.isoformat,
    datetime: datetime.isoformat,
    Decimal: str,
    UUID: str,
}
_BAD_VALUE = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    OverflowError,
    ValueError,
)


class SqliteSink(BatchBolt):
    """Inserts tuples into a table, a transaction a batch.

    Args:
        path: of the database; it is made if it is not there.
        table: its name; it is made if it is not there, with column types after the first batch's values.
        key: columns that name a row; a tuple of the same key takes the row's place.
        columns: which fields go into the table, under their own names; those of the first tuple if not given.
        timeout_s: how long to wait for another writer of the database.

    Example:
        >>> import sqlite3, tempfile
        >>> from functools import partial
        >>> from rainband.testing import BoltHarness
        >>> path = tempfile.mkdtemp() + "/counts.db"
        >>> with BoltHarness(partial(SqliteSink, path, "counts", key=["word"])) as sink:
        ...     _ = sink.process(word="a", n=1), sink.process(word="a", n=2)
        ...     sink.flush()
        >>> database = sqlite3.connect(path)
        >>> database.execute("SELECT * FROM counts").fetchall()
        [('a', 2)]
        >>> database.close()
    """

    on_error = "stop"

    def __init__(
        self,
        path: str | os.PathLike[str],
        table: str,
        *,
        key: Sequence[str] = (),
        columns: Sequence[str] | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self.path = os.fspath(path)
        self.table = table
        self.key = [key] if isinstance(key, str) else list(key)
        self._columns = None if columns is None else [columns] if isinstance(columns, str) else list(columns)
        self._timeout_s = timeout_s
        self._database: sqlite3.Connection | None = None
        self._insert = ""

    def prepare(self, context: TaskContext, /) -> None:  # noqa: ARG002 - the hook has it
        """Open the database.

        Raises:
            ConnectorError: it cannot be opened, or it is none.
        """
        try:
            # Transactions are ours: the module's own way begins them late and would commit them at surprising moments.
            self._database = sqlite3.connect(self.path, timeout=self._timeout_s, isolation_level=None)
            self._database.execute("PRAGMA schema_version").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise self._failure("cannot be opened", error) from error

    def process_batch(self, tuples: Sequence[Tuple], /) -> None:
        """Write one batch.

        Raises:
            ConnectorError: the database cannot be written.
        """
        try:
            self._write(tuples)
        except sqlite3.OperationalError as error:
            self._rollback()
            if not _is_busy(error):
                raise self._failure(f"cannot take {len(tuples)} tuples", error) from error
            for tup in tuples:
                self.fail(tup, f'"{self.path}" was locked for {self._timeout_s:g} s')
        except sqlite3.Error as error:
            self._rollback()
            raise self._failure(f"cannot take {len(tuples)} tuples", error) from error
        except BaseException:
            self._rollback()
            raise

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _write(self, tuples: Sequence[Tuple]) -> None:
        assert self._database is not None
        execute = self._database.execute
        if not self._insert:
            execute("BEGIN IMMEDIATE")
            insert = self._make_table(tuples)
            execute("COMMIT")  # before the rows, whose transaction may be rolled back
            self._insert = insert
        execute("BEGIN IMMEDIATE")  # not deferred: two tasks that both read first could not both go on to write
        rows = []
        for tup in tuples:
            row = self._row(tup)
            if row is not None:
                rows.append((tup, row))
        try:
            self._database.executemany(self._insert, [row for _, row in rows])
        except _BAD_VALUE:
            # One of them is no good; which one is found by writing them one at a time.
            execute("ROLLBACK")
            execute("BEGIN IMMEDIATE")
            for tup, row in rows:
                try:
                    execute(self._insert, row)
                except _BAD_VALUE as error:
                    self.fail(tup, f'table "{self.table}" cannot take this tuple: {error}', retry=False)
        execute("COMMIT")

    def _row(self, tup: Tuple) -> tuple[Any, ...] | None:
        columns = self._columns
        if columns is None or tup.fields == tuple(columns):
            return _adapted(tup.values)
        known = dict(zip(tup.fields, tup.values, strict=True))
        missing = [name for name in columns if name not in known]
        if not missing:
            return _adapted(known[name] for name in columns)
        self.fail(tup, f'table "{self.table}" wants the field "{missing[0]}", which this tuple has not', retry=False)
        return None

    def _make_table(self, tuples: Sequence[Tuple]) -> str:
        assert self._database is not None
        columns = self._columns = list(tuples[0].fields) if self._columns is None else self._columns
        unknown = [name for name in self.key if name not in columns]
        if unknown:
            known = ", ".join(columns)
            raise ConnectorError(f'the key "{unknown[0]}" is no column of "{self.table}"; they are {known}')
        table, names = quoted(self.table), [quoted(name) for name in columns]
        keys = ", ".join(quoted(name) for name in self.key)
        kinds = _kinds(columns, tuples)
        definitions = [f"{name} {kind}".rstrip() for name, kind in zip(names, kinds, strict=True)]
        if keys:
            definitions.append(f"PRIMARY KEY ({keys})")
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(definitions)})")
        marks = ", ".join("?" * len(names))
        insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
        if keys:
            rest = [name for name, column in zip(names, columns, strict=True) if column not in self.key]
            changes = ", ".join(f"{name} = excluded.{name}" for name in rest)
            insert += f" ON CONFLICT ({keys}) DO " + (f"UPDATE SET {changes}" if rest else "NOTHING")
        self._database.execute(f"EXPLAIN {insert}", (None,) * len(names))  # an old table that does not fit is told now
        return insert

    def _rollback(self) -> None:
        if self._database is not None and self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _failure(self, what: str, error: BaseException) -> ConnectorError:
        why = reason_of(error) if isinstance(error, OSError) else str(error)
        return ConnectorError(f'database "{self.path}" {what}: {why}')


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever is in it.

    Raises:
        ValueError: it is empty or holds a NUL, which SQLite's names cannot.

    Example:
        >>> quoted('say "hi"; DROP TABLE x')
        '"say ""hi""; DROP TABLE x"'
    """
    if not name or "\0" in name:
        raise ValueError(f"{name!r} cannot be a name in SQLite")
    return '"' + name.replace('"', '""') + '"'


def _kinds(columns: list[str], tuples: Sequence[Tuple]) -> list[str]:
    """The type of each column: that of its first value that is not None."""
    kinds = []
    for name in columns:
        values = (tup[name] for tup in tuples if name in tup.fields and tup[name] is not None)
        kinds.append(_TYPES.get(type(next(values, None)), ""))
    return kinds


def _adapted(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple([adapt(value) if (adapt := _ADAPTERS.get(type(value))) else value for value in values])


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
