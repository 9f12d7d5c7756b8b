"""What a run keeps on disk: the lock of its state folder, positions of spouts, dead letters.

Off the tuple's path: `runtime` calls in here, positions on the timer thread, dead letters on the thread of the spout
task that gives a root up. A state folder belongs to one run at a time (`flock`, so a lock dies with its process and
never goes stale) and is made when something is first written to it, or at the start if the user named it.

Guarantees: a position is on disk, with its folder entry, when `save` returns, and a crash at any moment leaves the
old file or the new one; a dead letter is on disk when `append` returns; what cannot be read or written raises
`StateError` with the path. Nothing unreadable is ever taken for "no position": that would replay or skip a whole
source in silence.

Left out on purpose: several processes that write to a folder (workers ask the supervisor), and a journal of positions;
one small file replaced at most ten times a second is less to get wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import CodecError, StateError
from .exact import decode, encode_any, encoded_text, is_exact_json, safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "DEAD_LETTERS_FILE",
    "POSITIONS_FILE",
    "DeadLetterFile",
    "PositionStore",
    "StateFolder",
    "dead_letter_line",
]

POSITIONS_FILE: Final = "positions.json"
DEAD_LETTERS_FILE: Final = "dead_letters.jsonl"
_LOCK_FILE: Final = "lock"
_FORMAT: Final = "rainband positions 1"


class StateFolder:
    """The folder in which one run keeps its state; `take` makes it and locks it.

    Example:
        >>> import tempfile
        >>> folder = StateFolder(tempfile.mkdtemp())
        >>> folder.is_taken
        False
        >>> folder.take().is_dir(), folder.is_taken
        (True, True)
        >>> folder.release()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self._lock_fd: int | None = None
        self._guard = threading.Lock()

    @property
    def is_taken(self) -> bool:
        """Whether this object holds the lock now."""
        return self._lock_fd is not None

    def take(self) -> Path:
        """Make the folder, lock it for this run, and return its path; does nothing when it is held already.

        Raises:
            StateError: the folder cannot be made, or another run holds it.
        """
        with self._guard:
            if self._lock_fd is None:
                self._lock_fd = self._open_lock()
                _held.add(self)
            return self.path

    def _open_lock(self) -> int:
        lock_path = self.path / _LOCK_FILE
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f'state folder "{self.path}" cannot be used: {_reason(error)}; give another one as state_dir'
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise StateError(
                f'state folder "{self.path}" is in use by another run (process {holder}); '
                "two runs cannot share their positions: wait for it, or give this run its own state_dir"
            ) from None
        except OSError as error:
            os.close(fd)
            raise StateError(f'state folder "{self.path}" cannot be locked: {_reason(error)}') from error
        return fd

    def release(self, *, remove_if_empty: bool = False) -> None:
        """Give the lock back; with `remove_if_empty` also remove a folder that holds nothing but the lock."""
        with self._guard:
            fd, self._lock_fd = self._lock_fd, None
            if fd is None:
                return
            _held.discard(self)
            if remove_if_empty and not [p for p in self.path.iterdir() if p.name != _LOCK_FILE]:
                with contextlib.suppress(OSError):  # somebody put a file there meanwhile: then it stays
                    (self.path / _LOCK_FILE).unlink()
                    self.path.rmdir()
            os.close(fd)

    def _forget_after_fork(self) -> None:
        # The child shares the open file and with it the lock; without this it would keep the folder locked after the
        # parent's death. Closing the child's copy does not unlock the parent's.
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            os.close(fd)


_held: weakref.WeakSet[StateFolder] = weakref.WeakSet()


def _drop_locks_after_fork() -> None:
    for folder in list(_held):
        folder._forget_after_fork()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_drop_locks_after_fork)


