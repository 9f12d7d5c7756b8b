"""Sources that read files: `FileSource`, what they all do, and `Lines`.

A spout's hooks, on its own thread. `open` finds the files, takes this task's share and goes to the position of the
earlier run; `next_tuple` emits up to `EMITS` records. The id and the position of a record are one tuple:

    (2, 7340, "logs/b.log", "1024:5c1f09aa")    file 2 of this task's order (see `order`), offset behind the record,
                                                the file's name, length and checksum of its first bytes (see `rows`)

Guarantees: a run that goes on from a position emits exactly the records behind it, also in .gz files, files that grew,
and with files that came later. A file that is gone is logged, one that was replaced stops the run, or is read from its
beginning with `on_change="reread"`. A record that is no good goes to the stream `malformed` if a bolt takes it, and
otherwise stops the run (`malformed="skip"` counts and logs it instead); never in silence.

Not here: following a file that others write to. A source ends at the end of its last file.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from rainband.component import Spout, TaskContext
from rainband.errors import ConnectorError

from .malformed import MALFORMED_FIELDS, Malformed, Policy
from .order import End, Order, Segment
from .paths import find_files, share_of
from .rows import Rows, canonical_encoding

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

__all__ = ["EMITS", "FileSource", "Lines"]

EMITS = 32  # records that one call of next_tuple emits at most: few enough that acks and replays are looked at often

Position: TypeAlias = tuple[int, int, str, str]


class FileSource(Spout):
    """What the file sources have in common; subclasses say what a record is.

    Args:
        path: a file, a folder, a glob (`**` crosses folders), or a list of these.
        encoding: of the files.
        errors: what to do with bytes that are not of that encoding: "strict" makes the record malformed; "replace",
            "ignore" and "backslashreplace" as in Python.
        pattern: which names a folder's files must have, as "*.log".
        exclude: names of files and folders that are left out of folders and globs.
        malformed: what becomes of a record that is no good: "auto" (to the stream `malformed` if a bolt takes it, else
            as "raise"), "raise" (the run stops), "skip" (counted as `malformed`, and logged).
        on_change: what to do with a file that was replaced since its position was stored: "error", or "reread" from
            the beginning.
    """

    streams: ClassVar[dict[str, list[str]]] = {"malformed": list(MALFORMED_FIELDS)}
    on_error: ClassVar[str] = "stop"  # what cannot be read now cannot be read at the next try either

    def __init__(
        self,
        path: Paths,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        pattern: str = "*",
        exclude: Iterable[str] = (),
        malformed: Policy = "auto",
        on_change: Literal["error", "reread"] = "error",
    ) -> None:
        if on_change not in {"error", "reread"}:
            raise ValueError(f'on_change is {on_change!r}; expected "error" or "reread"')
        self.path = path
        self.encoding = canonical_encoding(encoding, errors)
        self.errors = errors
        self.pattern = pattern
        self.exclude = exclude
        self.on_change = on_change
        self._malformed = Malformed(malformed)
        self._order = Order(None)
        self._next = 0
        self._rows: Rows | None = None
        self._records: Iterator[tuple[tuple[Any, ...], Position]] = iter(())
        self._error: BaseException | None = None

    def open(self, context: TaskContext, /) -> None:
        """Find the files and go to the position.

        Raises:
            ConnectorError: a file is missing or cannot be read, or the position does not fit any more.
        """
        self._log = context.logger
        self.fields = dict(context.streams.get("default") or _declared(type(self).outputs))
        self._set_fields()
        self._malformed.open(context, self.emit)
        found = find_files(self.path, pattern=self.pattern, exclude=self.exclude)
        tasks = max(1, len(context.tasks.get(context.component, ())))
        mine = share_of(found, context.task_index, tasks)
        home = context.state_dir and Path(context.state_dir) / f"files-{context.component}-{context.task_index}.jsonl"
        self._order = Order(home)
        self._found = frozenset(mine)
        position: Position | None = context.position
        if position is None:
            self._order.begin(mine)
        else:
            self._resume(mine, *position)

    def next_tuple(self) -> None:
        """Emit up to `EMITS` records; the end of the last file ends the task."""
        if self._error is not None:
            raise self._error  # a generator that raised looks exhausted, and the file would seem to have ended here
        emit, position = self.emit, None
        try:
            for values, position in islice(self._records, EMITS):
                emit(*values, id=position, position=position)
            if position is None and not self._open_next():
                self.end()
        except BaseException as error:
            self._error = error
            raise

    def close(self) -> None:
        """Close the file and log what was skipped."""
        if self._rows is not None:
            self._rows.close()
        self._order.close()
        self._malformed.close()

    # -- for subclasses --------------------------------------------------------------------------------------------

    def _set_fields(self) -> None:
        """Look at `self.fields` (name → type), which the wiring chose."""

    def _read(self, rows: Rows, index: int) -> Iterator[tuple[tuple[Any, ...], Position]]:
        """The records of one file from its offset on, with their positions."""
        raise NotImplementedError

    def _refuse(self, row: bytes | str, rows: Rows, start: int, position: Position, reason: str) -> None:
        """Let the policy decide about a record that is no good."""
        line = partial(rows.line_number, start)
        self._malformed.add(row, rows.path, start, line=line, reason=reason, position=position)

    # -- files -----------------------------------------------------------------------------------------------------

    def _resume(self, mine: list[str], index: int, offset: int, path: str, head: str) -> None:
        since = self._order.resume(mine, index, path)
        for each in since.unknown:
            text = 'it is not known how far file "%s" was read; if it grew since, what is new is not read'
            self._log.warning(text, each)
        for each in since.shorter:
            self._changed(ConnectorError(f'file "{each}" is shorter than when it was read'))
        self._order.add([Segment(each) for each in since.shorter])
        if not self._enter(since.at, offset, head):
            self._next = since.at + 1

    def _open_next(self) -> bool:
        """Go to the next file that is there; whether there is one."""
        if self._rows is not None:
            self._order.end(self._next - 1, End(self._rows.offset, self._rows.head, self._rows.size))
            self._rows.close()
            self._rows = None
        while self._next < len(self._order.segments):
            _, start, head = self._order.segments[self._next]
            if self._enter(self._next, start, head):
                return True
            self._next += 1
        return False

    def _enter(self, index: int, offset: int, head: str) -> bool:
        """Open the file of a segment and go to an offset; False if an earlier run knew it and it is gone."""
        path = self._order.segments[index].path
        if path not in self._found:
            text = 'file "%s" of the earlier run is gone, which was read up to byte %d; going on with the next'
            self._log.warning(text, path, offset)
            self._order.end(index, End(offset, head, 0))  # it may come back
            return False
        rows = Rows(path, self.encoding, self.errors)
        if offset:
            try:
                note = rows.resume(offset, head)
            except ConnectorError as error:
                rows.close()
                self._changed(error)
                rows = Rows(path, self.encoding, self.errors)
            else:
                if note:
                    self._log.warning("%s", note)
        self._next = index
        self._start(rows)
        return True

    def _changed(self, error: ConnectorError) -> None:
        if self.on_change == "error":
            raise ConnectorError(
                f'{error}; restore it, write on_change="reread", or give another state_dir to read everything again'
            ) from error
        self._log.warning("%s; reading it from its beginning", error)

    def _start(self, rows: Rows) -> None:
        self._rows = rows
        self._records = self._read(rows, self._next)
        self._next += 1


class Lines(FileSource):
    r"""Lines of text files, without their line ends.

    The fields are those of the wiring: `line` (or any one name), and if you like `path` and `number` (from 1). See
    `FileSource` for the arguments.

    Example:
        >>> import tempfile, pathlib
        >>> from functools import partial
        >>> from rainband.testing import SpoutHarness
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "book.txt"
        >>> _ = path.write_text("call me\nIshmael\n")
        >>> with SpoutHarness(partial(Lines, path)) as lines:
        ...     lines.run()
        ['call me', 'Ishmael']
    """

    outputs: ClassVar[dict[str, Any]] = {"line": str}
    _pairs: Iterator[tuple[bytes, int]]  # rows of the open file
    _at: int  # offset behind the last of them that was taken

    def _set_fields(self) -> None:
        names = list(self.fields)
        unknown = [name for name in names if name not in {"line", "path", "number"}]
        if unknown and len(names) > 1:
            raise ConnectorError(f'it has the field "{unknown[0]}"; Lines gives "line", "path" and "number"')
        self._names = ["line"] if unknown else names
        places = [("line", "path", "number").index(name) for name in self._names]
        # A slice where it is one field: for one place itemgetter gives the value itself and not a tuple.
        self._pick = itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1))

    def next_tuple(self) -> None:
        """Emit up to `EMITS` lines; the end of the last file ends the task."""
        rows, emit = self._rows, self.emit
        if rows is None or self._error is not None or self._names != ["line"]:
            super().next_tuple()
            return
        # The common case without a generator of ours between the rows and `emit`: 220 ns a line in place of 400.
        before = start = end = self._at
        index, path, head, encoding, errors = self._next - 1, rows.path, rows.head, rows.row_encoding, self.errors
        try:
            for row, end in islice(self._pairs, EMITS):
                position = (index, end, path, head)
                try:
                    line = str(row[:-1] if row[-1:] == b"\r" else row, encoding, errors)
                except UnicodeDecodeError as error:
                    self._refuse(row, rows, start, position, _why(error))
                else:
                    emit(line, id=position, position=position)
                start = end
            self._at = end
            if end == before and not self._open_next():
                self.end()
        except BaseException as error:
            self._error = error
            raise

    def _start(self, rows: Rows) -> None:
        super()._start(rows)
        self._pairs, self._at = iter(rows), rows.offset

    def _read(self, rows: Rows, index: int) -> Iterator[tuple[tuple[Any, ...], Position]]:
        encoding, errors, path, head = rows.row_encoding, self.errors, rows.path, rows.head
        start, pick = rows.offset, self._pick
        number = rows.line_number(start) if "number" in self._names else 0
        for row, end in rows:
            position = (index, end, path, head)
            try:
                line = str(row[:-1] if row[-1:] == b"\r" else row, encoding, errors)
            except UnicodeDecodeError as error:
                self._refuse(row, rows, start, position, _why(error))
            else:
                yield pick((line, path, number)), position
            start = end
            number += 1


def _why(error: UnicodeDecodeError) -> str:
    return f"not {error.encoding}: {error.reason} at its byte {error.start}"


def _declared(outputs: Any) -> dict[str, Any]:
    return dict(outputs) if hasattr(outputs, "keys") else dict.fromkeys(outputs, Any)
