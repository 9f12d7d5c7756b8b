"""Which files a source reads, in which order, and which task reads which.

Off the tuple's path: called by `files` when a task opens. `find_files` turns what the user wrote (files, folders,
globs) into names; `share_of` divides them over the tasks by a hash of the name, so that a file that appears later moves
no other file to another task; `FileList` fixes the order of a task's files in its state folder. Without that list a
file that appears between two runs and sorts before the position would never be read:

    run 1 finds app-1.log app-2.log            order: app-1 app-2          position: (1, 7340, "app-2.log", …)
    run 2 finds app-1.log app-10.log app-2.log order: app-1 app-2 app-10   goes on in app-2, then reads app-10

Not here: watching folders. A source reads what it finds when it opens.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rainband.errors import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["FileList", "find_files", "reason_of", "share_of"]

_FORMAT: Final = "rainband files 1"


def find_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, pattern: str = "*", exclude: Iterable[str] = ()
) -> list[str]:
    """The readable files that `paths` names, each once, sorted within each folder or glob.

    Args:
        paths: a file, a folder (read with all folders below it), a glob (`**` crosses folders), or several of these.
        pattern: which names a folder's files must have.
        exclude: names of files and folders that are left out of folders and globs; hidden ones always are.

    Raises:
        ConnectorError: something is not there, cannot be read, is not a file, or matches nothing.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("b.log", "a.log", "notes.txt"):
        ...     _ = (folder / name).write_text("")
        >>> [pathlib.Path(path).name for path in find_files(folder, pattern="*.log")]
        ['a.log', 'b.log']
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise ConnectorError("the source has no paths; give it a file, a folder or a glob")
    excluded = [exclude] if isinstance(exclude, str) else list(exclude)
    found: dict[str, None] = {}
    for each in given:
        found.update(dict.fromkeys(_find(each, pattern, excluded)))
    for path in found:
        _check_readable(path)
    return list(found)


def _find(given: object, pattern: str, exclude: list[str]) -> Iterator[str]:
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else given
    if not isinstance(text, str) or not text:
        raise ConnectorError(f"a path of the source is {given!r}; expected text that is not empty")
    path = os.path.expanduser(text)  # noqa: PTH111 - Path would rewrite "./a" and the key of a position must not change
    if os.path.isdir(path):  # noqa: PTH112
        matches = _walk(path, pattern, exclude)
        nothing = f'folder "{path}" has no file that matches "{pattern}"'
    elif os.path.lexists(path) or not glob.has_magic(path):
        yield path
        return
    else:
        matches = sorted(p for p in glob.iglob(path, recursive=True) if _is_wanted(p, exclude))  # noqa: PTH207
        nothing = f'no file matches "{path}"'
    if not matches:
        raise ConnectorError(f"{nothing}; the working folder is {os.getcwd()}")  # noqa: PTH109
    yield from matches


def _walk(folder: str, pattern: str, exclude: list[str]) -> list[str]:
    def refuse(error: OSError) -> None:
        raise ConnectorError(f'folder "{error.filename}" cannot be read: {reason_of(error)}') from error

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_left_out(name, exclude)]
        wanted = [n for n in fnmatch.filter(names, pattern) if not _is_left_out(n, exclude)]
        found += [os.path.join(parent, name) for name in wanted]  # noqa: PTH118
    return sorted(path for path in found if os.path.isfile(path) or not os.path.exists(path))  # noqa: PTH110, PTH113


def _is_wanted(path: str, exclude: list[str]) -> bool:
    return not os.path.isdir(path) and not any(_is_left_out(part, exclude, hidden=False) for part in Path(path).parts)  # noqa: PTH112


def _is_left_out(name: str, exclude: list[str], *, hidden: bool = True) -> bool:
    return (hidden and name.startswith(".")) or any(fnmatch.fnmatchcase(name, mask) for mask in exclude)


def _check_readable(path: str) -> None:
    # Opened, not only looked at: on some file systems only the open tells. 10 µs a file.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConnectorError(f'file "{path}" cannot be read: {reason_of(error)}') from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConnectorError(
                f'"{path}" is not a regular file, so it has no positions; pipe it into rainband.connectors:stdin'
            )
    finally:
        os.close(fd)


def share_of(files: Iterable[str], task_index: int, tasks: int) -> list[str]:
    """The files that one of several tasks reads; every file belongs to exactly one.

    Example:
        >>> names = [f"{n}.log" for n in range(6)]
        >>> [share_of(names, task, 2) for task in (0, 1)]
        [['0.log', '4.log', '5.log'], ['1.log', '2.log', '3.log']]
    """
    if tasks == 1:
        return list(files)
    # Not crc32: its lowest bit is a sum of bits of the name and puts "0.log" to "9.log" all on one side of two.
    return [path for path in files if _hash(path) % tasks == task_index]


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest(), "big")


class FileList:
    """The order in which one task reads its files, kept from run to run.

    Example:
        >>> import tempfile, pathlib
        >>> home = pathlib.Path(tempfile.mkdtemp()) / "order.json"
        >>> FileList(home).start(["b", "d"])
        ['b', 'd']
        >>> FileList(home).resume(["a", "b", "d"])
        ['b', 'd', 'a']
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    def start(self, found: list[str]) -> list[str]:
        """Keep a new order.

        Raises:
            ConnectorError: the state folder cannot be written.
        """
        temporary = self.home.with_name(self.home.name + ".new")
        try:
            self.home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with temporary.open("w", encoding="ascii") as stream:
                json.dump({"format": _FORMAT, "files": found}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.home)
        except OSError as error:
            raise ConnectorError(f'the list of files cannot be kept in "{self.home}": {reason_of(error)}') from error
        return found

    def resume(self, found: list[str]) -> list[str]:
        """The kept order with what is new behind it. Files that are gone keep their place.

        Raises:
            ConnectorError: the list cannot be read, or the new one cannot be written.
        """
        try:
            document = json.loads(self.home.read_text(encoding="ascii"))
            if document["format"] != _FORMAT or not all(type(path) is str for path in document["files"]):
                raise ValueError(f"it is not a list of format {_FORMAT!r}")  # noqa: TRY301
            kept: list[str] = document["files"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = reason_of(error) if isinstance(error, OSError) else f"it is damaged ({error})"
            raise ConnectorError(
                f'the list of files in "{self.home}" cannot be read: {why}; it belongs to the position of the earlier '
                "run: restore it, or give another state_dir to read everything again"
            ) from error
        known = set(kept)
        new = [path for path in found if path not in known]
        return self.start(kept + new) if new else kept


def reason_of(error: OSError) -> str:
    """What the system said, in lower case.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory"))
        'no such file or directory'
    """
    return (error.strerror or str(error)).lower()
