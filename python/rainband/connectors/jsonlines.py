"""JSON Lines: `JsonLines` reads one JSON value a line, `JsonLinesSink` writes one object a tuple.

The first and the last stage of a tuple's path. Reading is `FileSource` (positions, malformed records) with JSON for
records; writing is `FileSink` (acked when written, torn tails) with JSON for lines. Strict in both directions: NaN and
Infinity are no JSON.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from uuid import UUID

from rainband.errors import ConnectorError

from .files import FileSource
from .sinks import FileSink
from .typed import checker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rainband._core import Tuple
    from rainband.component import TaskContext

    from .files import Paths, Position
    from .malformed import Policy
    from .rows import Rows

__all__ = ["JsonLines", "JsonLinesSink"]


class JsonLines(FileSource):
    r"""JSON objects, one a line; empty lines are passed over.

    Without outputs at the wiring each object is one value, the field `record`. With `outputs=["user", "amount"]` the
    keys of these names become fields. A line that is no JSON, lacks a key, or has a value of another type than the
    wiring declares is malformed.

    Args:
        path: a file, a folder, a glob, or a list of these; see `FileSource`, also for the other arguments.
        keys: field → key, for keys that are no field names: `keys={"at": "@timestamp"}`.
        optional: fields whose key may be missing; the value is then None.
        encoding: of the files; "utf-8-sig" passes over a byte order mark.
        errors: see `FileSource`, also for those below.
        pattern: which names a folder's files must have.
        exclude: names that are left out.
        malformed: what becomes of a line that is no good.
        on_change: what to do with a file that was replaced.

    Example:
        >>> import tempfile, pathlib
        >>> from functools import partial
        >>> from rainband.testing import SpoutHarness
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.jsonl"
        >>> _ = path.write_text('{"n": 1}\n{"n": 2}\n')
        >>> with SpoutHarness(partial(JsonLines, path), outputs=["n"]) as source:
        ...     source.run()
        [1, 2]
    """

    outputs: ClassVar[list[str]] = ["record"]

    def __init__(
        self,
        path: Paths,
        *,
        keys: Mapping[str, str] | None = None,
        optional: Iterable[str] = (),
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
        self._keys = dict(keys or {})
        self._optional = {optional} if isinstance(optional, str) else set(optional)

    def _set_fields(self) -> None:
        unknown = [name for name in (*self._keys, *self._optional) if name not in self.fields]
        if unknown:
            raise ConnectorError(f'it has no field "{unknown[0]}"; its fields are {", ".join(self.fields)}')
        self._is_whole = list(self.fields) == ["record"] and not self._keys
        self._plan = [
            (name, self._keys.get(name, name), name in self._optional, checker(kind), kind)
            for name, kind in self.fields.items()
        ]

    def _read(self, rows: Rows, index: int) -> Iterator[tuple[tuple[Any, ...], Position]]:
        decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
        encoding, errors, path, head = rows.row_encoding, self.errors, rows.path, rows.head
        start = rows.offset
        for row, end in rows:
            position = (index, end, path, head)
            try:
                text = str(row, encoding, errors)
                if text and not text.isspace():
                    record = decode(text)
                    yield (record,) if self._is_whole else self._take(record), position
            except (ValueError, RecursionError) as error:
                self._refuse(row, rows, start, position, _why(error))
            start = end

    def _take(self, record: Any) -> tuple[Any, ...]:
        if type(record) is not dict:
            raise _MisshapenError(f"expected an object, got {_kind(record)}")
        values = []
        for name, key, is_optional, is_right, kind in self._plan:
            value = record.get(key, _MISSING)
            if value is _MISSING:
                if not is_optional:
                    raise _MisshapenError(f'it has no key "{key}"')
                value = None
            elif is_right is not None and not is_right(value) and not (is_optional and value is None):
                raise _MisshapenError(f'field "{name}": expected {kind.__name__}, got {_kind(value)}')
            values.append(value)
        return tuple(values)


class JsonLinesSink(FileSink):
    r"""Appends one JSON object a tuple to a file, fields as keys; `FileSink` has the arguments and what is promised.

    A value that JSON cannot say exactly (bytes, NaN, objects of the user) sends its tuple to the dead letters; dates,
    times, UUIDs and paths are written as text.

    Example:
        >>> import tempfile, pathlib
        >>> from functools import partial
        >>> from rainband.testing import BoltHarness
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "out.jsonl"
        >>> with BoltHarness(partial(JsonLinesSink, path)) as sink:
        ...     _ = sink.process(word="a", n=1)
        ...     sink.flush()
        >>> path.read_text()
        '{"word": "a", "n": 1}\n'
    """

    def prepare(self, context: TaskContext, /) -> None:
        """Open the file; see `FileSink.prepare`."""
        self._encode: Callable[[Any], str] = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, default=_as_text
        ).encode
        super().prepare(context)

    def encode(self, tup: Tuple, /) -> bytes:
        """The line of one tuple."""
        return self._encode(dict(zip(tup.fields, tup.values, strict=True))).encode() + b"\n"


class _MisshapenError(ValueError):
    """JSON, but not of the shape that was asked for."""


_MISSING: Any = object()


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg.lower()} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding}: {error.reason} at its byte {error.start}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return str(error)


def _refuse_constant(name: str) -> Any:
    raise _MisshapenError(f"not JSON: {name} is no JSON number")


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", type(None): "null"}.get(type(value), repr(value)[:40])


def _as_text(value: Any) -> str:
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, UUID | PurePath):
        return str(value)
    raise TypeError(f"JSON cannot say a {type(value).__name__}; make it text or a number before the sink")