class PositionStore:
    """The positions up to which each spout task's source is resolved, in one file of the state folder.

    `load` once, before the run; `save` from one thread (the timer's).

    Example:
        >>> import tempfile
        >>> folder = StateFolder(tempfile.mkdtemp())
        >>> store = PositionStore(folder)
        >>> store.save([("lines", 0, 2, ("book.txt", 118))])
        >>> again = PositionStore(folder)
        >>> again.load()
        >>> again.get("lines", 0, 2)
        ('book.txt', 118)
        >>> folder.release()
    """

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._path = folder.path / POSITIONS_FILE
        self._entries: dict[tuple[str, int], tuple[int, Any, Any]] = {}  # -> tasks, position, encoded position

    def __len__(self) -> int:
        return len(self._entries)

    def load(self) -> None:
        """Read what an earlier run with this folder left; a missing file means there was none.

        Raises:
            StateError: the file is there and cannot be read whole. It is never taken for an empty one.
        """
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateError(f'positions in "{self._path}" cannot be read: {_reason(error)}') from error
        try:
            self._entries = dict(_parse_entries(json.loads(text)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            detail = str(error) or type(error).__name__
            raise StateError(
                f'positions in "{self._path}" are damaged ({detail}); restore the file, '
                "or delete it to read every source from its beginning"
            ) from error

    def get(self, component: str, task_index: int, tasks: int) -> Any:
        """The stored position of a spout task, or None.

        Raises:
            StateError: the position was written by a run with another number of tasks, so that "task 0" may have meant
                another part of the source.
        """
        for (name, _), (stored_tasks, _, _) in self._entries.items():
            if name == component and stored_tasks != tasks:
                raise StateError(
                    f'spout "{component}" has {tasks} tasks, but "{self._path}" holds its positions as of '
                    f"{stored_tasks} tasks; run it with tasks={stored_tasks}, or delete the file to read every source "
                    "from its beginning"
                )
        entry = self._entries.get((component, task_index))
        return None if entry is None else entry[1]

    def save(self, items: Iterable[tuple[str, int, int, Any]]) -> None:
        """Add (component, task index, tasks, position) items to the file, durably; blocks for the disk.

        Raises:
            StateError: a position does not travel, so it could not come back as it was, or the disk refuses.
        """
        for component, task_index, tasks, position in items:
            try:
                encoded = encode_any(position)
            except CodecError as error:
                raise StateError(
                    f'spout "{component}" task index {task_index}: position cannot be stored: {error}'
                ) from error
            self._entries[component, task_index] = (tasks, position, encoded)
        document = {
            "format": _FORMAT,
            "positions": [
                {"component": name, "task_index": index, "tasks": tasks, "position": encoded}
                for (name, index), (tasks, _, encoded) in sorted(self._entries.items(), key=lambda entry: entry[0])
            ],
        }
        self._folder.take()
        try:
            _replace_file(self._path, json.dumps(document, indent=1).encode("ascii") + b"\n")
        except OSError as error:
            raise StateError(f'positions cannot be written to "{self._path}": {_reason(error)}') from error


def _parse_entries(document: Any) -> Iterable[tuple[tuple[str, int], tuple[int, Any, Any]]]:
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ValueError(f'the key "format" is not "{_FORMAT}"')
    for entry in document["positions"]:
        name, index, tasks, encoded = entry["component"], entry["task_index"], entry["tasks"], entry["position"]
        if type(name) is not str or type(index) is not int or type(tasks) is not int:
            raise ValueError(f"not an entry: {entry!r}")
        yield (name, index), (tasks, decode(encoded), encoded)


def _replace_file(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


class DeadLetterFile:
    """Tuples that nobody will try again, one JSON object a line; any thread may append.

    Each line has `component stream values id reason error attempts at` and `replayable`. A value or an `id` that JSON
    cannot say exactly stands there as its `repr`; then the bytes of all values are in `encoded`, those of the `id` in
    `encoded_id`, in base64. What the codec refuses has no bytes, and `replayable` is false.

    Example:
        >>> import tempfile
        >>> folder = StateFolder(tempfile.mkdtemp())
        >>> letters = DeadLetterFile(folder)
        >>> letters.append({"component": "lines", "stream": "default", "values": ("x",), "id": 7,
        ...                 "reason": "error", "error": "ValueError('x')", "attempts": 5})
        >>> letters.path.read_text()[:62]
        '{"component": "lines", "stream": "default", "values": ["x"], "'
        >>> letters.close(); folder.release()
    """

    def __init__(self, folder: StateFolder) -> None:
        self.path = folder.path / DEAD_LETTERS_FILE
        self.written = 0  # by this run
        self._folder = folder
        self._fd: int | None = None
        self._guard = threading.Lock()

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; it is on disk on return. Blocks for the disk.

        Raises:
            StateError: it could not be written; the file then ends where it ended before.
        """
        self.append_line(dead_letter_line(record))

    def append_line(self, line: bytes) -> None:
        """Write one record that is a line already, as `dead_letter_line` makes them.

        Raises:
            StateError: as `append`.
        """
        with self._guard:
            try:
                fd = self._open()
                end = os.lseek(fd, 0, os.SEEK_END)
                try:
                    _write_all(fd, line)
                    os.fsync(fd)
                except OSError:
                    with contextlib.suppress(OSError):  # a torn line is repaired by the next one who opens the file
                        os.ftruncate(fd, end)
                    raise
            except OSError as error:
                raise StateError(f'a dead letter cannot be written to "{self.path}": {_reason(error)}') from error
            self.written += 1

    def _open(self) -> int:
        if self._fd is None:
            self._folder.take()
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._fd = fd
            size = os.lseek(fd, 0, os.SEEK_END)
            if size and os.pread(fd, 1, size - 1) != b"\n":
                os.write(fd, b"\n")  # the run before this one died within a line
            _sync_folder(self.path.parent)
        return self._fd

    def close(self) -> None:
        """Close the file; a later `append` opens it again."""
        with self._guard:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)


def dead_letter_line(record: Mapping[str, Any]) -> bytes:
    """A dead letter as it stands in the file."""
    values = tuple(record.get("values") or ())
    exact = [is_exact_json(value) for value in values]
    identity = record.get("id")
    encoded = {} if all(exact) else {"encoded": _encoded(values)}
    if not is_exact_json(identity):
        encoded["encoded_id"] = _encoded(identity)
    line = {
        "component": record.get("component"),
        "stream": record.get("stream", "default"),
        "values": [value if ok else safe_repr(value) for value, ok in zip(values, exact, strict=True)],
        "id": safe_repr(identity) if "encoded_id" in encoded else identity,
        "reason": record.get("reason"),
        "error": record.get("error"),
        "attempts": record.get("attempts"),
        "at": _timestamp(record.get("at")),
        "replayable": None not in encoded.values(),
        **{key: text for key, text in encoded.items() if text is not None},
    }
    return json.dumps(line).encode("ascii") + b"\n"


def _encoded(value: Any) -> str | None:
    try:
        return encoded_text(value)
    except CodecError:
        return None


def _timestamp(at: Any) -> str:
    if isinstance(at, str):
        return at
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
