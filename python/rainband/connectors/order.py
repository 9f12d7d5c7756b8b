"""In which order a task reads its files, kept in its state folder from run to run.

Off the tuple's path: called by `files` when a task opens and at the end of each file. A position is a place in this
order, so the order may only get longer. It is a list of segments, a file and where to begin in it; what a later run
finds new, files that appeared and files that grew after they were read, comes behind what was there:

    run 1 finds app.log (7 kB), sys.log (2 kB)   0 app.log from 0    1 sys.log from 0
    it reads both to their ends, both grow, and x.log appears
    run 2 goes on in segment 1 at 2 kB           2 app.log from 7 kB    3 x.log from 0

With names alone for an order, the new lines of app.log would never be read, nor a file that sorts before the position.

The file is a journal, a JSON list a line: what it is, the segments, and the end of each file that was read. Segments
are on disk before they are read; ends are left to the system to write (1,800 files in 2 s would mean 1,800 waits for
the disk), so after a power cut an end may be missing: then it is logged that nobody knows whether that file grew.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from rainband.errors import ConnectorError

from .paths import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Order", "Segment", "Since"]

_FORMAT: Final = "rainband files 2"


class Segment(NamedTuple):
    """A file and where to begin in it; `head` as in `rows`, empty for a beginning at 0."""

    path: str
    start: int = 0
    head: str = ""


class End(NamedTuple):
    """How far a segment was read, and how large the file was when it was opened."""

    offset: int
    head: str
    size: int


class Since(NamedTuple):
    """The segment to go on in, files that are shorter than when they were read, and files with unknown ends."""

    at: int
    shorter: list[str]
    unknown: list[str]


class Order:
    """The segments of one task.

    Attributes:
        segments: in the order of reading.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in "bd":
        ...     _ = (folder / name).write_text("x")
        >>> order = Order(folder / "order")
        >>> order.begin([f"{folder}/b", f"{folder}/d"])
        >>> order.end(0, End(1, "1:00000000", 1))
        >>> order.close()
        >>> _ = (folder / "b").write_text("xyz"), (folder / "a").write_text("x")
        >>> again = Order(folder / "order")
        >>> again.resume([f"{folder}/{name}" for name in "abd"], 1, f"{folder}/d")
        Since(at=1, shorter=[], unknown=[])
        >>> [(segment.path[-1], segment.start) for segment in again.segments]
        [('b', 0), ('d', 0), ('a', 0), ('b', 1)]
        >>> again.close()
    """

    def __init__(self, home: Path | None) -> None:
        self.segments: list[Segment] = []
        self._home = home
        self._fd = -1

    def begin(self, found: Iterable[str]) -> None:
        """Begin a new order.

        Raises:
            ConnectorError: the state folder cannot be written.
        """
        self.segments = [Segment(path) for path in found]
        if self._home is None:
            return
        temporary = self._home.with_name(self._home.name + ".new")
        try:
            self._home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._write([[_FORMAT], *_added(self.segments)], sync=True)
            temporary.replace(self._home)
        except OSError as error:
            raise self._failure(error) from error

    def resume(self, found: list[str], index: int, path: str) -> Since:
        """Take up the order of an earlier run, whose position is in segment `index`, a part of `path`.

        Raises:
            ConnectorError: the order cannot be read or does not fit the position.
        """
        if self._home is None:  # a harness: the order of the names is all there is
            self.segments = [Segment(each) for each in sorted({*found, path})]
            return Since([segment.path for segment in self.segments].index(path), [], [])
        ends = self._load()
        if index >= len(self.segments) or self.segments[index].path != path:
            self.close()
            raise ConnectorError(
                f'the position of the earlier run is in "{path}", which is not file {index} of "{self._home}"; '
                "give another state_dir to read everything again"
            )
        last = {segment.path: n for n, segment in enumerate(self.segments)}
        new, since = [], Since(index, [], [])
        for each in found:
            n = last.get(each)
            if n is None:
                new.append(Segment(each))
            elif n < index:
                new += self._grown(each, ends.get(n), since)
        self.add(new)
        return since

    def add(self, segments: list[Segment]) -> None:
        """Put segments behind the others.

        Raises:
            ConnectorError: the state folder cannot be written.
        """
        self.segments += segments
        if segments and self._home is not None:
            try:
                self._write(_added(segments), sync=True)
            except OSError as error:
                raise self._failure(error) from error

    def end(self, index: int, end: End) -> None:
        """Note how far a segment was read.

        Raises:
            ConnectorError: the state folder cannot be written.
        """
        if self._home is not None:
            try:
                self._write([["end", index, *end]], sync=False)
            except OSError as error:
                raise self._failure(error) from error

    def close(self) -> None:
        """Close the journal."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _grown(self, path: str, end: End | None, since: Since) -> list[Segment]:
        if end is None:
            since.unknown.append(path)
            return []
        size = os.stat(path).st_size  # noqa: PTH116 - found a moment ago
        if size < end.size:
            since.shorter.append(path)
        return [Segment(path, end.offset, end.head if end.offset else "")] if size > end.size else []

    def _load(self) -> dict[int, End]:
        assert self._home is not None
        ends: dict[int, End] = {}
        try:
            self._fd = os.open(self._home, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            lines = self._home.read_bytes().splitlines(keepends=True)
            if lines and not lines[-1].endswith(b"\n"):
                os.ftruncate(self._fd, sum(map(len, lines[:-1])))  # the run before died within a line
                del lines[-1]
            for n, line in enumerate(lines):
                kind, *rest = json.loads(line)
                if not n and kind != _FORMAT:
                    raise ValueError(f"it is not of the format {_FORMAT!r}")  # noqa: TRY301
                if kind == "read":
                    self.segments.append(Segment(*rest))
                elif kind == "end":
                    ends[rest[0]] = End(*rest[1:])
        except (OSError, ValueError, TypeError, IndexError) as error:
            self.close()
            why = reason_of(error) if isinstance(error, OSError) else f"it is damaged ({error})"
            raise ConnectorError(
                f'the order of files in "{self._home}" cannot be read: {why}; it belongs to the position of the '
                "earlier run: restore it, or give another state_dir to read everything again"
            ) from error
        return ends

    def _write(self, lines: list[list[object]], *, sync: bool) -> None:
        os.write(self._fd, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        if sync:
            os.fsync(self._fd)

    def _failure(self, error: OSError) -> ConnectorError:
        return ConnectorError(f'the order of files cannot be kept in "{self._home}": {reason_of(error)}')


def _added(segments: list[Segment]) -> list[list[object]]:
    return [["read", *segment] for segment in segments]
