"""`FileSink`: what the sinks that append lines to a file have in common.

The last stage of a tuple's path, a `BatchBolt`, on its own thread. A batch is one write; its tuples are acked after
it (with `sync=True` after it is on disk). When the write fails the file is cut back to where the batch began, the
batch fails, and the run stops (`on_error`): what was acked stands in the file whole and once, the rest comes again in
the next run. A process that dies within a write leaves a torn last line, whose tuple was never acked; the next run
moves it to `<path>.torn`, so that a file which only lacks its last newline loses nothing either.

A tuple that comes again after its batch was written (its ack was lost, or another bolt failed its root) is written
again: at least once. For exactly once write to a table with a key, see `SqliteSink`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any

from rainband.component import BatchBolt, TaskContext
from rainband.errors import ConnectorError

from .paths import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from logging import Logger

    from rainband._core import Tuple

__all__ = ["FileSink"]

_TAIL_BYTES = 64 * 1024


class FileSink(BatchBolt):
    """Appends to a file; a file that was moved away (log rotation) is made anew.

    Args:
        path: of the file; with several tasks it must hold `{task}`, so that each has its own.
        sync: ack only after the operating system has the batch on disk, so that it outlives a power cut.
    """

    on_error = "stop"

    def __init__(self, path: str | os.PathLike[str], *, sync: bool = False) -> None:
        self.path = os.fspath(path)
        self.sync = sync
        self._fd = -1
        self._is_begun = False  # whether the head of the open file was written or looked at
        self._torn_at: int | None = None  # where an unfinished batch begins

    def prepare(self, context: TaskContext, /) -> None:
        """Open the file, and move a torn last line away.

        Raises:
            ConnectorError: it cannot be opened, several tasks would share it, or its end has no newline.
        """
        self._log: Logger = context.logger
        if len(context.tasks.get(context.component, ())) > 1 and "{task}" not in self.path:
            raise ConnectorError(
                f'its tasks cannot share "{self.path}"; write {{task}} in the path, as out-{{task}}.txt'
            )
        self.path = self.path.replace("{task}", str(context.task_index))
        self._open()

    def process_batch(self, tuples: Sequence[Tuple], /) -> None:
        """Write one batch.

        Raises:
            ConnectorError: the file cannot be written.
        """
        lines = []
        for tup in tuples:
            try:
                lines.append(self.encode(tup))
            except (ValueError, TypeError, RecursionError) as error:
                self.fail(tup, f'"{self.path}" cannot take this tuple: {error}', retry=False)
        if lines:
            self._write(b"".join(lines), len(lines))

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- for subclasses --------------------------------------------------------------------------------------------

    def encode(self, tup: Tuple, /) -> bytes:
        """The line of one tuple, with its newline. ValueError and TypeError send the tuple to the dead letters."""
        raise NotImplementedError

    def head(self) -> bytes:
        """What an empty file begins with, before the first line."""
        return b""

    def check_head(self, line: bytes, /) -> None:
        """Look at the first line, without its newline, of a file that was not empty when it was opened."""

    # -- the file --------------------------------------------------------------------------------------------------

    def _write(self, data: bytes, lines: int) -> None:
        try:
            if not self._is_same_file():
                self.close()
                self._open()
            self._cut()
            self._torn_at = os.fstat(self._fd).st_size
            if not self._is_begun:
                data = self._begin() + data
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            if self.sync:
                os.fsync(self._fd)
            self._is_begun = True
            self._torn_at = None
        except OSError as error:
            with contextlib.suppress(OSError):  # tried again before the next write, or by the next run
                self._cut()
            raise ConnectorError(
                f'writing {len(data)} bytes to "{self.path}" failed: {reason_of(error)}; '
                f"nothing of the batch of {lines} is acked, it comes again"
            ) from error

    def _begin(self) -> bytes:
        if not self._torn_at:
            return self.head()
        self.check_head(os.pread(self._fd, _TAIL_BYTES, 0).partition(b"\n")[0])
        return b""

    def _cut(self) -> None:
        if self._torn_at is not None:
            if self._is_regular:
                os.ftruncate(self._fd, self._torn_at)
            self._torn_at = None

    def _is_same_file(self) -> bool:
        try:
            now, then = os.stat(self.path), os.fstat(self._fd)  # noqa: PTH116
        except FileNotFoundError:
            return False
        return (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)

    def _open(self) -> None:
        try:
            self._fd = self._open_fd()
            self._is_begun = False
            self._is_regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
            if self._is_regular:
                self._lock()
                # The size of now: who held the lock until now may have written.
                self._repair(os.fstat(self._fd).st_size)
        except OSError as error:
            raise ConnectorError(f'"{self.path}" cannot be opened for writing: {reason_of(error)}') from error

    def _open_fd(self) -> int:
        flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(self.path).st_mode):  # noqa: PTH116
                # A pipe that is also open for reading would hide that its reader is gone.
                return os.open(self.path, flags | os.O_WRONLY)
        return os.open(self.path, flags | os.O_RDWR, 0o644)

    def _lock(self) -> None:
        # Two that write one file would cut off each other's lines after a failed write. A file system without locks
        # has to be trusted.
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ConnectorError(
                f'"{self.path}" is written by another sink or another run; give each its own file'
            ) from None
        except OSError as error:
            self._log.debug('"%s" cannot be locked: %s', self.path, reason_of(error))

    def _repair(self, size: int) -> None:
        if not size:
            return
        offset = max(0, size - _TAIL_BYTES)
        tail = os.pread(self._fd, _TAIL_BYTES, offset)
        if tail.endswith(b"\n"):
            return
        start = tail.rfind(b"\n") + 1
        if offset and not start:
            raise ConnectorError(
                f'"{self.path}" has no newline in its last {_TAIL_BYTES} bytes; is it the right file? move it away'
            )
        torn, aside = tail[start:], f"{self.path}.torn"
        with open(aside, "ab") as stream:  # noqa: PTH123 - the path is text throughout
            stream.write(torn + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.ftruncate(self._fd, offset + start)
        self._log.warning('"%s": its last line had no end; its %d bytes are in "%s" now', self.path, len(torn), aside)


def text_of(value: Any) -> str:
    """A value as a line of text shows it.

    Example:
        >>> text_of(None), text_of(1.5), text_of("a")
        ('', '1.5', 'a')
    """
    return "" if value is None else str(value)
