r"""The rows of one file, as bytes, with the offset behind each; and how to go on at such an offset.

Called by `files`, on the spout's thread. A row ends at "\n" (left out of it, as in the last row, which may lack it).
Offsets count the bytes of the *content*: what a .gz unpacks to, and UTF-8 where the encoding has no newline byte of its
own (UTF-16, UTF-32, EBCDIC), which is converted on the way. Plain files are sought, others are read up to the offset.

    content  a \n b c \n d        rows (b"a", 2) (b"bc", 5) (b"d", 6)

`resume` tells a file that grew (go on) from one that was replaced (its first bytes differ, or it is shorter than the
offset). What changed further inside is not seen. If the last row had no "\n" and has one now, nothing was lost; if it
went on, it is read again as a whole, because half a row is worth nothing.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from rainband.errors import ConnectorError

from .paths import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Rows", "canonical_encoding"]

_BLOCK_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 1024  # what tells a file that grew from one that was replaced
MAX_ROW_BYTES: Final = 64 * 2**20  # a file without newlines must not fill the memory


def canonical_encoding(encoding: str, errors: str) -> str:
    """The name Python has for an encoding.

    Raises:
        ConnectorError: there is no such encoding, or no such way to treat errors.

    Example:
        >>> canonical_encoding("UTF8", "strict")
        'utf-8'
    """
    try:
        codecs.lookup_error(errors)
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise ConnectorError(f'{error}; write for example encoding="utf-8", errors="replace"') from None


@dataclass
class Rows:
    """One open file.

    Args:
        path: of the file.
        encoding: only says whether the content must be converted; rows are decoded by the caller.
        errors: for that conversion.

    Attributes:
        row_encoding: the encoding of the rows.
        offset: where iteration begins; when it is over, the length of the content.
        size: of the file when it was opened.
        head: length and checksum of the first bytes, for `resume` in a later run.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
        >>> _ = path.write_bytes(b"a" + bytes([10]) + b"bc")
        >>> rows = Rows(str(path))
        >>> list(rows)
        [(b'a', 2), (b'bc', 4)]
        >>> rows.close()
    """

    path: str
    encoding: str = "utf-8"
    errors: str = "strict"

    def __post_init__(self) -> None:
        self.offset = 0
        has_mark = self.encoding == "utf-8-sig"  # its codec is written in Python and slow; the mark is taken off here
        self.row_encoding = self.encoding if _has_newline_byte(self.encoding) and not has_mark else "utf-8"
        self._mark = codecs.BOM_UTF8 if has_mark else b""
        self._stream: BinaryIO = self._open()
        self.size = os.stat(self.path).st_size  # noqa: PTH116 - the path is text throughout
        self.head = _checksum(self._read_head())

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Rows from the offset on.

        Raises:
            ConnectorError: the file cannot be read on, or a row is too long.
        """
        read, end = self._stream.read, self.offset
        if self._mark and not end and self._peek() == self._mark:
            end = len(read(3))
        parts: list[bytes] = []
        held = 0
        while block := self._guard(read, _BLOCK_BYTES, end + held):
            rows = block.split(b"\n")
            parts.append(rows[0])
            if len(rows) == 1:
                held += len(block)
                if held > MAX_ROW_BYTES:
                    raise ConnectorError(
                        f'file "{self.path}" has no newline in the {held} bytes from byte {end} on; is it a text file?'
                    )
                continue
            rows[0] = b"".join(parts)
            parts = [rows.pop()]
            held = len(parts[0])
            for row in rows:
                end += len(row) + 1
                yield row, end
        self.offset = end + held
        if held:
            yield b"".join(parts), end + held

    def resume(self, offset: int, head: str) -> str:
        """Go on at an offset of an earlier run. Returns what is worth a log line, or nothing.

        Raises:
            ConnectorError: this is not the file of that run any more.
        """
        length = int(head.partition(":")[0])
        with self._open() as stream:
            if _checksum(self._guard(stream.read, length, 0)) != head:
                raise ConnectorError(f'file "{self.path}" begins otherwise than when it was read up to byte {offset}')
        self._skip(offset - 1)
        before = self._guard(self._stream.read, 1, offset - 1)
        if not before:
            raise ConnectorError(f'file "{self.path}" is shorter than the {offset} bytes that were read of it')
        self.offset = offset
        if before == b"\n":
            return ""
        return self._go_on_inside_row(offset)

    def line_number(self, offset: int) -> int:
        """Number of the row that begins at an offset, from 1; reads the file up to there."""
        with self._open() as stream:
            count, left = 1, offset
            while left > 0 and (block := self._guard(stream.read, min(left, _BLOCK_BYTES), offset - left)):
                count += block.count(b"\n")
                left -= len(block)
        return count

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _go_on_inside_row(self, offset: int) -> str:
        # The row before the offset was the file's last and had no newline.
        behind = self._guard(self._stream.read, 2, offset)
        self._reopen_at(offset)
        if not behind:
            return ""
        if behind[:1] == b"\n" or behind == b"\r\n":
            self._reopen_at(offset + behind.index(b"\n") + 1)
            return ""
        start = self._start_of_row(offset)
        self._reopen_at(start)
        return f'the last line of "{self.path}" was read before it was complete; it is read again from byte {start}'

    def _start_of_row(self, offset: int) -> int:
        start = at = 0
        with self._open() as stream:
            while at < offset and (block := self._guard(stream.read, min(offset - at, _BLOCK_BYTES), at)):
                start = at + found + 1 if (found := block.rfind(b"\n")) >= 0 else start
                at += len(block)
        return start

    def _reopen_at(self, offset: int) -> None:
        self._stream.close()
        self._stream = self._open()
        self._skip(offset)
        self.offset = offset

    def _skip(self, offset: int) -> None:
        if isinstance(self._stream, io.BufferedReader) and isinstance(self._stream.raw, io.FileIO):
            self._stream.seek(offset)
            return
        left = offset
        while left > 0 and (block := self._guard(self._stream.read, min(left, _BLOCK_BYTES), offset - left)):
            left -= len(block)

    def _peek(self) -> bytes:
        with self._open() as stream:
            return self._guard(stream.read, len(self._mark), 0)

    def _read_head(self) -> bytes:
        with self._open() as stream:
            return self._guard(stream.read, _HEAD_BYTES, 0)

    def _open(self) -> BinaryIO:
        try:
            with open(self.path, "rb") as probe:  # noqa: PTH123 - the path is text throughout
                is_packed = probe.read(2) == b"\x1f\x8b"
            stream = cast("BinaryIO", (gzip.open if is_packed else open)(self.path, "rb"))
        except OSError as error:
            raise ConnectorError(f'file "{self.path}" cannot be read: {reason_of(error)}') from error
        if not _has_newline_byte(self.encoding):
            return io.BufferedReader(_Converted(stream, self.encoding, self.errors, self.path), _BLOCK_BYTES)
        return stream

    def _guard(self, read: object, size: int, at: int) -> bytes:
        try:
            return cast("bytes", read(size))  # type: ignore[operator]
        except (OSError, EOFError, zlib.error) as error:
            why = reason_of(error) if isinstance(error, OSError) else str(error).lower().rstrip(".")
            text = f'file "{self.path}" cannot be read on from byte {at} of its content: {why}'
            raise ConnectorError(text) from error


class _Converted(io.RawIOBase):
    """A stream of another encoding, as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str, errors: str, path: str) -> None:
        super().__init__()
        self._stream, self._path, self._encoding = stream, path, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._ready = b""
        self._at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._at_end:
            block = self._stream.read(_BLOCK_BYTES)
            self._at_end = not block
            try:
                self._ready = self._decoder.decode(block, self._at_end).encode()
            except UnicodeDecodeError as error:
                text = f'file "{self._path}" is not {self._encoding}: {error.reason}'
                raise ConnectorError(f'{text}; give its encoding, or errors="replace"') from error
        taken = self._ready[: len(buffer)]
        buffer[: len(taken)] = taken
        self._ready = self._ready[len(taken) :]
        return len(taken)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _has_newline_byte(encoding: str) -> bool:
    return "\nx".encode(encoding)[-2:] == b"\nx"


def _checksum(head: bytes) -> str:
    return f"{len(head)}:{zlib.crc32(head):08x}"
