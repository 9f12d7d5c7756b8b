r"""CSV: `CsvRows` reads rows of files with a header or without, `CsvSink` writes a row a tuple.

The first and the last stage of a tuple's path. Reading is `FileSource` (positions, malformed records) with the
standard library's strict parser over its rows. A record may span several lines (a quoted "\n"); its position is the
offset behind its last line, and the parser never looks further than that, so a run goes on exactly behind a record.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rainband.errors import ConnectorError

from .files import FileSource
from .rows import Rows
from .sinks import FileSink, text_of
from .typed import converter

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rainband._core import Tuple

    from .files import Paths, Position
    from .malformed import Policy

__all__ = ["CsvRows", "CsvSink"]


class CsvRows(FileSource):
    r"""Rows of CSV files.

    Without outputs at the wiring each row is one value, the field `row`: a dict of the header's columns. With
    `outputs=["user", "amount"]` the columns of these names become fields, in any order; with `outputs={"amount":
    float}` their text is converted. A row that has more or fewer columns than the header, cannot be parsed, or has
    text that cannot be converted is malformed.

    Args:
        path: a file, a folder, a glob, or a list of these; see `FileSource`, also for the other arguments.
        header: whether the first row of each file names its columns; without it the outputs are all columns, in order.
        columns: field → column, for columns whose names are no field names: `columns={"at": "Time Stamp"}`.
        delimiter: one character.
        quote: one character.
        empty_as_none: emit None in place of empty text; for fields of a type that has no empty text.
        encoding: of the files; "utf-8-sig" passes over a byte order mark.
        errors: see `FileSource`, also for those below.
        pattern: which names a folder's files must have.
        exclude: names that are left out.
        malformed: what becomes of a row that is no good.
        on_change: what to do with a file that was replaced.

    Raises:
        ConnectorError: when a file is opened that lacks a column.

    Example:
        >>> import tempfile, pathlib
        >>> from functools import partial
        >>> from rainband.testing import SpoutHarness
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text('user,amount\nann,1.5\nbob,2\n')
        >>> with SpoutHarness(partial(CsvRows, path), outputs={"amount": float, "user": str}) as source:
        ...     source.run()
        [(1.5, 'ann'), (2.0, 'bob')]
    """

    outputs: ClassVar[list[str]] = ["row"]

    def __init__(
        self,
        path: Paths,
        *,
        header: bool = True,
        columns: Mapping[str, str] | None = None,
        delimiter: str = ",",
        quote: str = '"',
        empty_as_none: bool = False,
        encoding: str = "utf-8-sig",
        errors: str = "strict",
        pattern: str = "*",
        exclude: Iterable[str] = (),
        malformed: Policy = "auto",
        on_change: Literal["error", "reread"] = "error",
    ) -> None:
        super().__init__(
            path,
            encoding=encoding,
            errors=errors,
            pattern=pattern,
            exclude=exclude,
            malformed=malformed,
            on_change=on_change,
        )
        self._has_header = header
        self._columns = dict(columns or {})
        self._empty_as_none = empty_as_none
        self._format: dict[str, Any] = {"delimiter": delimiter, "quotechar": quote, "strict": True}
        csv.reader([], **self._format)  # a bad delimiter is told here, with the parser's own words

    def _set_fields(self) -> None:
        unknown = [name for name in self._columns if name not in self.fields]
        if unknown:
            raise ConnectorError(f'it has no field "{unknown[0]}"; its fields are {", ".join(self.fields)}')
        self._is_whole = self._has_header and list(self.fields) == ["row"] and not self._columns
        self._converters = [
            (n, name, convert) for n, (name, kind) in enumerate(self.fields.items()) if (convert := converter(kind))
        ]

    def _read(self, rows: Rows, index: int) -> Iterator[tuple[tuple[Any, ...], Position]]:
        lines = _Lines(rows, self.errors)
        parser = csv.reader(lines, **self._format)
        names = self._header(rows, parser)
        if not names:
            return  # an empty file has no header and no rows
        width = len(names)
        places = None if self._is_whole else self._places(rows.path, names)
        path, head = rows.path, rows.head
        while True:
            start, lines.taken = lines.end, []
            try:
                cells = next(parser)
                if not cells:
                    continue  # an empty line
                if len(cells) != width:
                    raise ValueError(f"{len(cells)} columns, expected {width}")  # noqa: TRY301
                values = (dict(zip(names, cells, strict=True)),) if places is None else self._take(cells, places)
            except StopIteration:
                return
            except (csv.Error, ValueError) as error:
                self._refuse("".join(lines.taken), rows, start, (index, lines.end, path, head), _why(error))
            else:
                yield values, (index, lines.end, path, head)

    def _take(self, cells: list[str], places: list[int]) -> tuple[Any, ...]:
        values: list[Any] = [cells[place] for place in places]
        if self._empty_as_none:
            values = [value or None for value in values]
        for n, name, convert in self._converters:
            if values[n] is not None:
                try:
                    values[n] = convert(values[n])
                except (ValueError, ArithmeticError) as error:
                    kind = self.fields[name].__name__
                    raise ValueError(f'field "{name}": expected {kind}, got {values[n]!r}') from error
        return tuple(values)

    def _header(self, rows: Rows, parser: Iterator[list[str]]) -> list[str]:
        if not self._has_header:
            return list(self.fields)
        if not rows.offset:
            names = _first(parser, rows.path)
        else:  # the position is behind the header
            again = Rows(rows.path, self.encoding, self.errors)
            names = _first(csv.reader(_Lines(again, self.errors), **self._format), rows.path)
            again.close()
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ConnectorError(f'file "{rows.path}" has two columns "{twice[0]}"; rename one')
        return names

    def _places(self, path: str, names: list[str]) -> list[int]:
        wanted = [self._columns.get(field, field) for field in self.fields] if self._has_header else names
        missing = [column for column in wanted if column not in names]
        if missing:
            raise ConnectorError(f'file "{path}" has no column "{missing[0]}"; it has {", ".join(names)}')
        return [names.index(column) for column in wanted]


class CsvSink(FileSink):
    r"""Appends a row a tuple to a CSV file; see `FileSink` for the arguments and what is promised.

    A file that is empty begins with a header of the field names; one that is not must have that header.

    Args:
        path: of the file; with several tasks it must hold `{task}`.
        sync: ack only after the batch is on disk.
        columns: which fields, in which order; those of the first tuple if not given.
        header: whether the file has a header.
        delimiter: one character.

    Example:
        >>> import tempfile, pathlib
        >>> from functools import partial
        >>> from rainband.testing import BoltHarness
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "out.csv"
        >>> with BoltHarness(partial(CsvSink, path)) as sink:
        ...     _ = sink.process(word="a", n=1)
        ...     sink.flush()
        >>> path.read_text()
        'word,n\na,1\n'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: bool = False,
        columns: Sequence[str] | None = None,
        header: bool = True,
        delimiter: str = ",",
    ) -> None:
        super().__init__(path, sync=sync)
        self._columns = None if columns is None else list(columns)
        self._has_header = header
        self._delimiter = delimiter
        self._text = io.StringIO(newline="")
        self._write_row: Callable[[Iterable[Any]], object] = csv.writer(
            self._text, delimiter=delimiter, lineterminator="\n"
        ).writerow

    def encode(self, tup: Tuple, /) -> bytes:
        """The row of one tuple."""
        columns = self._columns
        if columns is None or tup.fields == tuple(columns):
            return self._row([text_of(value) for value in tup.values])
        known = dict(zip(tup.fields, tup.values, strict=True))
        if missing := [name for name in columns if name not in known]:
            raise ValueError(f'it has no field "{missing[0]}"; the columns are {", ".join(columns)}')
        return self._row([text_of(known[name]) for name in columns])

    def process_batch(self, tuples: Sequence[Tuple], /) -> None:
        """Write one batch; see `FileSink.process_batch`."""
        if self._columns is None:
            self._columns = list(tuples[0].fields)
        super().process_batch(tuples)

    def head(self) -> bytes:
        """The header."""
        return self._row(self._columns or ()) if self._has_header else b""

    def check_head(self, line: bytes, /) -> None:
        """Refuse a file with another header.

        Raises:
            ConnectorError: its columns would not fit.
        """
        expected = self.head().rstrip(b"\n")
        if self._has_header and line.rstrip(b"\r") != expected:
            raise ConnectorError(
                f'"{self.path}" begins with {line[:60].decode(errors="replace")!r}, expected the header '
                f"{expected.decode()!r}; move the file away, or give columns= as in it"
            )

    def _row(self, cells: Iterable[Any]) -> bytes:
        self._text.seek(0)
        self._text.truncate()
        self._write_row(cells)
        return self._text.getvalue().encode()


class _Lines:
    """Lines for the parser, and the offset behind the last one it took."""

    def __init__(self, rows: Rows, errors: str) -> None:
        self._rows = iter(rows)
        self._encoding, self._errors = rows.row_encoding, errors
        self.end = rows.offset
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        row, self.end = next(self._rows)
        try:
            line = str(row, self._encoding, self._errors) + "\n"
        except UnicodeDecodeError:
            self.taken.append(str(row, self._encoding, "backslashreplace"))
            raise
        self.taken.append(line)
        return line


def _first(parser: Iterator[list[str]], path: str) -> list[str]:
    try:
        return next(parser)
    except StopIteration:
        return []
    except (csv.Error, ValueError) as error:
        raise ConnectorError(f'file "{path}": its header cannot be read: {_why(error)}') from error


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding}: {error.reason} at its byte {error.start}"
    return str(error)
